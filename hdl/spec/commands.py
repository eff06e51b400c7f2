"""The program format: header, commands, vector instructions, features, error causes.

A program is a 64-byte header at a multiple of 64 followed by 128-byte commands, all
little-endian. Fields are tables of ``Field(name, word, low, bits)``, word counting 32-bit words
from the start of the record; ``pack`` and ``unpack`` of ``hdl.spec.record`` serve every tool, the
hardware slices the same table.
"""

from enum import IntEnum, IntFlag

from hdl.spec.config import AcceleratorConfig
from hdl.spec.record import Field, pack, reserved_mask, unpack

__all__ = [
    "MAGIC", "ISA_MAJOR", "ISA_MINOR", "HEADER_BYTES", "COMMAND_BYTES", "INSTRUCTIONS", "Field",
    "HEADER", "COMMAND", "INSTRUCTION", "Opcode", "OPCODE_DOCS", "Operand", "Function",
    "FUNCTION_DOCS", "Reduce", "Post", "Destination", "Feature", "ErrorCause", "features_of",
    "largest_members", "reserved_mask", "pack", "unpack",
]

MAGIC = 0x4156544F  # "OTVA" in memory order
ISA_MAJOR = 1
ISA_MINOR = 0
HEADER_BYTES = 64
COMMAND_BYTES = 128
INSTRUCTIONS = 8


def _fields(*rows: tuple[str, int, int, int, str]) -> dict[str, Field]:
    return {row[0]: Field(*row) for row in rows}


HEADER = _fields(
    ("magic", 0, 0, 32, "0x4156544F, the letters OTVA in memory order"),
    ("isa_minor", 1, 0, 16, "lowest ISA minor version that the program needs"),
    ("isa_major", 1, 16, 16, "ISA major version; must equal the hardware's"),
    ("features", 2, 0, 32, "every feature that the program needs (Feature)"),
    ("commands", 3, 0, 32, "number of commands that follow, at least 1"),
    ("config_hash", 4, 0, 64, "digest of the configuration it was built for; informative"),
)

COMMAND = _fields(
    ("opcode", 0, 0, 8, "Opcode"),
    ("b_transposed", 0, 8, 1, "GEMM: B is stored N×K, not K×N"),
    ("a_transposed", 0, 9, 1, "GEMM: A is stored K×M, not M×K"),
    ("a_e5m2", 0, 10, 1, "fp8: A (or X) holds E5M2, else E4M3"),
    ("b_e5m2", 0, 11, 1, "fp8: B holds E5M2"),
    ("y0_e5m2", 0, 12, 1, "fp8: Y0 holds E5M2"),
    ("y1_e5m2", 0, 13, 1, "fp8: Y1 holds E5M2"),
    ("c_e5m2", 0, 14, 1, "fp8: C is written as E5M2"),
    ("x_wide", 0, 15, 1, "VECTOR: X holds BF16, else the format's 8 bits"),
    ("y0_wide", 0, 16, 1, "Y0 holds BF16"),
    ("y1_wide", 0, 17, 1, "Y1 holds BF16"),
    ("c_wide", 0, 18, 1, "C is written as BF16"),
    ("c_transposed", 0, 19, 1, "C is stored N×M"),
    ("row_max", 0, 20, 1, "GEMM: R0 starts as IMM0 times the maximum of each row of A·B"),
    ("row_result", 0, 21, 1, "MEMORY stores column 0 of each row alone: C is M×1, or 1×M"),
    ("x_gather", 0, 22, 1, "VECTOR: X is rows of a table at A that indices at B name"),
    ("m", 1, 0, 32, "rows of C"),
    ("k", 2, 0, 32, "GEMM: length of the dot products; VECTOR: 1; x_gather: rows of the table"),
    ("n", 3, 0, 32, "columns of C"),
    ("a_address", 4, 0, 64, "A; VECTOR: X (M×N); x_gather: the table (K×N)"),
    ("b_address", 6, 0, 64, "B; x_gather: M indices, unsigned words of 32 bits"),
    ("c_address", 8, 0, 64, "C (M×N; N×M if c_transposed; one item a row if row_result)"),
    ("y0_address", 10, 0, 64, "operand Y0 of the vector instructions (M×N)"),
    ("y1_address", 12, 0, 64, "operand Y1 of the vector instructions (M×N)"),
    ("a_stride", 14, 0, 32, "bytes from a row of A (or X) as stored to the next"),
    ("b_stride", 15, 0, 32, "bytes from a row of B as stored to the next"),
    ("c_stride", 16, 0, 32, "bytes from a row of C as stored to the next"),
    ("y0_stride", 17, 0, 32, "bytes from a row of Y0 to the next; 0 repeats one row (bias)"),
    ("y1_stride", 18, 0, 32, "bytes from a row of Y1 to the next"),
    ("imm0", 20, 0, 16, "immediate 0: a BF16 word"),
    ("imm1", 21, 0, 16, "immediate 1: a BF16 word"),
    ("inverse_n", 22, 0, 32, "Post: factor of a reduction, an FP32 word"),
    ("epsilon", 23, 0, 32, "Post INVERSE_SQRT: added to the product, an FP32 word"),
    ("instructions", 24, 0, 256, "eight vector instructions of 32 bits, the first lowest"),
)

