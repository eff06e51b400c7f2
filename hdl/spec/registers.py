"""The CSR map: the only source for the register block, its documentation and its headers."""

from dataclasses import dataclass

__all__ = [
    "CLIENTS",
    "COUNTED_BY",
    "COUNTERS",
    "COUNTER_BASE",
    "IDENTITY",
    "REGISTERS",
    "Register",
    "RegisterField",
]

IDENTITY = 0x61763876  # "v8va" in memory order


@dataclass(frozen=True)
class RegisterField:
    """``access``: ro (read only), rw, w1s (write 1 to trigger, reads 0), w1c (write 1 to clear)."""

    name: str
    low: int
    bits: int
    access: str
    doc: str


@dataclass(frozen=True)
class Register:
    """A 32-bit register at byte ``offset`` of the 4 KiB control space."""

    name: str
    offset: int
    doc: str
    fields: tuple[RegisterField, ...]


def _whole(name: str, offset: int, access: str, doc: str) -> Register:
    return Register(name, offset, doc, (RegisterField("VALUE", 0, 32, access, doc),))


def _bits(name: str, offset: int, doc: str, *rows: tuple[str, int, int, str, str]) -> Register:
    return Register(name, offset, doc, tuple(RegisterField(*row) for row in rows))


# In the order of their registers: name, what counts, what is counted.
_COUNTERS: tuple[tuple[str, str, str], ...] = (
    ("CYCLES", "sequencer", "clock cycles while a program ran"),
    ("COMMANDS", "sequencer", "commands handed to the units, FENCE and END included"),
    ("TILES", "core", "weight tiles that the array worked on"),
    ("ARRAY_ROWS", "core",
     "operand rows fed to the array; times D² the multiply-accumulates done"),
    ("STALL_INPUT", "core", "cycles in which the array waited for the input buffer"),
    ("STALL_WEIGHT", "core", "cycles in which the array waited for weights"),
    ("STALL_ACCUMULATOR", "core",
     "cycles in which the array waited for a free accumulation bank"),
    ("VECTOR_BEATS", "core", "beats of L elements through the vector unit"),
    ("STALL_VECTOR", "core",
     "cycles in which the vector unit held a beat under back-pressure"),
    ("STALL_OPERAND", "core", "cycles in which the vector unit waited for operand Y"),
    ("READ_BURSTS", "reader", "AXI read bursts issued"),
    ("READ_BEATS", "reader", "AXI read beats taken"),
    ("WRITE_BURSTS", "writer", "AXI write bursts issued"),
    ("WRITE_BEATS", "writer", "AXI write beats sent"),
    ("SATURATIONS", "core", "finite results beyond the largest finite value of C's format"),
    ("NARS", "core", "results written as NaR or NaN"),
    ("ACTIVE", "sequencer", "cycles in which a unit held a command or a write was unanswered"),
)
COUNTERS: tuple[tuple[str, str], ...] = tuple((name, doc) for name, _, doc in _COUNTERS)
COUNTED_BY: dict[str, tuple[str, ...]] = {
    source: tuple(name for name, by, _ in _COUNTERS if by == source)
    for source in dict.fromkeys(by for _, by, _ in _COUNTERS)}
"""The names of the counters that each part of the accelerator feeds."""
COUNTER_BASE = 0x100

CLIENTS: tuple[tuple[str, str], ...] = (
    ("program", "header or command"),
    ("operands", "A or X"),
    ("weights", "B"),
    ("y", "Y0 or Y1"),
    ("results", "C, the only one that writes"),
)

REGISTERS: tuple[Register, ...] = (
    _whole("IDENTITY", 0x000, "ro", "0x61763876, the letters v8va in memory order"),
    _bits("ISA_VERSION", 0x004, "version of the program format",
          ("MINOR", 0, 16, "ro", "minor"), ("MAJOR", 16, 16, "ro", "major")),
    _whole("CONFIG_HASH_LOW", 0x008, "ro", "digest of the configuration, bits 31 to 0"),
    _whole("CONFIG_HASH_HIGH", 0x00C, "ro", "digest of the configuration, bits 63 to 32"),
    _whole("FEATURES", 0x010, "ro", "features of this build, as in a program's header"),
    _bits("SHAPE", 0x014, "dimensions of this build",
          ("DIM", 0, 8, "ro", "D: rows and columns of the array"),
          ("LANES", 8, 8, "ro", "L: lanes of the vector unit"),
          ("BUS_BYTES", 16, 8, "ro", "bytes of the AXI4 data bus"),
          ("COUNTERS", 24, 8, "ro", "number of performance counters")),
    _bits("CONTROL", 0x020, "commands of the host",
          ("START", 0, 1, "w1s",
           "clear STATUS and the counters, run the program; ignored while busy or stuck"),
          ("STOP", 1, 1, "w1s", "stop the program, drain the bus, report STOPPED"),
          ("SOFT_RESET", 2, 1, "w1s", "stop, then clear errors, status, interrupts, counters")),
    _bits("STATUS", 0x024, "state of the sequencer",
          ("BUSY", 0, 1, "ro", "a program runs or is being stopped"),
          ("DONE", 1, 1, "ro", "the last program reached its END"),
          ("FAILED", 2, 1, "ro", "the last program stopped with an error"),
          ("BUS_STUCK", 3, 1, "ro",
           "the bus never answered, or gave what was not asked for; start is refused until "
           "reset")),
    _whole("PROGRAM_LOW", 0x028, "rw", "byte address of the program, bits 31 to 0"),
    _whole("PROGRAM_HIGH", 0x02C, "rw", "byte address of the program, bits 63 to 32"),
    _whole("ERROR", 0x030, "w1c", "error causes, one bit each (ErrorCause)"),
    _whole("ERROR_ADDRESS_LOW", 0x034, "ro", "address of the offending header or command, low"),
    _whole("ERROR_ADDRESS_HIGH", 0x038, "ro", "address of the offending header or command, high"),
    _bits("INTERRUPT_ENABLE", 0x03C, "which events raise the interrupt",
          ("DONE", 0, 1, "rw", "a program reached its END"),
          ("FAILED", 1, 1, "rw", "a program stopped with an error")),
    _bits("INTERRUPT", 0x040, "events that have happened",
          ("DONE", 0, 1, "w1c", "a program reached its END"),
          ("FAILED", 1, 1, "w1c", "a program stopped with an error")),
    _whole("WATCHDOG", 0x044, "rw", "most cycles a program may run; 0 switches the watchdog off"),
    _bits("COUNTER_CONTROL", 0x048, "performance counters",
          ("FREEZE", 0, 1, "rw", "hold all counters, so that a set read is of one moment"),
          ("CLEAR", 1, 1, "w1s", "set all counters to 0")),
    _bits("ERROR_DETAIL", 0x04C, "more on the error that ERROR_ADDRESS belongs to",
          ("CLIENT", 0, 3, "ro",
           "READ_ERROR, WRITE_ERROR, BUS_STUCK: whose transfer it was; "
           + ", ".join(f"{index} {doc}" for index, (_, doc) in enumerate(CLIENTS))),
          ("RESPONSE", 8, 2, "ro", "the bus's answer: 2 SLVERR, 3 DECERR, 0 none of them")),
    *(register for index, (name, doc) in enumerate(COUNTERS) for register in (
        _whole(f"{name}_LOW", COUNTER_BASE + 8 * index, "ro", f"{doc}; bits 31 to 0"),
        _whole(f"{name}_HIGH", COUNTER_BASE + 8 * index + 4, "ro", f"{doc}; bits 63 to 32"))),
)
