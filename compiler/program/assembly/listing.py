"""Whole programs as text and back: ``assemble(disassemble(memory, address)) == program``."""

import re

import numpy as np

from compiler.program.assembly.commands import (
    command_text,
    header_text,
    parse_command,
    parse_header,
)
from compiler.program.records import commands, join, split
from hdl.spec.commands import COMMAND, COMMAND_BYTES, HEADER, HEADER_BYTES

__all__ = ["AssemblyError", "assemble", "disassemble", "program_bytes"]

# What a keyboard has for the signs of the listing.
_SIGNS = (("->", "→"), ("^T", "ᵀ"), ("*", "×"), ("1/sqrt(", "1/√("), ("+ eps)", "+ ε)"),
          (" - ", " − "), (" . ", " · "))
_ADDRESS = re.compile(r"0x[0-9a-f]+\s+", re.IGNORECASE)


class AssemblyError(ValueError):
    """A text that is no program; one line that names the line at fault."""


def disassemble(memory: np.ndarray, program_address: int, base: int = 0) -> list[str]:
    """The header's line and one line for each command up to END, the count or the image's end.

    ``memory`` is the image from address ``base`` on. Every bit that is not 0 is in the text, also
    where no rule explains it: a broken program can be read and assembled too.
    """
    start = program_address - base
    header = split(HEADER, memory[start:start + HEADER_BYTES].tobytes())
    return [f"{program_address:#010x} {header_text(header)}"] + [
        f"{address:#010x} {command_text(fields)}"
        for address, fields in commands(memory, program_address, base)]


def program_bytes(memory: np.ndarray, program_address: int, base: int = 0) -> bytes:
    """What ``disassemble`` shows: header and commands as they lie in ``memory``."""
    count = sum(1 for _ in commands(memory, program_address, base))
    start = program_address - base
    return memory[start:start + HEADER_BYTES + count * COMMAND_BYTES].tobytes()


def assemble(text: str) -> bytes:
    """Header and commands of ``text``, a line each; ``AssemblyError``.

    Empty lines, what follows a ``#`` and an address before the line are passed over. The number
    of commands is counted where the header does not give it. ASCII may stand for the listing's
    signs: -> ^T * - . 1/sqrt( eps.
    """
    header, records = None, []
    for number, line in enumerate(text.splitlines(), 1):
        line = _ADDRESS.sub("", line.partition("#")[0].strip(), count=1)
        if not line:
            continue
        for plain, sign in _SIGNS:
            line = line.replace(plain, sign)
        try:
            if header is None:
                header = parse_header(line)
                join(HEADER, header, HEADER_BYTES)
            else:
                records.append(join(COMMAND, parse_command(line), COMMAND_BYTES))
        except ValueError as error:
            raise AssemblyError(f"line {number}: {error}") from None
    if header is None:
        raise AssemblyError("line 1: program must begin with header isa MAJOR.MINOR, not nothing")
    header = {"commands": len(records)} | header
    return join(HEADER, header, HEADER_BYTES) + b"".join(records)