INSTRUCTION = _fields(
    ("multiply", 0, 0, 3, "stage 1: multiply by this Operand"),
    ("add", 0, 3, 3, "stage 2: add this Operand"),
    ("subtract", 0, 6, 1, "stage 2 subtracts the Operand instead"),
    ("function", 0, 7, 4, "stage 3: Function"),
    ("scale", 0, 11, 3, "stage 4: multiply by this Operand"),
    ("relu", 0, 14, 1, "stage 4: then ReLU"),
    ("y", 0, 15, 1, "Operand Y of this instruction is Y0 (0) or Y1 (1)"),
    ("reduce", 0, 16, 2, "Reduce over each row, behind stage 4"),
    ("reduce_to", 0, 18, 1, "row register that takes the reduction: R0 or R1"),
    ("post", 0, 19, 3, "Post, applied to the reduction"),
    ("destination", 0, 22, 2, "where stage 4 goes: Destination"),
    ("last", 0, 24, 1, "ends the list"),
)


class Opcode(IntEnum):
    """0 is no command, so that cleared memory stops the program."""

    END = 1
    FENCE = 2
    GEMM = 3
    VECTOR = 4
    # Reserved, refused as a bad opcode by this version:
    COPY = 5
    TRANSPOSE = 6
    MASK_RELU = 16
    SOFTMAX_BACKWARD = 17
    AMAX_SCALE = 18
    MASTER_UPDATE = 19
    INT8_GEMM = 32


OPCODE_DOCS: dict[Opcode, str] = {
    Opcode.END: "as FENCE, then ends the program",
    Opcode.FENCE: "waits until every command before it has finished, its writes answered",
    Opcode.GEMM: "C = list(A·B): every instruction runs over the product",
    Opcode.VECTOR: "C = list(X): every instruction runs over a tensor in memory",
    **{opcode: "reserved, refused as BAD_OPCODE" for opcode in Opcode if opcode > Opcode.VECTOR},
}


class Operand(IntEnum):
    """Second operand of a lane's stage; at most one stage of an instruction may take Y.

    SELF is the word that enters the stage, for multiply and scale alone: its square.
    """

    NONE = 0
    IMM0 = 1
    IMM1 = 2
    Y = 3
    R0 = 4
    R1 = 5
    SELF = 6


class Function(IntEnum):
    NONE = 0
    EXP = 1
    RECIPROCAL = 2
    INVERSE_SQRT = 3
    SIGMOID = 4
    SILU = 5
    TANH = 6
    GELU = 7
    GELU_SIGMOID = 8


FUNCTION_DOCS: dict[Function, str] = {
    Function.NONE: "the word passes",
    Function.EXP: "e^x",
    Function.RECIPROCAL: "1/x",
    Function.INVERSE_SQRT: "1/sqrt(x)",
    Function.SIGMOID: "1/(1 + e^-x)",
    Function.SILU: "x times sigmoid(x)",
    Function.TANH: "the hyperbolic tangent",
    Function.GELU: "x times the normal distribution, (1 + erf(x/sqrt(2)))/2",
    Function.GELU_SIGMOID: "x times sigmoid(1.702 x)",
}


class Reduce(IntEnum):
    NONE = 0
    MAX = 1
    SUM = 2


class Post(IntEnum):
    """What a row register takes of a reduction t, which is FP32; one RNE to the lane's type.

    RECIPROCAL takes the reciprocal of the rounded t. MEAN: t · ``inverse_n``. INVERSE_SQRT:
    1/sqrt(t · ``inverse_n`` + ``epsilon``). Their product and sum round to FP32, RNE.
    """

    NONE = 0
    RECIPROCAL = 1
    MEAN = 2
    INVERSE_SQRT = 3


class Destination(IntEnum):
    """NONE drops stage 4, BUFFER overwrites the block on chip, MEMORY encodes and stores to C."""

    NONE = 0
    BUFFER = 1
    MEMORY = 2


