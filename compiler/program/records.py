"""The records of a program in memory, one by one, as fields."""

from collections.abc import Iterator, Mapping

import numpy as np

from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    INSTRUCTIONS,
    Field,
    Opcode,
    pack,
    reserved_mask,
    unpack,
)

__all__ = ["RESERVED", "commands", "instructions", "join", "split"]

RESERVED = "reserved"  # every bit of a record that belongs to no field, in its place


def split(table: Mapping[str, Field], record: bytes) -> dict[str, int]:
    """Every field of ``record``, RESERVED among them: nothing of it is lost."""
    mask = reserved_mask(table, 8 * len(record))
    return unpack(table, record) | {RESERVED: int.from_bytes(record, "little") & mask}


def join(table: Mapping[str, Field], fields: Mapping[str, int], size: int) -> bytes:
    """The record of ``size`` bytes; fields that are not named are 0. ``ValueError`` on what does
    not fit."""
    rest = fields.get(RESERVED, 0)
    if rest & ~reserved_mask(table, 8 * size):
        raise ValueError(f"{RESERVED} must have bits that belong to no field alone, not {rest:#x}")
    packed = pack(table, {n: v for n, v in fields.items() if n != RESERVED}, size)
    return (int.from_bytes(packed, "little") | rest).to_bytes(size, "little")


def commands(memory: np.ndarray, program_address: int, base: int = 0
             ) -> Iterator[tuple[int, dict[str, int]]]:
    """Address and fields of each command up to END, the header's count or the image's end.

    ``memory`` is the image from address ``base`` on.
    """
    image = memory[program_address - base:].tobytes()
    count = unpack(HEADER, image[:HEADER_BYTES])["commands"]
    for start in range(HEADER_BYTES, HEADER_BYTES + count * COMMAND_BYTES, COMMAND_BYTES):
        record = image[start:start + COMMAND_BYTES]
        if len(record) < COMMAND_BYTES:
            return
        fields = split(COMMAND, record)
        yield program_address + start, fields
        if fields["opcode"] == Opcode.END:
            return


def instructions(words: int) -> Iterator[int]:
    """The 32-bit words of a list, up to the one that is marked last."""
    for index in range(INSTRUCTIONS):
        word = words >> 32 * index & 0xFFFFFFFF
        yield word
        if word >> INSTRUCTION["last"].offset & 1:
            return
