"""Reading the 32-bit words of a command's instruction list."""

from amaranth.hdl import Value

from hdl.spec.commands import INSTRUCTION

__all__ = ["instruction_field"]


def instruction_field(instruction: Value, name: str) -> Value:
    """One field of a vector instruction."""
    field = INSTRUCTION[name]
    return instruction[field.low:field.low + field.bits]
