"""Vector instructions: their fields, the values of these, and what each of them means.

The order of members means nothing: what a build has of them follows from their features.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from hdl.spec.config import AcceleratorConfig
from hdl.spec.features import SOFTMAX_MODES, SQUARES, Feature, available
from hdl.spec.meaning import Meaning, Member, Trait
from hdl.spec.record import Field

__all__ = [
    "INSTRUCTION", "INSTRUCTIONS", "STAGES", "Destination", "Function", "InstructionField",
    "Operand", "Post", "Reduce", "meanings", "members", "touched", "traits",
]

INSTRUCTIONS = 8
_FUNCTIONS = (Feature.FUNCTIONS,)
_BACKWARD = (Feature.BACKWARD,)
_SCALES = (Feature.SCALES,)
_MODE = (SOFTMAX_MODES,)
_REDUCTION = Trait.REDUCES | Trait.WHOLE_ROWS


class Operand(Member):
    """Second operand of a lane's stage; at most one stage of an instruction may take Y.

    SELF is the word that enters the stage, for multiply and scale alone: its square. A is what
    register A held when the command began; after such a command it holds +0.
    """

    NONE = 0, Meaning("none: the stage passes its word on")
    IMM0 = 1, Meaning("immediate 0", reads=("imm0",))
    IMM1 = 2, Meaning("immediate 1", reads=("imm1",))
    Y = 3, Meaning("the item of Y0 or Y1", once=True, tensors=("y0", "y1"))
    R0 = 4, Meaning("row register 0", register=0)
    R1 = 5, Meaning("row register 1", register=1)
    SELF = 6, Meaning("the word itself", needs=SQUARES, fields=("multiply", "scale"))
    A = 7, Meaning("register A, the largest magnitude so far", needs=_BACKWARD, minor=1,
                   bars=Trait.LARGEST)


class Function(Member):  # noqa: D101  its members say all
    NONE = 0, Meaning("the word passes")
    EXP = 1, Meaning("e^x", needs=_MODE)
    RECIPROCAL = 2, Meaning("1/x", needs=_MODE)
    INVERSE_SQRT = 3, Meaning("1/sqrt(x)", needs=_FUNCTIONS)
    SIGMOID = 4, Meaning("1/(1 + e^-x)", needs=_FUNCTIONS)
    SILU = 5, Meaning("x times sigmoid(x)", needs=_FUNCTIONS)
    TANH = 6, Meaning("the hyperbolic tangent", needs=_FUNCTIONS)
    GELU = 7, Meaning("x times the normal distribution, (1 + erf(x/sqrt(2)))/2",
                      needs=_FUNCTIONS)
    GELU_SIGMOID = 8, Meaning("x times sigmoid(1.702 x)", needs=_FUNCTIONS)
    GELU_SLOPE = 9, Meaning("the slope of GELU", needs=_BACKWARD, minor=1)
    SILU_SLOPE = 10, Meaning("the slope of SILU", needs=_BACKWARD, minor=1)


class Reduce(Member):
    """MAX and SUM fill a row register. AMAX fills register A, which is +0 when a program starts and
    keeps the largest magnitude of all words of stage 4 (with ``row_result`` and MEMORY, of those
    stored), over rows, blocks and commands; a NaN wins. It reduces no rows: none is needed whole.
    """

    NONE = 0, Meaning("nothing is reduced")
    MAX = 1, Meaning("the largest word of the row", traits=_REDUCTION)
    SUM = 2, Meaning("the sum of the row", traits=_REDUCTION)
    AMAX = 3, Meaning("A := the larger of A and each word's magnitude", needs=_BACKWARD, minor=1,
                      traits=Trait.LARGEST)


class Post(Member):
    """What a row register takes of a reduction t, which is FP32; one RNE to the lane's type.

    RECIPROCAL and INVERSE take the reciprocal of the rounded t. MEAN: t · ``inverse_n``.
    INVERSE_SQRT: 1/sqrt(t · ``inverse_n`` + ``epsilon``). RECIPROCAL_MEAN takes the reciprocal of
    that mean + ``epsilon``, rounded. Their product and sum round to FP32, RNE. POWER: with E
    the exponent field of the rounded t, the word of exponent field 253 − E, fraction 0, sign +:
    of abs(t) in [2^n, 2^(n+1)) that is 2^(−n−1). Below 2^-64, zero included, 1; from E = 253 on,
    infinity included, +0; NaN stays NaN.
    """

    NONE = 0, Meaning("t")
    RECIPROCAL = 1, Meaning("1/t", needs=_MODE)
    MEAN = 2, Meaning("the mean", needs=SQUARES, reads=("inverse_n",))
    INVERSE_SQRT = 3, Meaning("1/sqrt(the mean + epsilon)", needs=_FUNCTIONS,
                              reads=("inverse_n", "epsilon"))
    POWER = 4, Meaning("the power of two s with 1/2 <= abs(t) · s < 1", needs=_BACKWARD, minor=1)
    RECIPROCAL_MEAN = 5, Meaning("1/(the mean + epsilon), by the table in every softmax mode",
                                 needs=_SCALES, minor=1, reads=("inverse_n", "epsilon"))
    INVERSE = 6, Meaning("1/t, by the table in every softmax mode", needs=_SCALES, minor=1)


class Destination(Member):
    """NONE drops stage 4, BUFFER overwrites the block on chip, MEMORY encodes and stores to C.

    SECOND stores to D, today an item of each row alone (``rows``): stage 1 gets +0 in place of the
    block's word, column 0 is stored as BF16 and, where the instruction reduces, reduced alone.
    """

    NONE = 0, Meaning("nowhere")
    BUFFER = 1, Meaning("the block on chip", traits=Trait.ON_CHIP)
    MEMORY = 2, Meaning("C", traits=Trait.STORES, tensors=("c",))
    SECOND = 3, Meaning("D", needs=_SCALES, minor=1, tensors=("d",), requires="rows",
                        traits=Trait.ITEMS | Trait.WHOLE_ROWS | Trait.ON_CHIP)


@dataclass(frozen=True)
class InstructionField(Field):
    """A field of an instruction.

    ``kind``: the enumeration that its value is of; ``None``: any number of its bits is right.
    ``traits``: what the instruction does where it is not 0, in addition to its members'. ``bars``:
    where it is not 0, the instruction must not have all of these traits, else BAD_FIELD. ``only``:
    where it is not 0, the instruction must have these, else BAD_FIELD. ``needs``:
    it must be 0 in a build without them. ``minor``: the ISA minor version that brought it.
    """

    kind: type[Member] | None = None
    traits: Trait = Trait.NOTHING
    bars: Trait = Trait.NOTHING
    only: Trait = Trait.NOTHING
    needs: tuple[Feature, ...] = ()
    minor: int = 0


def _table(*fields: InstructionField) -> dict[str, InstructionField]:
    return {field.name: field for field in fields}


INSTRUCTION = _table(
    InstructionField("multiply", 0, 0, 3, "stage 1: multiply by this Operand", Operand),
    InstructionField("add", 0, 3, 3, "stage 2: add this Operand", Operand),
    InstructionField("subtract", 0, 6, 1, "stage 2 subtracts the Operand instead"),
    InstructionField("function", 0, 7, 4, "stage 3: Function", Function),
    InstructionField("scale", 0, 11, 3, "stage 4: multiply by this Operand", Operand),
    InstructionField("relu", 0, 14, 1, "stage 4: then ReLU"),
    InstructionField("y", 0, 15, 1, "Operand Y of this instruction is Y0 (0) or Y1 (1)"),
    InstructionField("reduce", 0, 16, 2, "Reduce over each row, after stage 4", Reduce),
    InstructionField("reduce_to", 0, 18, 1,
                     "row register that takes the reduction: R0 or R1", bars=Trait.LARGEST),
    InstructionField("post", 0, 19, 3, "Post, applied to the reduction", Post,
                     bars=Trait.LARGEST),
    InstructionField("destination", 0, 22, 2, "where stage 4 goes: Destination", Destination),
    InstructionField("last", 0, 24, 1, "ends the list"),
    InstructionField("magnitude", 0, 25, 1, "the reduction takes words without their signs",
                     needs=_SCALES, minor=1),
    InstructionField("y_second", 0, 26, 1, "Y begins N items further on: the row that follows one "
                     "row; of a column one item", needs=_SCALES, minor=1),
    InstructionField("rows", 0, 27, 1, "SECOND: an item of each row, of +0 in stage 1",
                     needs=_SCALES, minor=1, only=Trait.ITEMS),
)
_MEMBERS = {name: {int(member): member for member in field.kind}
            for name, field in INSTRUCTION.items() if field.kind is not None}
STAGES = tuple(name for name, field in INSTRUCTION.items() if field.kind is Operand)
"""The fields that name an operand, in the order in which the stages follow one another."""


def members(name: str, config: AcceleratorConfig) -> tuple[Member, ...]:
    """What instruction field ``name`` may be in a build of ``config``, in the order of numbers."""
    kind = INSTRUCTION[name].kind
    if kind is None:
        raise ValueError(f"name must be a field of an enumeration, not {name!r}")
    return tuple(sorted(
        member for member in kind
        if available(member.meaning.needs, config)
        and (not member.meaning.fields or name in member.meaning.fields)))


def meanings(instruction: Mapping[str, int]) -> dict[str, Meaning]:
    """What each field says whose value is a member of its kind, by name of the field."""
    return {name: known[instruction[name]].meaning for name, known in _MEMBERS.items()
            if instruction[name] in known}


def traits(instruction: Mapping[str, int]) -> Trait:
    """All that an instruction does."""
    found = Trait.NOTHING
    for meaning in meanings(instruction).values():
        found |= meaning.traits
    for name, field in INSTRUCTION.items():
        if field.traits and instruction.get(name):
            found |= field.traits
    return found


def touched(instruction: Mapping[str, int]) -> set[str]:
    """Names of the tensors that an instruction reads or writes."""
    found = (meaning.tensors for meaning in meanings(instruction).values())
    return {names[instruction["y"]] if len(names) > 1 else names[0] for names in found if names}
