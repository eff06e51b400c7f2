"""Gradients of a layer's matrices as ops, or of the adapters on them.

As ``compiler.training.gradients.linear`` computes them: dW = dyᵀ·x of a whole matrix; of an adapter
T = x·Aᵀ, U = dy·B, then dB = s dyᵀ·T and dA = s Uᵀ·x. Of adapters beside their matrices T is there
since the forward pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from compiler.lowering.ops import Product
from compiler.lowering.values import Form, Value, View
from compiler.program.epilogue import Epilogue
from compiler.training.description import LowRank
from compiler.training.gradients.weights import INNER_LOG2, lora_names
from compiler.training.programs.beside import BesideTracer
from compiler.training.programs.context import Context
from compiler.training.programs.weave import Part, product_part

__all__ = ["LinearGradients"]

Found = list[tuple[str, View]]


@dataclass
class LinearGradients:
    """Of layer ``name``, whose parts ``trained`` are trained by the method of ``ctx.training``.

    ``site``: what parts that read the same are called together.
    """

    ctx: Context
    name: str
    trained: Sequence[str]
    _inner: dict[str, Value] = field(default_factory=dict)
    _waiting: list[Callable[[], None]] | None = field(default_factory=list)

    def inner(self, parts: Sequence[str], x: Value, site: str) -> list[Part]:
        """T of those of ``parts`` that have adapters, which read ``x``: it waits for no gradient,
        and ``ready`` is to follow it."""
        ctx, method = self.ctx, self.ctx.training.method
        found = [part for part in parts if part in self.trained]
        if not found or not isinstance(method, LowRank) or self.ctx.beside:
            return []
        inner = self._inner[site] = ctx.trace.value(
            f"{site} T", x.rows, method.rank * len(found), forms=(Form.STORED,))

        def rows(*own: int) -> None:
            given = x.whole.row_block(*own)
            for group, (_, column, _, width) in self._at_once(found, x.rows, method.rank):
                out = inner.whole.block(own[0], column, own[1], width)
                ctx.trace.gemm([Product(given, ctx.in_layout(ctx.trained, *group), out)], out)

        return [product_part(ctx.config, x.rows, x.columns, inner.columns, rows)]

    def ready(self) -> None:
        """T is there: gradients that wait for it may come."""
        if self._waiting:
            self.ctx.later(*self._waiting)
        self._waiting = None

    def gradients(self, parts: Sequence[str], x: Value, gradients: Sequence[View], site: str,
                  before: str) -> None:
        """Those of ``parts`` that are trained, which read ``x``, of their outputs' ``gradients`` in
        the scale of ``before``. Nothing waits for them: they may come later."""
        found = [(part, d) for part, d in zip(parts, gradients, strict=True)
                 if part in self.trained]
        if not found:
            return
        self.ctx.catch_up()
        method = self.ctx.training.method
        if self.ctx.beside:
            self._beside(found, x, before)
        elif isinstance(method, LowRank):
            self._adapters(method, found, x, site, before)
        else:
            self.ctx.later(lambda: self._matrices(found, x, before))

    @property
    def _share(self) -> float:
        return self.ctx.training.micro / self.ctx.training.batch

    def _matrices(self, found: Found, x: Value, before: str) -> None:
        names = [f"{self.name}.{part}.weight" for part, _ in found]
        factor = self.ctx.factors.factor(self._share, "", before)
        joined = _side_by_side([d for _, d in found])
        if joined is not None and self.ctx.layout.adjacent(names):
            self.ctx.gradient(names, joined, x.whole, factor)
            return
        for name, (_, d) in zip(names, found, strict=True):
            self.ctx.gradient([name], d, x.whole, factor)

    def _adapters(self, method: LowRank, found: Found, x: Value, site: str, before: str) -> None:
        ctx, rank, factor = self.ctx, method.rank, self.ctx.factors.factor
        inward = ctx.site(f"{site} U", x.rows, rank * len(found))
        to_inward = factor(1.0, inward.name, before)
        every_b = [lora_names(f"{self.name}.{part}")[1] for part, _ in found]
        columns = [(0, rank * index, x.rows, rank) for index in range(len(found))]
        for b, (_, d), place in zip(every_b, found, columns, strict=True):
            out = inward.whole.block(*place)
            ctx.trace.gemm([Product(d, ctx.in_layout(ctx.trained, b), out)], out,
                           ctx.storing(inward.name, lambda _: Epilogue(to_inward)))
        ctx.stored(inward)
        scale = method.scale * self._share

        def of_b() -> None:
            inner = self._inner[site].whole
            for b, (_, d), place in zip(every_b, found, columns, strict=True):
                ctx.gradient([b], inner.block(*place), d, factor(scale, "", before))

        def of_a() -> None:
            for group, place in self._at_once([part for part, _ in found], x.rows, rank):
                ctx.gradient(group, inward.whole.block(*place), x.whole,
                             factor(scale, "", inward.name))

        if self._waiting is None:
            ctx.later(of_b, of_a)
        else:
            self._waiting.append(of_b)
            ctx.later(of_a)

    def _beside(self, found: Found, x: Value, before: str) -> None:
        """U beside the outputs' gradient, in its scale. T lies beside ``x``."""
        ctx, method, factor = self.ctx, self.ctx.training.method, self.ctx.factors.factor
        assert isinstance(method, LowRank) and isinstance(ctx.trace, BesideTracer)
        rank, site, given = method.rank, ctx.sites[before], ctx.trace.given_to(x)
        small = 2.0 ** -INNER_LOG2
        places = [(0, rank * index, site.rows, rank) for index in range(len(found))]
        for (part, d), place in zip(found, places, strict=True):
            out = site.beside.block(*place)
            b = ctx.beside[lora_names(f"{self.name}.{part}")[1]]
            ctx.trace.gemm([Product(d, b, out)], out,
                           ctx.storing(f"{before} U", lambda _: Epilogue(small)),
                           b_transposed=False)
        ctx.filled(site)
        scale = method.scale * self._share * 2.0 ** INNER_LOG2

        def of_b() -> None:
            for (part, d), place in zip(found, places, strict=True):
                ctx.gradient([lora_names(f"{self.name}.{part}")[1]], given.beside.block(*place), d,
                             factor(scale, "", before))

        def of_a() -> None:
            for group, place in self._at_once([part for part, _ in found], x.rows, rank):
                ctx.gradient(group, site.beside.block(*place), given.whole,
                             factor(self._share, "", before))

        ctx.later(of_b, of_a)

    def _at_once(self, parts: Sequence[str], rows: int, rank: int
                 ) -> list[tuple[list[str], tuple[int, int, int, int]]]:
        """A of ``parts`` that one product takes, and the block of its columns: all, where they lie
        below one another."""
        names = [lora_names(f"{self.name}.{part}")[0] for part in parts]
        if self.ctx.layout.adjacent(names):
            return [(names, (0, 0, rows, rank * len(names)))]
        return [([name], (0, rank * index, rows, rank)) for index, name in enumerate(names)]


def _side_by_side(views: Sequence[View]) -> View | None:
    """Neighbouring columns of one value as one view."""
    first, end = views[0], views[0].offset
    for view in views:
        if view.value is not first.value or view.stride != first.stride or view.offset != end:
            return None
        end += view.columns
    return View(first.value, first.offset, first.rows, end - first.offset, first.stride)
