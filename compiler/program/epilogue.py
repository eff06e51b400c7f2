"""What a command does with A·B or X on its way out, and the lists of the plain cases."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from compiler.program.instruction import Fields, Instruction
from compiler.program.scalar import Scalar
from compiler.program.tensor import Tensor
from hdl.spec.commands import Destination, Function, Operand, Post, Reduce
from hdl.spec.formats import BFLOAT16

__all__ = ["STORE", "Epilogue", "deferred", "elementwise", "keeps_order", "softmax"]


@dataclass(frozen=True)
class Epilogue:
    """What a command does with A·B or X: × ``scale``, + ``bias``, ``function``, × ``imm1``, then
    ReLU or the softmax of each row, which takes ``imm1`` with a bias alone. A softmax with
    ``items`` is deferred (``deferred``).

    ``scale`` and ``imm1`` round to BF16, ``inverse_n`` and ``epsilon`` to FP32. ``bias``: 1×N
    repeats for every row, M×N is added item by item. ``instructions`` replace all that; there IMM0
    is ``scale``, IMM1 ``imm1``, Y0 ``bias``, Y1 ``y1``, and reductions have ``inverse_n``,
    ``epsilon`` (``hdl.spec.commands.Post``). A ``Scalar`` is ``scale`` or ``imm1`` from memory.
    ``y0_column``, ``y1_column``: Y0 or Y1 has one item for all of a row, M×1, or one for all, 1×1.
    Where an instruction has ``y_second``, that Y has a second row, or column. ``items``: M×1 or 1×M
    in BF16, where instructions store an item of each row (SECOND).
    ``row_result``: only column 0 of what goes to memory is stored, one item per row. ``amax``: the
    largest magnitude of what goes to memory joins register A (``hdl.spec.commands.Reduce``).
    ``ValueError`` for what excludes each other.
    """

    scale: float | Scalar | None = None
    bias: Tensor | None = None
    function: Function = Function.NONE
    relu: bool = False
    softmax: bool = False
    imm1: float | Scalar | None = None
    y1: Tensor | None = None
    inverse_n: float = 0.0
    epsilon: float = 0.0
    y0_column: bool = False
    y1_column: bool = False
    row_result: bool = False
    amax: bool = False
    items: Tensor | None = None
    instructions: Sequence[Instruction] | None = None

    def __post_init__(self) -> None:
        if self.softmax and (self.relu or self.function):
            raise ValueError("softmax must not be combined with relu or a function")
        deferred = self.softmax and self.items is not None
        if self.softmax and self.imm1 is not None and self.bias is None and not deferred:
            raise ValueError("imm1 of a softmax must not be given without a bias")
        if self.instructions is None:
            return
        if self.softmax or self.relu or self.function:
            raise ValueError("instructions must say all of an epilogue, without softmax, relu or "
                             "a function besides them")
        object.__setattr__(self, "instructions", tuple(self.instructions))

    def lower(self, maximum: bool) -> tuple[Instruction, ...]:
        """The list; ``maximum`` as for ``softmax``."""
        steps = self._steps(maximum)
        if not self.amax:
            return steps
        stores = [step.destination == Destination.MEMORY for step in steps]
        if any(step.reduce and stored for step, stored in zip(steps, stores, strict=True)):
            raise ValueError("amax must not be set where an instruction that stores reduces, too")
        return tuple(replace(step, reduce=Reduce.AMAX) if stored else step
                     for step, stored in zip(steps, stores, strict=True))

    def _steps(self, maximum: bool) -> tuple[Instruction, ...]:
        """The list without ``amax``."""
        given = self.scale is not None, self.bias is not None
        raised = self.imm1 is not None
        if self.instructions is not None:
            return tuple(self.instructions)
        if self.softmax and self.items is not None:
            return tuple(deferred(*given, maximum))
        if self.softmax:
            return tuple(softmax(*given, maximum, raised))
        return tuple(elementwise(*given, raised, function=self.function, relu=self.relu))


STORE = Epilogue()
"""Stores what comes, rounded to the encoding of the command's result."""


def keeps_order(word: int) -> bool:
    """Whether × the BF16 ``word``, rounded, keeps the order of all numbers: normal, above zero."""
    return 1 << BFLOAT16.fraction_bits <= word < BFLOAT16.nan & ~(1 << BFLOAT16.fraction_bits - 1)


def elementwise(scaled: bool, biased: bool, raised: bool = False, *,
                function: Function = Function.NONE, relu: bool = False) -> list[Instruction]:
    """f(x × imm0 + Y0), × imm1 where ``raised``, ReLU of it if asked, stored."""
    return [Instruction(multiply=_scale(scaled), add=Operand.Y if biased else Operand.NONE,
                        function=function, scale=Operand.IMM1 if raised else Operand.NONE,
                        relu=relu, destination=Destination.MEMORY)]


def softmax(scaled: bool, biased: bool, maximum: bool = False, raised: bool = False
            ) -> list[Instruction]:
    """Softmax over each row of z = x × imm0 + Y0; where ``biased`` and ``raised`` × imm1.

    Three passes: maximum of z into R0; e = exp(z − R0) and the reciprocal of its sum into R1;
    e × R1, stored. With ``biased`` the bank keeps z and then e. Otherwise each pass takes x afresh
    and computes the same words again, which fits in one pass of the lanes: nothing is
    written back, so that the first pass may follow the filling of the bank, and rows may have any
    length.

    ``maximum``: R0 already holds the maximum of z (row_max), which leaves the last two passes.
    Rounding to nearest is monotone, so that imm0 > 0 times the row's maximum has the very bits of
    the maximum of the products.
    """
    z: Fields = {"multiply": _scale(scaled)}
    exponential: Fields = {"add": Operand.R0, "subtract": True, "function": Function.EXP}
    total: Fields = {"reduce": Reduce.SUM, "reduce_to": 1, "post": Post.RECIPROCAL}
    probability: Fields = {"scale": Operand.R1, "destination": Destination.MEMORY}
    if biased:
        kept: Fields = {"destination": Destination.BUFFER}
        factor = Operand.IMM1 if raised else Operand.NONE
        return [Instruction(**z, add=Operand.Y, scale=factor, reduce=Reduce.MAX, **kept),
                Instruction(**exponential, **total, **kept), Instruction(**probability)]
    first = [] if maximum else [Instruction(**z, reduce=Reduce.MAX)]
    return [*first, Instruction(**z, **exponential, **total),
            Instruction(**z, **exponential, **probability)]


def deferred(scaled: bool, biased: bool, maximum: bool = False) -> list[Instruction]:
    """Exponentials of z = x × imm0 + Y0 over each row, × imm1, and 1 over their sum as an item.

    A pass without a bias where ``maximum`` is as for ``softmax``, else the one before that finds
    it; then the items, a beat a row.
    """
    z: Fields = {"multiply": _scale(scaled)}
    e: Fields = {"add": Operand.R0, "subtract": True, "function": Function.EXP,
                 "scale": Operand.IMM1, "reduce": Reduce.SUM, "reduce_to": 1,
                 "post": Post.RECIPROCAL, "destination": Destination.MEMORY}
    left = Instruction(add=Operand.R1, rows=True, destination=Destination.SECOND)
    if biased:
        return [Instruction(**z, add=Operand.Y, reduce=Reduce.MAX, destination=Destination.BUFFER),
                Instruction(**e), left]
    first = [] if maximum else [Instruction(**z, reduce=Reduce.MAX)]
    return [*first, Instruction(**z, **e), left]


def _scale(scaled: bool) -> Operand:
    return Operand.IMM0 if scaled else Operand.NONE
