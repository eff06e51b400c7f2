"""The op list between a model and its commands.

Three kinds of op become commands, ``Gemm``, ``Vector`` and ``Gather``, each with what the lanes do
on the way out (``then``); ``Output`` says what is read after the last of them. A tracer lists ops
with one such lane op at most (``compiler.lowering.tracer``); ``fuse`` joins what one command can do
and settles what is rounded; ``place`` gives every value its memory; ``emit`` makes the commands.
Nothing here knows a format or a build. All is frozen: a pass makes a new list, and whoever adds
ops, a backward pass say, reads the values of those before.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Self

from compiler.lowering.lane_ops import LaneOp
from compiler.lowering.values import Form, Read, Use, Value, View

__all__ = ["Gather", "Gemm", "Op", "OpList", "Output", "Product", "Vector"]

Change = Callable[[View, Use | None], View]


@dataclass(frozen=True)
class Op:
    """``out``: the view that it writes; ``then``: what the lanes do before, in this order."""

    out: View
    then: tuple[LaneOp, ...] = field(default=(), kw_only=True)

    @property
    def sources(self) -> tuple[Read, ...]:
        """What it reads but for the operands of its lane ops."""
        raise NotImplementedError

    @property
    def reads(self) -> Iterator[Read]:
        """Everything that it reads, views as often as it reads them."""
        yield from self.sources
        for lane_op in self.then:
            yield from lane_op.reads

    @property
    def own_blocks(self) -> int:
        """Blocks of rows that it is made of, whatever its lane ops are."""
        return 1

    @property
    def blocks(self) -> int | None:
        """Blocks of rows that are commands of their own; ``None`` where its parts disagree. An
        operand of several rows is of all rows: it goes with a single block."""
        counts = {self.own_blocks, *(lane_op.blocks for lane_op in self.then)} - {1}
        if not counts:
            return 1
        whole = any(read.view.rows > 1 for lane_op in self.then if lane_op.blocks == 1
                    for read in lane_op.reads)
        return None if len(counts) > 1 or whole else counts.pop()

    def with_views(self, change: Change) -> Self:
        """The same op on views that ``change`` gives, from a view and its use; of what it writes
        the use is ``None``."""
        return replace(self, out=change(self.out, None),
                       then=tuple(lane_op.with_views(change) for lane_op in self.then))

    def _text(self, name: str, source: str) -> str:
        then = "".join(f"; {lane_op}" for lane_op in self.then)
        return f"{name:7}{self.out} ← {source}{then}"


@dataclass(frozen=True)
class Product:
    """One of the products of a ``Gemm``: out = A·B."""

    a: View
    b: View
    out: View


@dataclass(frozen=True)
class Gemm(Op):
    """Products side by side in ``out``: a linear layer is one, attention has one per head.

    ``a_transposed``: views of A hold Aᵀ, K×M; ``b_transposed``: those of B hold Bᵀ, N×K. ``of``:
    the places in the model (``compiler.checkpoints.scales``) and outputs of the linear layers whose
    weights B has below one another, or of the queries of the attention that this is a part of.
    """

    products: tuple[Product, ...]
    a_transposed: bool = False
    b_transposed: bool = True
    of: tuple[tuple[str, int], ...] = ()

    @property
    def sources(self) -> tuple[Read, ...]:
        return tuple(Read(view, Use.OPERAND) for product in self.products
                     for view in (product.a, product.b))

    @property
    def own_blocks(self) -> int:
        return len(self.products)

    def with_views(self, change: Change) -> Self:
        products = tuple(Product(change(product.a, Use.OPERAND), change(product.b, Use.OPERAND),
                                 change(product.out, None)) for product in self.products)
        return replace(super().with_views(change), products=products)

    def __str__(self) -> str:
        first = self.products[0]
        more = "" if len(self.products) == 1 else f" … {len(self.products)} products"
        signs = "ᵀ" if self.a_transposed else "", "ᵀ" if self.b_transposed else ""
        return self._text("gemm", f"{first.a}{signs[0]} · {first.b}{signs[1]}{more}")


@dataclass(frozen=True)
class Vector(Op):
    """The lanes alone; if they do nothing, a copy that rounds. ``transposed``: of the transpose."""

    x: View
    transposed: bool = False

    @property
    def sources(self) -> tuple[Read, ...]:
        return (Read(self.x, self.then[0].use if self.then else Use.LANES),)

    @property
    def blocks(self) -> int | None:
        found = super().blocks
        return None if self.transposed and found != 1 else found

    def with_views(self, change: Change) -> Self:
        return replace(super().with_views(change), x=change(self.x, self.sources[0].use))

    def __str__(self) -> str:
        return self._text("vector", f"{self.x}{' transposed' if self.transposed else ''}")


@dataclass(frozen=True)
class Gather(Op):
    """Rows of ``table`` by the numbers in ``indices``, one column per block of rows."""

    table: View
    indices: tuple[View, ...]

    @property
    def sources(self) -> tuple[Read, ...]:
        return tuple(Read(view, Use.LANES) for view in (self.table, *self.indices))

    @property
    def own_blocks(self) -> int:
        return len(self.indices)

    def with_views(self, change: Change) -> Self:
        return replace(super().with_views(change), table=change(self.table, Use.LANES),
                       indices=tuple(change(view, Use.LANES) for view in self.indices))

    def __str__(self) -> str:
        return self._text("gather", f"{self.table} by {self.indices[0]}")


@dataclass(frozen=True)
class Output(Op):
    """No command: ``out`` is read by whoever goes on, in as many ways as ``uses`` names."""

    uses: tuple[Use, ...]

    @property
    def sources(self) -> tuple[Read, ...]:
        return tuple(Read(self.out, use) for use in self.uses)

    def __str__(self) -> str:
        return f"output {self.out} for {', '.join(use.value for use in self.uses)}"


@dataclass(frozen=True)
class OpList:
    """``ops`` in their order over ``values`` in the order in which they were declared.

    ``forms``: of each value the forms that it has, once ``fuse`` has settled them. ``turns``: which
    ops come in turns, command by command (``compiler.lowering.turns``).
    """

    values: tuple[Value, ...]
    ops: tuple[Op, ...]
    forms: dict[Value, tuple[Form, ...]] = field(default_factory=dict)
    turns: tuple[range, ...] = ()

    def parts(self) -> Iterator[tuple[Op, ...]]:
        """The ops in their order, those together that come in turns."""
        done = 0
        for own in self.turns:
            yield from ((op,) for op in self.ops[done:own.start])
            yield self.ops[own.start:own.stop]
            done = own.stop
        yield from ((op,) for op in self.ops[done:])

    def readers(self) -> dict[Value, list[tuple[Op, Read]]]:
        """For each value that is read, every op that does and how."""
        found: dict[Value, list[tuple[Op, Read]]] = {}
        for op in self.ops:
            for read in op.reads:
                found.setdefault(read.view.value, []).append((op, read))
        return found

    def writers(self) -> dict[Value, list[Op]]:
        """For each value that is written, every op that writes some of it."""
        found: dict[Value, list[Op]] = {}
        for op in self.ops:
            if not isinstance(op, Output):
                found.setdefault(op.out.value, []).append(op)
        return found

    def lines(self) -> list[str]:
        """The ops as text, one line each."""
        return [f"{index:4} {op}" for index, op in enumerate(self.ops)]
