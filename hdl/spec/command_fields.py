"""The fields of a command: where each lies, and all that is true of it.

The rules of a field are what makes the field and its command valid: ``sim.model.command`` refuses
a command by them, the sequencer by a statement of its own (``hdl.issue.command_check``). The rows
stand in the order that the members of a plan have in hardware (``hdl.ports.plan``); the reference
pages sort them by their place.
"""

from dataclasses import dataclass
from enum import Enum

from hdl.spec.config import COUNT_MOST, AcceleratorConfig
from hdl.spec.errors import ErrorCause
from hdl.spec.features import HYBRID, NARROW, SQUARES, Feature, Needs, available
from hdl.spec.formats import BFLOAT16, BINARY32, LaneType
from hdl.spec.meaning import Trait
from hdl.spec.opcodes import Opcode, When
from hdl.spec.record import Field

__all__ = ["COMMAND", "AtLeast", "AtMost", "CommandField", "Role", "Unit", "means"]


class Role(Enum):
    """What a field says of its tensor.

    ADDRESS of its first byte; OFFSET of that from C's, signed; STRIDE: bytes from a row as stored
    to the next; E5M2: it holds E5M2, not E4M3; WIDE: it holds BF16, not the format's 8 bits;
    TRANSPOSED: rows and columns are stored exchanged; COLUMN: it has one column, whatever its
    shape; GATHER: its rows are those of a table that indices name.
    """

    ADDRESS = "address"
    OFFSET = "offset"
    STRIDE = "stride"
    E5M2 = "e5m2"
    WIDE = "wide"
    TRANSPOSED = "transposed"
    COLUMN = "column"
    GATHER = "gather"


class Unit(Enum):
    """Who takes a field out of the plan; VECTOR, the vector unit, by way of the drain."""

    OPERANDS = "operands"
    WEIGHTS = "weights"
    FEEDER = "feeder"
    DRAIN = "drain"
    VECTOR = "vector"


@dataclass(frozen=True)
class AtLeast:
    """The value must not be below ``least``."""

    least: int
    cause: ErrorCause


@dataclass(frozen=True)
class AtMost:
    """The value must not be above ``most``, a number or the name of one of the configuration's,
    in commands of ``when`` on builds that have ``needs``."""

    most: int | str
    cause: ErrorCause
    when: When = When()
    needs: Needs = ()


@dataclass(frozen=True)
class CommandField(Field):
    """A field of a command.

    Attributes
    ----------
    used: when it means something; in no other command is it read.
    strict: where it means nothing, in a command that computes, it must be ``default``, else
        BAD_FIELD; a field that is not strict is ignored there.
    default: what it is where it means nothing.
    limits: of its value, in every command that computes.
    needs: it means something in builds that have these alone.
    minor: the ISA minor version that brought it.
    tensor, role: what it says of which of ``hdl.spec.tensors``; "" and ``None``: nothing.
    units: those of the hardware that take it; none: it is not part of the plan.
    number: the type of a constant of the vector unit.
    traits: what the command does where it is not 0.
    bars: where it is not 0, no instruction may have all of these traits, else BAD_FIELD.
    register: the row register that it fills, before the list begins.
    reads: further fields that it takes.
    scalar: the immediate that it turns into the number n of a scalar: the immediate is then the
        BF16 word at ``scalars`` + 2n, read when the command is fetched.
    """

    used: tuple[When, ...] = (When(),)
    strict: bool = False
    default: int = 0
    limits: tuple[AtLeast | AtMost, ...] = ()
    needs: Needs = ()
    minor: int = 0
    tensor: str = ""
    role: Role | None = None
    units: tuple[Unit, ...] = ()
    number: LaneType | None = None
    traits: Trait = Trait.NOTHING
    bars: Trait = Trait.NOTHING
    register: int | None = None
    reads: tuple[str, ...] = ()
    scalar: str = ""


def means(field: CommandField, opcode: int, config: AcceleratorConfig) -> bool:
    """Whether ``field`` means something to some command of ``opcode`` on a build of ``config``."""
    return (available(field.needs, config)
            and any(opcode in when.opcodes for when in field.used))


