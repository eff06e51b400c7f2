"""Lane ops: one thing each that the lanes do to what passes.

A lane op says what reads the passing value (``use``), which operands it takes from memory, and
whether anything may follow in the same command.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from compiler.checkpoints.description import Activation
from compiler.lowering.values import Read, Use, View
from compiler.program.epilogue import Epilogue
from compiler.program.tensor import Tensor

__all__ = ["Add", "AddResidual", "Apply", "Change", "DeferredSoftmax", "Elementwise", "Factor",
           "Hide", "LaneOp", "Listed", "Mean", "Multiply", "MultiplyAdd", "MultiplyRows",
           "Normalise", "Scale", "Softmax", "UnitLength"]

Change = Callable[[View, Use | None], View]


@dataclass(frozen=True)
class LaneOp:
    """``use``: what reads the passing value; ``ends``: nothing may follow in the same command."""

    use: ClassVar[Use] = Use.LANES
    ends: ClassVar[bool] = False

    @property
    def reads(self) -> tuple[Read, ...]:
        """Operands from memory."""
        return ()

    @property
    def blocks(self) -> int:
        """Blocks of rows that have operands of their own."""
        return 1

    def of_block(self, index: int) -> "LaneOp | None":
        """What is done to one block; ``None`` where that passes as it is."""
        return self

    def with_views(self, change: Change) -> "LaneOp":
        """The same on views that ``change`` gives, from a view and its use."""
        return self


@dataclass(frozen=True)
class Scale(LaneOp):
    """× a number, which rounds to BF16."""

    use: ClassVar[Use] = Use.SCALING
    factor: float

    def __str__(self) -> str:
        return f"× {self.factor:.7g}"


@dataclass(frozen=True)
class Factor(Scale):
    """The same of what no level rounds: an embedding's factor, the two of a cap."""

    use: ClassVar[Use] = Use.LANES


@dataclass(frozen=True)
class Elementwise(LaneOp):
    """With an operand from memory, item by item; a view of one row counts for all rows.

    ``y``: the rows are cut into as many equal blocks, of which each has its own view; ``None``:
    this block passes as it is.
    """

    y: tuple[View | None, ...]

    @property
    def operand_use(self) -> Use:
        return Use.LANES

    @property
    def reads(self) -> tuple[Read, ...]:
        return tuple(Read(view, self.operand_use) for view in self.y if view is not None)

    @property
    def blocks(self) -> int:
        return len(self.y)

    def of_block(self, index: int) -> "LaneOp | None":
        if len(self.y) == 1:
            return self
        return None if self.y[index] is None else replace(self, y=(self.y[index],))

    def with_views(self, change: Change) -> Self:
        return replace(self, y=tuple(view and change(view, self.operand_use) for view in self.y))

    def _shown(self) -> str:
        first = next(view for view in self.y if view is not None)
        return str(first) if len(self.y) == 1 else f"{first} and others, {len(self.y)} blocks"


@dataclass(frozen=True)
class Add(Elementwise):
    """+ y: a bias, positions."""

    def __str__(self) -> str:
        return f"+ {self._shown()}"


@dataclass(frozen=True)
class Hide(Add):
    """+ y, which is 0, or the most negative number of its form where a position is hidden."""


@dataclass(frozen=True)
class AddResidual(Add):
    """+ y, which a residual connection has carried past what comes: both are read alike."""

    use: ClassVar[Use] = Use.RESIDUAL

    @property
    def operand_use(self) -> Use:
        return Use.RESIDUAL


@dataclass(frozen=True)
class Multiply(Elementwise):
    """× y: a gate, a rotation's cosines; in one row, a scale for each column."""

    def __str__(self) -> str:
        return f"× {self._shown()}"


@dataclass(frozen=True)
class MultiplyAdd(Elementwise):
    """× the first row of y, + the second: scales and biases of columns."""

    def __str__(self) -> str:
        return f"× and + {self._shown()}"


