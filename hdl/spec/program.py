"""A program in memory: a 64-byte header at a multiple of 64, then 128-byte commands."""

from collections.abc import Iterator
from typing import Any

from hdl.spec.command_fields import COMMAND
from hdl.spec.config import AcceleratorConfig
from hdl.spec.features import available
from hdl.spec.instructions import INSTRUCTION
from hdl.spec.meaning import Member
from hdl.spec.opcodes import Opcode
from hdl.spec.record import Field

__all__ = ["COMMAND_BYTES", "HEADER", "HEADER_BYTES", "ISA_MAJOR", "ISA_MINOR", "MAGIC",
           "PROGRAM_ALIGNMENT", "isa_minor", "newest_minor"]

MAGIC = 0x4156544F  # "OTVA" in memory order
ISA_MAJOR = 1
HEADER_BYTES = 64
COMMAND_BYTES = 128
PROGRAM_ALIGNMENT = HEADER_BYTES
"""A header's address is a multiple of it, else MISALIGNED."""


def _versioned() -> Iterator[Any]:
    """Every field, and the meaning of every opcode and of every value of a field."""
    yield from (field for table in (COMMAND, INSTRUCTION) for field in table.values())
    kinds: list[type[Member]] = [Opcode, *(field.kind for field in INSTRUCTION.values()
                                           if field.kind is not None)]
    yield from (member.meaning for kind in kinds for member in kind)


def newest_minor() -> int:
    """The newest ISA minor version that a field, an opcode or a value of a field names."""
    return max(known.minor for known in _versioned())


def isa_minor(config: AcceleratorConfig) -> int:
    """The ISA minor version of a build of ``config``: the newest of what it has."""
    return max(known.minor for known in _versioned() if available(known.needs, config))


ISA_MINOR = newest_minor()

HEADER = {field.name: field for field in (
    Field("magic", 0, 0, 32, "0x4156544F, the letters OTVA in memory order"),
    Field("isa_minor", 1, 0, 16, "lowest ISA minor version that the program needs"),
    Field("isa_major", 1, 16, 16, "ISA major version; must equal the hardware's"),
    Field("features", 2, 0, 32, "every feature that the program needs (Feature)"),
    Field("commands", 3, 0, 32, "number of commands that follow, at least 1"),
    Field("config_hash", 4, 0, 64, "digest of the configuration it was built for; informative"),
    Field("scalars", 6, 0, 64, "address of the table of scalars, BF16 words, even: MISALIGNED in a "
                               "command that takes one of an odd table"),
)}
