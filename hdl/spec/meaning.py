"""What a value of the program format means, as data next to its number."""

from dataclasses import dataclass
from enum import Flag, IntEnum, auto
from typing import TYPE_CHECKING

from hdl.spec.features import Needs

__all__ = ["Meaning", "Member", "Trait"]


class Trait(Flag):
    """What an opcode, an instruction or a flag of a command does, as far as others must know.

    COMPUTES: the command has a shape, tensors and an instruction list. WHOLE_ROWS: the block must
    hold whole rows, or it streams them. ON_CHIP: a row must fit an accumulation bank. REDUCES: a
    row register takes a reduction over each row. STORES: stage 4 is encoded and goes to memory.
    LARGEST: register A takes the largest magnitude of stage 4. ITEMS: an item of each row goes to a
    second result.
    """

    NOTHING = 0
    COMPUTES = auto()
    WHOLE_ROWS = auto()
    ON_CHIP = auto()
    REDUCES = auto()
    STORES = auto()
    LARGEST = auto()
    ITEMS = auto()


@dataclass(frozen=True)
class Meaning:
    """What a member of an enumeration says.

    Attributes
    ----------
    doc: one line for the reference pages.
    needs: features; where a build lacks them, the value is refused.
    minor: the ISA minor version that brought it.
    traits: what it does.
    fields: of the instruction, those that may name it; (): all of its kind.
    once: at most one field of an instruction may name it.
    register: the row register that it reads; something must have been reduced into that before.
    bars: no instruction of the same list may have all of these traits, else BAD_FIELD.
    reads: fields of the command that it takes.
    tensors: of the command, those that it touches; of several the field ``y`` picks one.
    requires: a field of the instruction that must not be 0 beside it; "": none.
    """

    doc: str
    needs: Needs = ()
    minor: int = 0
    traits: Trait = Trait.NOTHING
    fields: tuple[str, ...] = ()
    once: bool = False
    register: int | None = None
    bars: Trait = Trait.NOTHING
    reads: tuple[str, ...] = ()
    tensors: tuple[str, ...] = ()
    requires: str = ""


class Member(IntEnum):
    """A number with its ``meaning``; members are written ``NAME = number, Meaning(...)``."""

    meaning: Meaning

    if not TYPE_CHECKING:  # a call looks a member up by its number
        def __new__(cls, number: int, meaning: Meaning):
            member = int.__new__(cls, number)
            member._value_ = number
            member.meaning = meaning
            return member

    @property
    def doc(self) -> str:
        return self.meaning.doc
