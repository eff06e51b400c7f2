"""The program format in one import: header, commands, vector instructions, features, causes.

A program is a 64-byte header at a multiple of 64 followed by 128-byte commands, all
little-endian. Fields are tables of ``hdl.spec.record.Field``, word counting 32-bit words from the
start of the record; ``pack`` and ``unpack`` serve every tool, the hardware slices the same table.
What a field, a value or a tensor means stands with it: ``hdl.spec.command_fields``,
``instructions``, ``opcodes``, ``tensors``, ``features``, ``errors``.
"""

from hdl.spec.command_fields import COMMAND, AtLeast, AtMost, CommandField, Role, Unit, means
from hdl.spec.errors import ErrorCause
from hdl.spec.features import Feature, Needs, available, features_of
from hdl.spec.instructions import (
    INSTRUCTION,
    INSTRUCTIONS,
    STAGES,
    Destination,
    Function,
    InstructionField,
    Operand,
    Post,
    Reduce,
    meanings,
    members,
    touched,
    traits,
)
from hdl.spec.meaning import Meaning, Member, Trait
from hdl.spec.opcodes import COMPUTING, Opcode, When
from hdl.spec.program import (
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    ISA_MAJOR,
    ISA_MINOR,
    MAGIC,
    PROGRAM_ALIGNMENT,
    isa_minor,
)
from hdl.spec.record import Field, pack, reserved_mask, unpack
from hdl.spec.tensors import LISTED, TENSORS, Shape, TensorSpec, roles

__all__ = [
    "COMMAND",
    "COMMAND_BYTES",
    "COMPUTING",
    "HEADER",
    "HEADER_BYTES",
    "INSTRUCTION",
    "INSTRUCTIONS",
    "ISA_MAJOR",
    "ISA_MINOR",
    "LISTED",
    "MAGIC",
    "PROGRAM_ALIGNMENT",
    "STAGES",
    "TENSORS",
    "AtLeast",
    "AtMost",
    "CommandField",
    "Destination",
    "ErrorCause",
    "Feature",
    "Field",
    "Function",
    "InstructionField",
    "Meaning",
    "Member",
    "Needs",
    "Opcode",
    "Operand",
    "Post",
    "Reduce",
    "Role",
    "Shape",
    "TensorSpec",
    "Trait",
    "Unit",
    "When",
    "available",
    "features_of",
    "isa_minor",
    "meanings",
    "means",
    "members",
    "pack",
    "reserved_mask",
    "roles",
    "touched",
    "traits",
    "unpack",
]