_GEMM = (When((Opcode.GEMM,)),)
_VECTOR = (When((Opcode.VECTOR,)),)
_GATHER = (When((Opcode.VECTOR,), "x_gather"),)
_BACKWARD = (Feature.BACKWARD,)
_SCALES = (Feature.SCALES,)
_COUNT = (AtLeast(1, ErrorCause.BAD_SHAPE), AtMost(COUNT_MOST, ErrorCause.OVERSIZE))
_ROWS = Trait.WHOLE_ROWS | Trait.ON_CHIP
_OPERANDS, _WEIGHTS, _FEEDER, _DRAIN, _LANES = ((unit,) for unit in Unit)


def _table(*fields: CommandField) -> dict[str, CommandField]:
    return {field.name: field for field in fields}


COMMAND = _table(
    CommandField("opcode", 0, 0, 8, "Opcode"),
    CommandField("a_transposed", 0, 9, 1, "GEMM: A is stored K×M, not M×K", _GEMM, strict=True,
                 tensor="a", role=Role.TRANSPOSED, units=_OPERANDS + _FEEDER),
    CommandField("b_transposed", 0, 8, 1, "GEMM: B is stored N×K, not K×N", _GEMM, strict=True,
                 tensor="b", role=Role.TRANSPOSED, units=_WEIGHTS + _FEEDER),
    CommandField("c_transposed", 0, 19, 1, "C is stored N×M",
                 bars=Trait.REDUCES | Trait.STORES,
                 tensor="c", role=Role.TRANSPOSED, units=_DRAIN),
    CommandField("row_max", 0, 20, 1,
                 "GEMM: R0 starts as IMM0 times the maximum of each row of A·B", _GEMM,
                 strict=True, traits=_ROWS, register=0, reads=("imm0",), units=_DRAIN),
    CommandField("row_result", 0, 21, 1,
                 "MEMORY stores column 0 of each row alone: C is M×1, or 1×M",
                 traits=_ROWS, bars=Trait.REDUCES | Trait.STORES,
                 tensor="c", role=Role.COLUMN, units=_DRAIN),
    CommandField("a_e5m2", 0, 10, 1, "fp8: A (or X) holds E5M2, else E4M3", needs=HYBRID,
                 tensor="a", role=Role.E5M2, units=_OPERANDS + _FEEDER),
    CommandField("b_e5m2", 0, 11, 1, "fp8: B holds E5M2", _GEMM, needs=HYBRID,
                 tensor="b", role=Role.E5M2, units=_WEIGHTS),
    CommandField("y0_e5m2", 0, 12, 1, "fp8: Y0 holds E5M2", needs=HYBRID,
                 tensor="y0", role=Role.E5M2, units=_DRAIN),
    CommandField("y1_e5m2", 0, 13, 1, "fp8: Y1 holds E5M2", needs=HYBRID,
                 tensor="y1", role=Role.E5M2, units=_DRAIN),
    CommandField("c_e5m2", 0, 14, 1, "fp8: C is written as E5M2", needs=HYBRID,
                 tensor="c", role=Role.E5M2, units=_DRAIN),
    CommandField("x_wide", 0, 15, 1, "VECTOR: X holds BF16, else the format's 8 bits", _VECTOR,
                 needs=NARROW, tensor="a", role=Role.WIDE, units=_OPERANDS),
    CommandField("y0_wide", 0, 16, 1, "Y0 holds BF16", needs=NARROW,
                 tensor="y0", role=Role.WIDE, units=_DRAIN),
    CommandField("y1_wide", 0, 17, 1, "Y1 holds BF16", needs=NARROW,
                 tensor="y1", role=Role.WIDE, units=_DRAIN),
    CommandField("c_wide", 0, 18, 1, "C is written as BF16", needs=NARROW,
                 tensor="c", role=Role.WIDE, units=_DRAIN),
    CommandField("x_gather", 0, 22, 1, "VECTOR: X is rows of a table at A that indices at B name",
                 _VECTOR, strict=True, tensor="a", role=Role.GATHER, units=_OPERANDS),
    CommandField("y0_column", 0, 27, 1,
                 "Y0 is M×1: one item a row, for all its columns; stride 0: one item for all",
                 strict=True, needs=_SCALES, minor=1, tensor="y0", role=Role.COLUMN,
                 units=_DRAIN),
    CommandField("y1_column", 0, 28, 1, "Y1 is M×1", strict=True, needs=_SCALES, minor=1,
                 tensor="y1", role=Role.COLUMN, units=_DRAIN),
    CommandField("imm0_scalar", 0, 23, 1, "imm0 is the number of a scalar", strict=True,
                 needs=_BACKWARD, minor=1, scalar="imm0"),
    CommandField("imm1_scalar", 0, 24, 1, "imm1 is the number of a scalar", strict=True,
                 needs=_BACKWARD, minor=1, scalar="imm1"),
    CommandField("m", 1, 0, 32, "rows of C", limits=_COUNT,
                 units=_OPERANDS + _WEIGHTS + _FEEDER + _DRAIN),
    CommandField("k", 2, 0, 32,
                 "GEMM: length of the dot products; VECTOR: 1; x_gather: rows of the table",
                 _GEMM + _GATHER, strict=True, default=1,
                 limits=(*_COUNT, AtMost("k_most", ErrorCause.K_RANGE, When((Opcode.GEMM,)),
                                         (Feature.ACC_EXACT | Feature.ACC_INT32,))),
                 units=_OPERANDS + _WEIGHTS + _FEEDER + _DRAIN),
    CommandField("n", 3, 0, 32, "columns of C", limits=_COUNT,
                 units=_OPERANDS + _WEIGHTS + _FEEDER + _DRAIN),
    CommandField("a_address", 4, 0, 64, "A; VECTOR: X (M×N); x_gather: the table (K×N)",
                 tensor="a", role=Role.ADDRESS, units=_OPERANDS),
    CommandField("b_address", 6, 0, 64, "B; x_gather: M indices, unsigned words of 32 bits",
                 _GEMM + _GATHER, tensor="b", role=Role.ADDRESS, units=_OPERANDS + _WEIGHTS),
    CommandField("c_address", 8, 0, 64,
                 "C (M×N; N×M if c_transposed; one item per row if row_result)",
                 tensor="c", role=Role.ADDRESS, units=_DRAIN),
    CommandField("y0_address", 10, 0, 64, "operand Y0 of the vector instructions (M×N)",
                 tensor="y0", role=Role.ADDRESS, units=_DRAIN),
    CommandField("y1_address", 12, 0, 64, "operand Y1 of the vector instructions (M×N)",
                 tensor="y1", role=Role.ADDRESS, units=_DRAIN),
    CommandField("a_stride", 14, 0, 32, "bytes from a row of A (or X) as stored to the next",
                 tensor="a", role=Role.STRIDE, units=_OPERANDS),
    CommandField("b_stride", 15, 0, 32, "bytes from a row of B as stored to the next", _GEMM,
                 tensor="b", role=Role.STRIDE, units=_WEIGHTS),
    CommandField("c_stride", 16, 0, 32, "bytes from a row of C as stored to the next",
                 tensor="c", role=Role.STRIDE, units=_DRAIN),
    CommandField("y0_stride", 17, 0, 32,
                 "bytes from a row of Y0 to the next; 0 repeats one row (bias)",
                 tensor="y0", role=Role.STRIDE, units=_DRAIN),
    CommandField("y1_stride", 18, 0, 32, "bytes from a row of Y1 to the next",
                 tensor="y1", role=Role.STRIDE, units=_DRAIN),
    CommandField("d_offset", 19, 0, 32, "SECOND: signed bytes from C to D, M BF16 items",
                 strict=True, needs=_SCALES, minor=1, tensor="d", role=Role.OFFSET, units=_DRAIN),
    CommandField("instructions", 24, 0, 256,
                 "eight vector instructions of 32 bits, the first lowest", units=_DRAIN),
    CommandField("imm0", 20, 0, 16, "immediate 0: a BF16 word", number=BFLOAT16,
                 units=_FEEDER + _LANES),
    CommandField("imm1", 21, 0, 16, "immediate 1: a BF16 word", number=BFLOAT16, units=_LANES),
    CommandField("inverse_n", 22, 0, 32, "Post: factor of a reduction, an FP32 word",
                 needs=SQUARES, number=BINARY32, units=_LANES),
    CommandField("epsilon", 23, 0, 32,
                 "Post INVERSE_SQRT: added to the product, an FP32 word",
                 needs=SQUARES, number=BINARY32, units=_LANES),
)
