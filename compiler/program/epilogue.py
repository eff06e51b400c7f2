"""Lists of vector instructions for what a GEMM's epilogue or a vector command has to do."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from compiler.program.tensor import Tensor
from hdl.spec.commands import (
    INSTRUCTION,
    INSTRUCTIONS,
    Destination,
    Function,
    Operand,
    Post,
    Reduce,
    pack,
    unpack,
)
from hdl.spec.formats import BFLOAT16

__all__ = ["Epilogue", "Instruction", "elementwise", "instruction_words", "keeps_order",
           "l2_norm", "layer_norm", "product", "rms_norm", "row_mean", "softmax"]


@dataclass(frozen=True)
class Instruction:
    """One pass of the vector unit over a block; fields as in ``hdl.spec.commands.INSTRUCTION``."""

    multiply: Operand = Operand.NONE
    add: Operand = Operand.NONE
    subtract: bool = False
    function: Function = Function.NONE
    scale: Operand = Operand.NONE
    relu: bool = False
    y: int = 0
    reduce: Reduce = Reduce.NONE
    reduce_to: int = 0
    post: Post = Post.NONE
    destination: Destination = Destination.NONE

    def word(self, last: bool) -> int:
        """The 32-bit instruction; ``last`` ends the list."""
        values = {field.name: int(getattr(self, field.name)) for field in fields(self)}
        return int.from_bytes(pack(INSTRUCTION, values | {"last": int(last)}, 4), "little")

    @classmethod
    def from_word(cls, word: int) -> "Instruction":
        """The instruction in ``word``; ``ValueError`` where a field is no member of its enum."""
        values = unpack(INSTRUCTION, word.to_bytes(4, "little"))
        kinds = {field.name: field.type for field in fields(cls)}
        return cls(**{name: kinds[name](values[name]) for name in kinds})

    def uses(self, operand: Operand) -> bool:
        return operand in (self.multiply, self.add, self.scale)

    @property
    def needs_softmax(self) -> bool:
        """Whether its result depends on the build's softmax mode."""
        return (self.function in (Function.EXP, Function.RECIPROCAL)
                or self.post == Post.RECIPROCAL)

    @property
    def needs_functions(self) -> bool:
        """Whether it takes a build of all functions."""
        return (self.function > Function.RECIPROCAL or self.post > Post.RECIPROCAL
                or self.uses(Operand.SELF))


@dataclass(frozen=True)
class Epilogue:
    """What a command does with A·B or X: × ``scale``, + ``bias``, ``function``, then ReLU or the
    softmax of each row.

    ``scale`` and ``imm1`` round to BF16, ``inverse_n`` and ``epsilon`` to FP32. ``bias``: 1×N
    repeats for every row, M×N is added item by item. ``instructions`` replace all that; there IMM0
    is ``scale``, IMM1 ``imm1``, Y0 ``bias``, Y1 ``y1``, and reductions have ``inverse_n``,
    ``epsilon`` (``hdl.spec.commands.Post``). ``row_result``: only column 0 of what goes to memory
    is stored, one item a row.
    """

    scale: float | None = None
    bias: Tensor | None = None
    function: Function = Function.NONE
    relu: bool = False
    softmax: bool = False
    imm1: float | None = None
    y1: Tensor | None = None
    inverse_n: float = 0.0
    epsilon: float = 0.0
    row_result: bool = False
    instructions: Sequence[Instruction] | None = None

    def lower(self, maximum: bool) -> list[Instruction]:
        """The list; ``maximum`` as for ``softmax``."""
        given = self.scale is not None, self.bias is not None
        if self.softmax:
            return softmax(*given, maximum)
        return elementwise(*given, function=self.function, relu=self.relu)


def instruction_words(instructions: Sequence[Instruction]) -> int:
    """The 256-bit field ``instructions`` of a command."""
    if not 1 <= len(instructions) <= INSTRUCTIONS:
        raise ValueError(
            f"instructions must be 1 to {INSTRUCTIONS}, not {len(instructions)}")
    words = 0
    for index, instruction in enumerate(instructions):
        words |= instruction.word(index == len(instructions) - 1) << 32 * index
    return words


def keeps_order(word: int) -> bool:
    """Whether × the BF16 ``word``, rounded, keeps the order of all numbers: normal, above zero."""
    return 1 << BFLOAT16.fraction_bits <= word < BFLOAT16.nan & ~(1 << BFLOAT16.fraction_bits - 1)


