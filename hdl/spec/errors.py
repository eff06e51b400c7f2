"""Why a program stops."""

from hdl.spec.config import COUNT_BITS
from hdl.spec.meaning import Meaning, Member

__all__ = ["ErrorCause"]


class ErrorCause(Member):
    """Bit number in the CSR ``ERROR`` and why a program stopped."""

    BAD_MAGIC = 0, Meaning("the header's magic is wrong")
    BAD_VERSION = 1, Meaning("the program needs another ISA major or a newer minor version")
    BAD_FEATURE = 2, Meaning("the program needs a feature that this build lacks")
    BAD_LENGTH = 3, Meaning("the header announces no command, or no END came within its count")
    BAD_OPCODE = 4, Meaning("the opcode is unknown or reserved")
    BAD_SHAPE = 5, Meaning("M, K or N is 0")
    BAD_FIELD = 6, Meaning("a reserved field, an operand or the instruction list is not valid")
    MISALIGNED = 7, Meaning(
        "a program not at a multiple of 64, BF16 (a tensor, scalars) at an odd address")
    OVERSIZE = 8, Meaning(
        f"a shape beyond 2^{COUNT_BITS} - 1, or a row to be kept on chip that does not fit")
    READ_ERROR = 9, Meaning("an AXI read answered SLVERR or DECERR")
    WRITE_ERROR = 10, Meaning("an AXI write answered SLVERR or DECERR")
    WATCHDOG = 11, Meaning("the program ran longer than the watchdog's limit")
    STOPPED = 12, Meaning("the host stopped the program")
    BUS_STUCK = 13, Meaning(
        "the bus never answered, or gave what was not asked for; start is refused until reset")
    K_RANGE = 14, Meaning(
        "K is larger than the build's accumulator can hold: k_max of exact, 131071 of int32")
    INDEX_RANGE = 15, Meaning("x_gather: an index is not below the table's rows")
