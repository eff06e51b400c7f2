"""Records of the program format: named fields of bits, packed little-endian."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Field", "pack", "reserved_mask", "unpack"]


@dataclass(frozen=True)
class Field:
    """``bits`` bits from bit ``low`` of 32-bit word ``word``; may run on into later words."""

    name: str
    word: int
    low: int
    bits: int
    doc: str

    @property
    def offset(self) -> int:
        """First bit, counted from the start of the record."""
        return self.word * 32 + self.low


def reserved_mask(table: Mapping[str, Field], bits: int) -> int:
    """Bits of a record of ``bits`` bits that belong to no field; they must be 0."""
    mask = (1 << bits) - 1
    for field in table.values():
        mask &= ~((1 << field.bits) - 1 << field.offset)
    return mask


def pack(table: Mapping[str, Field], values: Mapping[str, int], size: int) -> bytes:
    """A record of ``size`` bytes; fields not named are 0. ``ValueError`` on what does not fit."""
    word = 0
    for name, value in values.items():
        if name not in table:
            raise ValueError(f"field must be one of {', '.join(table)}, not {name!r}")
        if not 0 <= value < 1 << table[name].bits:
            raise ValueError(f"{name} must fit {table[name].bits} bits, not {value!r}")
        word |= int(value) << table[name].offset
    return word.to_bytes(size, "little")


def unpack(table: Mapping[str, Field], record: bytes) -> dict[str, int]:
    """Every field of ``record``, by name."""
    word = int.from_bytes(record, "little")
    return {name: word >> f.offset & (1 << f.bits) - 1 for name, f in table.items()}