def elementwise(scaled: bool, biased: bool, *, function: Function = Function.NONE,
                relu: bool = False) -> list[Instruction]:
    """f(x × imm0 + Y0), ReLU of it if asked, stored."""
    return [Instruction(multiply=_scale(scaled), add=Operand.Y if biased else Operand.NONE,
                        function=function, relu=relu, destination=Destination.MEMORY)]


def softmax(scaled: bool, biased: bool, maximum: bool = False) -> list[Instruction]:
    """Softmax over each row of z = x × imm0 + Y0.

    Three passes: maximum of z into R0; e = exp(z − R0) and the reciprocal of its sum into R1;
    e × R1, stored. With ``biased`` the bank keeps z and then e. Otherwise each pass takes x afresh
    and computes the same words again, which one pass of the lanes has room for: nothing is
    written back, so that the first pass may follow the filling of the bank, and rows may have any
    length.

    ``maximum``: R0 already holds the maximum of z (row_max), which leaves the last two passes.
    Rounding to nearest is monotone, so that imm0 > 0 times the row's maximum has the very bits of
    the maximum of the products.
    """
    z = {"multiply": _scale(scaled)}
    exponential = {"add": Operand.R0, "subtract": True, "function": Function.EXP}
    total = {"reduce": Reduce.SUM, "reduce_to": 1, "post": Post.RECIPROCAL}
    probability = {"scale": Operand.R1, "destination": Destination.MEMORY}
    if biased:
        kept = {"destination": Destination.BUFFER}
        return [Instruction(**z, add=Operand.Y, reduce=Reduce.MAX, **kept),
                Instruction(**exponential, **total, **kept), Instruction(**probability)]
    first = [] if maximum else [Instruction(**z, reduce=Reduce.MAX)]
    return [*first, Instruction(**z, **exponential, **total),
            Instruction(**z, **exponential, **probability)]


def layer_norm(gamma: Tensor, beta: Tensor, eps: float) -> dict[str, object]:
    """The ``Epilogue`` that normalises rows: (x − μ) · gamma · r + beta, r = 1/√(σ² + eps).

    Mean into R0; squares of x − R0, r into R1; (x − R0) · gamma, kept; · R1 + beta, stored. The
    block stays on chip, for one instruction takes one of gamma and beta.
    """
    centred = {"add": Operand.R0, "subtract": True}
    return {"bias": gamma, "y1": beta, "inverse_n": 1 / gamma.columns, "epsilon": eps,
            "instructions": [
                Instruction(reduce=Reduce.SUM, post=Post.MEAN),
                Instruction(**centred, scale=Operand.SELF, reduce=Reduce.SUM, reduce_to=1,
                            post=Post.INVERSE_SQRT),
                Instruction(**centred, scale=Operand.Y, destination=Destination.BUFFER),
                Instruction(multiply=Operand.R1, add=Operand.Y, y=1,
                            destination=Destination.MEMORY)]}


def rms_norm(gamma: Tensor, eps: float) -> dict[str, object]:
    """The ``Epilogue`` that divides rows by their root mean square: x · r · gamma; any length."""
    return {"bias": gamma, "inverse_n": 1 / gamma.columns, "epsilon": eps, "instructions": [
        Instruction(multiply=Operand.SELF, reduce=Reduce.SUM, reduce_to=1, post=Post.INVERSE_SQRT),
        Instruction(multiply=Operand.R1, scale=Operand.Y, destination=Destination.MEMORY)]}


def l2_norm(eps: float) -> dict[str, object]:
    """The ``Epilogue`` that divides rows by their length: x / √(Σx² + eps); any length."""
    return {"inverse_n": 1.0, "epsilon": eps, "instructions": [
        Instruction(multiply=Operand.SELF, reduce=Reduce.SUM, post=Post.INVERSE_SQRT),
        Instruction(multiply=Operand.R0, destination=Destination.MEMORY)]}


def row_mean(columns: int) -> dict[str, object]:
    """The ``Epilogue`` that leaves the mean of each row, one item a row (``row_result``): R0,
    taken to memory by x · 0 + R0."""
    return {"scale": 0.0, "inverse_n": 1 / columns, "row_result": True, "instructions": [
        Instruction(reduce=Reduce.SUM, post=Post.MEAN),
        Instruction(multiply=Operand.IMM0, add=Operand.R0, destination=Destination.MEMORY)]}


def product(y: Tensor) -> dict[str, object]:
    """The ``Epilogue`` that multiplies by ``y``, item by item, or each row by the one row of it."""
    return {"bias": y, "instructions": [
        Instruction(multiply=Operand.Y, destination=Destination.MEMORY)]}


def _scale(scaled: bool) -> Operand:
    return Operand.IMM0 if scaled else Operand.NONE
