"""A program in memory: a 64-byte header at a multiple of 64, then 128-byte commands."""

from hdl.spec.command_fields import COMMAND
from hdl.spec.instructions import INSTRUCTION
from hdl.spec.meaning import Member
from hdl.spec.opcodes import Opcode
from hdl.spec.record import Field

__all__ = ["COMMAND_BYTES", "HEADER", "HEADER_BYTES", "ISA_MAJOR", "ISA_MINOR", "MAGIC",
           "PROGRAM_ALIGNMENT",
           "newest_minor"]

MAGIC = 0x4156544F  # "OTVA" in memory order
ISA_MAJOR = 1
HEADER_BYTES = 64
COMMAND_BYTES = 128
PROGRAM_ALIGNMENT = HEADER_BYTES
"""A header's address is a multiple of it, else MISALIGNED."""


def newest_minor() -> int:
    """The newest ISA minor version that a field, an opcode or a value of a field names."""
    kinds: list[type[Member]] = [Opcode, *(field.kind for field in INSTRUCTION.values()
                                           if field.kind is not None)]
    return max(*(field.minor for table in (COMMAND, INSTRUCTION) for field in table.values()),
               *(member.meaning.minor for kind in kinds for member in kind))


ISA_MINOR = newest_minor()

HEADER = {field.name: field for field in (
    Field("magic", 0, 0, 32, "0x4156544F, the letters OTVA in memory order"),
    Field("isa_minor", 1, 0, 16, "lowest ISA minor version that the program needs"),
    Field("isa_major", 1, 16, 16, "ISA major version; must equal the hardware's"),
    Field("features", 2, 0, 32, "every feature that the program needs (Feature)"),
    Field("commands", 3, 0, 32, "number of commands that follow, at least 1"),
    Field("config_hash", 4, 0, 64, "digest of the configuration it was built for; informative"),
)}