@dataclass(frozen=True)
class MultiplyRows(Multiply):
    """× y, which has one item for each row: its scale."""


@dataclass(frozen=True)
class Apply(LaneOp):
    """An activation."""

    use: ClassVar[Use] = Use.ACTIVATION
    activation: Activation

    def __str__(self) -> str:
        return self.activation


@dataclass(frozen=True)
class Softmax(LaneOp):
    """Over each row."""

    use: ClassVar[Use] = Use.ACTIVATION
    ends: ClassVar[bool] = True

    def __str__(self) -> str:
        return "softmax"


@dataclass(frozen=True)
class DeferredSoftmax(Elementwise):
    """Exponentials of each row over its largest, × 127; 1 over their sum goes to ``y``, an item for
    each row."""

    use: ClassVar[Use] = Use.ACTIVATION
    ends: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"softmax over {self._shown()}"


@dataclass(frozen=True)
class Normalise(LaneOp):
    """LayerNorm of each row, RMSNorm where there is no ``shift``; gain and shift are one row.
    ``affine``: × gain, + shift alone. ``l1``: by the mean of magnitudes. ``twice``: what is left
    without its mean is centred again."""

    use: ClassVar[Use] = Use.NORM
    ends: ClassVar[bool] = True
    gain: View
    shift: View | None
    eps: float
    affine: bool = False
    l1: bool = False
    twice: bool = False

    @property
    def reads(self) -> tuple[Read, ...]:
        return tuple(Read(view, Use.LANES) for view in (self.gain, self.shift) if view is not None)

    def with_views(self, change: Change) -> "LaneOp":
        return replace(self, gain=change(self.gain, Use.LANES),
                       shift=self.shift and change(self.shift, Use.LANES))

    def __str__(self) -> str:
        if self.affine:
            return f"× {self.gain}" + ("" if self.shift is None else f" + {self.shift}")
        name = "RMSNorm" if self.shift is None else "L1 norm" if self.l1 else "LayerNorm"
        return f"{name} centred twice" if self.twice else name


@dataclass(frozen=True)
class UnitLength(LaneOp):
    """Each row over its length: x / √(Σ x² + eps)."""

    ends: ClassVar[bool] = True
    eps: float

    def __str__(self) -> str:
        return "÷ length"


@dataclass(frozen=True)
class Mean(LaneOp):
    """Each row's sum, of its items times those of ``weights`` if given, over ``count``: one item
    per row."""

    ends: ClassVar[bool] = True
    count: int
    weights: View | None = None

    @property
    def reads(self) -> tuple[Read, ...]:
        return () if self.weights is None else (Read(self.weights, Use.LANES),)

    def with_views(self, change: Change) -> "LaneOp":
        return replace(self, weights=self.weights and change(self.weights, Use.LANES))

    def __str__(self) -> str:
        return f"mean of {self.count}"


@dataclass(frozen=True)
class Listed(LaneOp):
    """A list of its own, by name: what ``make`` gives of its operands' tensors.

    ``operands``: those of all rows, or of as many equal blocks of rows, each with its own.
    ``each``: in place of ``make`` one for each block.
    """

    ends: ClassVar[bool] = True
    name: str
    make: Callable[[Sequence[Tensor]], Epilogue]
    operands: tuple[tuple[Read, ...], ...] = ((),)
    each: tuple[Callable[[Sequence[Tensor]], Epilogue], ...] = ()

    @property
    def reads(self) -> tuple[Read, ...]:
        return tuple(read for own in self.operands for read in own)

    @property
    def blocks(self) -> int:
        return len(self.operands)

    def of_block(self, index: int) -> "LaneOp | None":
        if len(self.operands) == 1:
            return self
        make = self.each[index] if self.each else self.make
        return replace(self, make=make, operands=(self.operands[index],), each=())

    def with_views(self, change: Change) -> "LaneOp":
        return replace(self, operands=tuple(
            tuple(Read(change(read.view, read.use), read.use) for read in own)
            for own in self.operands))

    def __str__(self) -> str:
        return self.name
