"""What the parts of a traced training step share: sites, factors, gradients, trained arrays."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from compiler.checkpoints.inputs import Step
from compiler.lowering.lane_ops import Listed
from compiler.lowering.ops import Product
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Form, Life, Read, Use, Value, View
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from compiler.program.tensor import Tensor
from compiler.training.description import Training
from compiler.training.layout import Layout
from compiler.training.programs.beside import BesideTracer
from compiler.training.programs.factors import Factors
from hdl.spec.commands import Destination, Operand, Reduce
from hdl.spec.config import AcceleratorConfig

__all__ = ["EARLIER", "Context", "operand", "wide"]

EARLIER = "earlier largest"
"""What only a micro-batch that is not the first of its step does."""

Make = Callable[[Sequence[Tensor]], Epilogue]


def operand(view: View | Value) -> Read:
    """Read as it is stored: in the format, or a gradient's."""
    return Read(view.whole if isinstance(view, Value) else view, Use.OPERAND)


def wide(view: View | Value) -> Read:
    """Read in BF16."""
    return Read(view.whole if isinstance(view, Value) else view, Use.LANES)


@dataclass
class Context:
    """``adding``: gradients are added to those of earlier micro-batches; may be set between
    emissions. ``share``: what ``factors.Share`` is over the lengths, where there are any.
    ``beside``: adapters that lie beside their matrices, by array; ``rooms``: columns of what
    lies beside a site, U of those adapters."""

    config: AcceleratorConfig
    trace: Tracer
    training: Training
    step: Step
    factors: Factors
    layout: Layout
    adding: bool = False
    most_sites: int = 0
    share: float | None = None
    beside: dict[str, View] = field(default_factory=dict)
    rooms: dict[str, int] = field(default_factory=dict)
    sites: dict[str, Value] = field(default_factory=dict)
    _later: list[Callable[[], None]] = field(default_factory=list)
    _filled: set[Value] = field(default_factory=set)
    gradients: Value = field(init=False)
    trained: Value = field(init=False)
    largest: Value = field(init=False)

    def __post_init__(self) -> None:
        shape = self.layout.rows, self.layout.columns
        # Items between arrays are read by updates and written by nothing.
        self.gradients = self.trace.constant("gradients", *shape, lambda: np.zeros(shape),
                                             Form.WIDE)
        self.trained = self.trace.value("adapters", *shape, Life.STATE, forms=(Form.STORED,))
        self.largest = self.trace.value("largest magnitudes", self.most_sites, 1, Life.STATE,
                                        forms=(Form.WIDE,))
        self._one = self.trace.constant("one", 1, 1, lambda: np.ones((1, 1)), Form.WIDE)
        self._spare = self.trace.value("spare word", 1, 1, Life.STATE, forms=(Form.WIDE,))

    def in_layout(self, value: Value, *names: str) -> View:
        """The arrays ``names``, which lie one after the other, in one of the matrices of all
        trained arrays."""
        places = [self.layout.places[name] for name in names]
        first = places[0]
        return View(value, first.start, sum(place.rows for place in places), first.columns,
                    first.columns)

    def listed(self, name: str, make: Make, *operands: Read) -> Listed:
        return Listed(name, make, (operands,))

    @staticmethod
    def listed_blocks(name: str, make: Make, blocks: Sequence[Sequence[Read]]) -> Listed:
        """With operands by block of rows."""
        return Listed(name, make, tuple(map(tuple, blocks)))

    # Sites

    def site(self, name: str, rows: int, columns: int) -> Value:
        """A gradient tensor to be stored."""
        if self.factors.scaled:
            self.factors.site(name)
        self.sites[name] = self.trace.value(name, rows, columns, forms=(Form.GRADIENT,),
                                            room=self.rooms.get(name, 0))
        return self.sites[name]

    def storing(self, name: str, make: Make, *blocks: Sequence[Read]) -> Listed:
        """A list whose result is a site's, of its operands by block of rows: register A gets the
        largest magnitude."""
        def largest(tensors: Sequence[Tensor]) -> Epilogue:
            return replace(make(tensors), amax=self.factors.scaled)

        return Listed(name, largest, tuple(map(tuple, blocks)) or ((),))

    def stored(self, site: Value, name: str | None = None) -> None:
        """All of ``site`` is stored, by ``name`` if it is not its own: its largest magnitude goes
        to its place, once what lies beside it is stored too (``filled``)."""
        if not self.factors.scaled or (site.room and site not in self._filled):
            return
        name = name or site.name
        place = self.factors.site(name)
        if place >= self.most_sites:
            raise ValueError(f"sites must be at most {self.most_sites}")
        word = self.largest.whole.block(place, 0, 1, 1)
        scale, inverse = self.factors.factor(1.0, name), self.factors.factor(1.0, "", name)
        self.trace.vector(word, self.listed(EARLIER, lambda _: Epilogue(scale, instructions=(
            Instruction(multiply=Operand.IMM0, reduce=Reduce.AMAX,
                        destination=Destination.MEMORY),))), self._spare.whole)
        self.trace.vector(self._one.whole, self.listed(
            "largest", lambda _: Epilogue(0.0, imm1=inverse, instructions=(
                Instruction(multiply=Operand.IMM0, add=Operand.A, scale=Operand.IMM1,
                            destination=Destination.MEMORY),))), word)

    def filled(self, site: Value) -> None:
        """What lies beside ``site`` is stored right after it."""
        self._filled.add(site)
        self.stored(site)

    def onward(self, d: Value, weight: View) -> tuple[View, View]:
        """The two factors of ``d`` · ``weight``, with what lies beside and below them."""
        if not d.room:
            return d.whole, weight
        own = self.trace.extended(weight) if isinstance(self.trace, BesideTracer) else None
        assert own is not None, "a matrix with adapters"
        return d.widened, own.back

    def gemm(self, name: str, a: View, b: View, out: Value, make: Make, *operands: Read,
             **transposed: bool) -> Value:
        """One product that makes a whole site."""
        self.trace.gemm([Product(a, b, out.whole)], out, self.storing(name, make, operands),
                        **transposed)
        self.stored(out)
        return out

    # Gradients of trained arrays

    def later(self, *traces: Callable[[], None]) -> None:
        """Trace gradients that nothing waits for after what comes next: one fence serves both."""
        self.catch_up()
        self._later += traces

    def catch_up(self) -> None:
        while self._later:
            self._later.pop(0)()

    def gradient(self, names: Sequence[str], a: View, b: View, factor: float,
                 a_transposed: bool = True) -> None:
        """∂/∂``names`` = ``factor`` · Aᵀ B, as they lie in the layout; ``a`` holds A, or Aᵀ unless
        ``a_transposed``."""
        out = self.in_layout(self.gradients, *names)
        self.trace.gemm([Product(a, b, out)], out, self.listed(
            f"gradient of {names[0]}",
            lambda y: Epilogue(factor, y[0] if self.adding else None), wide(out)),
            a_transposed=a_transposed, b_transposed=False)