class Feature(IntFlag):
    """What a program may need of a build; unknown or missing bits are refused."""

    POSIT8 = 1 << 0
    POSIT8ES0 = 1 << 1
    POSIT8ES2 = 1 << 2
    E4M3 = 1 << 3
    E5M2 = 1 << 4
    BF16 = 1 << 5
    INT8 = 1 << 6
    ACC_BF16 = 1 << 8
    ACC_FP32 = 1 << 9
    ACC_EXACT = 1 << 10
    ACC_INT32 = 1 << 11
    SOFTMAX_PWL = 1 << 16
    SOFTMAX_APPROX = 1 << 17
    SOFTMAX_APPROX_SHIFTED = 1 << 18
    FUNCTIONS = 1 << 20
    BACKWARD = 1 << 24


class ErrorCause(IntEnum):
    """Bit number in the CSR ``ERROR`` and why a program stopped."""

    BAD_MAGIC = 0
    BAD_VERSION = 1
    BAD_FEATURE = 2
    BAD_LENGTH = 3
    BAD_OPCODE = 4
    BAD_SHAPE = 5
    BAD_FIELD = 6
    MISALIGNED = 7
    OVERSIZE = 8
    READ_ERROR = 9
    WRITE_ERROR = 10
    WATCHDOG = 11
    STOPPED = 12
    BUS_STUCK = 13
    K_RANGE = 14
    INDEX_RANGE = 15


ERROR_DOCS: dict[ErrorCause, str] = {
    ErrorCause.BAD_MAGIC: "the header's magic is wrong",
    ErrorCause.BAD_VERSION: "the program needs another ISA major or a newer minor version",
    ErrorCause.BAD_FEATURE: "the program needs a feature that this build lacks",
    ErrorCause.BAD_LENGTH: "the header announces no command, or no END came within its count",
    ErrorCause.BAD_OPCODE: "the opcode is unknown or reserved",
    ErrorCause.BAD_SHAPE: "M, K or N is 0",
    ErrorCause.BAD_FIELD: "a reserved field, an operand or the instruction list is not valid",
    ErrorCause.MISALIGNED: "a program not at a multiple of 64, a BF16 tensor at an odd address",
    ErrorCause.OVERSIZE: "a shape beyond 2^24 - 1, or a row to be kept on chip that does not fit",
    ErrorCause.READ_ERROR: "an AXI read answered SLVERR or DECERR",
    ErrorCause.WRITE_ERROR: "an AXI write answered SLVERR or DECERR",
    ErrorCause.WATCHDOG: "the program ran longer than the watchdog's limit",
    ErrorCause.STOPPED: "the host stopped the program",
    ErrorCause.BUS_STUCK: "the bus never answered; start is refused until reset",
    ErrorCause.K_RANGE: "K is larger than the build's exact accumulator has room for (k_max)",
    ErrorCause.INDEX_RANGE: "x_gather: an index is not below the table's rows",
}

_ENCODING_FEATURES = {
    "posit8": Feature.POSIT8, "posit8es0": Feature.POSIT8ES0, "posit8es2": Feature.POSIT8ES2,
    "e4m3": Feature.E4M3, "e5m2": Feature.E5M2, "bf16": Feature.BF16,
}
_ACCUMULATOR_FEATURES = {"bf16": Feature.ACC_BF16, "fp32": Feature.ACC_FP32,
                         "exact": Feature.ACC_EXACT}
_SOFTMAX_FEATURES = {
    "pwl": Feature.SOFTMAX_PWL, "approx": Feature.SOFTMAX_APPROX,
    "approx_shifted": Feature.SOFTMAX_APPROX_SHIFTED,
}


def features_of(config: AcceleratorConfig) -> Feature:
    """Every feature that a build of ``config`` has."""
    found = _ACCUMULATOR_FEATURES[config.acc] | _SOFTMAX_FEATURES[config.softmax]
    for encoding in config.format.encodings:
        found |= _ENCODING_FEATURES[encoding.name]
    if config.functions == "all":
        found |= Feature.FUNCTIONS
    return found


def largest_members(config: AcceleratorConfig) -> dict[str, IntEnum]:
    """The last member of its enum that each field of an instruction may name in a build of
    ``config``: what comes with the feature FUNCTIONS is behind what every build has."""
    whole = config.functions == "all"
    operand = Operand.SELF if whole else Operand.R1
    return {
        "multiply": operand, "add": Operand.R1, "scale": operand,
        "function": max(Function) if whole else Function.RECIPROCAL, "reduce": max(Reduce),
        "post": max(Post) if whole else Post.RECIPROCAL, "destination": max(Destination),
    }
