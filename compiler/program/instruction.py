"""One vector instruction, and the list of them that a command carries."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

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

__all__ = ["Fields", "Instruction", "instruction_words"]

Fields = dict[str, Any]
"""Fields of an ``Instruction`` by name, which several of a list share."""


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
    magnitude: bool = False
    y_second: bool = False
    rows: bool = False

    @property
    def values(self) -> dict[str, int]:
        """The fields by name, but for what ends the list."""
        return {field.name: int(getattr(self, field.name)) for field in fields(self)}

    def word(self, last: bool) -> int:
        """The 32-bit instruction; ``last`` ends the list."""
        return int.from_bytes(pack(INSTRUCTION, self.values | {"last": int(last)}, 4), "little")

    @classmethod
    def from_word(cls, word: int) -> "Instruction":
        """The instruction in ``word``; ``ValueError`` where a field is no member of its enum."""
        values = unpack(INSTRUCTION, word.to_bytes(4, "little"))
        kinds: Fields = {field.name: field.type for field in fields(cls)}
        return cls(**{name: kinds[name](values[name]) for name in kinds})

    def uses(self, operand: Operand) -> bool:
        return operand in (self.multiply, self.add, self.scale)


def instruction_words(instructions: Sequence[Instruction]) -> int:
    """The 256-bit field ``instructions`` of a command."""
    if not 1 <= len(instructions) <= INSTRUCTIONS:
        raise ValueError(
            f"instructions must be 1 to {INSTRUCTIONS}, not {len(instructions)}")
    words = 0
    for index, instruction in enumerate(instructions):
        words |= instruction.word(index == len(instructions) - 1) << 32 * index
    return words
