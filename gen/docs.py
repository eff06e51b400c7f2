"""``python -m gen.docs`` (``make docs``): the pages of docs/ that are printed from ``hdl.spec``.

The diagram of a posit8 build is drawn from the design itself (``gen.diagram``).

``--check`` writes nothing; it names the pages that differ from what would be written and then ends
with code 1.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from pathlib import Path

from gen.cli import Parser, deliver
from gen.cli.folders import checkout
from gen.diagram import draw
from gen.regmap import bit_range, register_map
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    ERROR_DOCS,
    FUNCTION_DOCS,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    ISA_MAJOR,
    ISA_MINOR,
    OPCODE_DOCS,
    Destination,
    Feature,
    Field,
    Function,
    Operand,
    Post,
    Reduce,
    reserved_mask,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import COUNTER_BASE, COUNTERS

__all__ = ["DOCS", "PAGES", "main", "stale"]

DOCS = Path(__file__).resolve().parent.parent / "docs"
_NOTE = "<!-- Generated from hdl/spec by `make docs`; changes here are overwritten. -->\n\n"


def _registers() -> str:
    return register_map("md")


def _fields(table: Mapping[str, Field]) -> list[str]:
    return ["| word | bits | field | meaning |", "|---|---|---|---|",
            *(f"| {_words(field)} | {bit_range(field.low, min(field.bits, 32))} | `{field.name}` "
              f"| {field.doc} |" for field in table.values())]


def _words(field: Field) -> str:
    last = field.word + (field.low + field.bits - 1) // 32
    return str(field.word) if last == field.word else f"{field.word}–{last}"


def _reserved(table: Mapping[str, Field], size: int) -> str:
    bits = reserved_mask(table, 8 * size).bit_count()
    return f"The other {bits} of {8 * size} bits are reserved and must be 0 (BAD_FIELD)."


def _functions() -> list[str]:
    return ["", "### Function", "", "| value | name | of x |", "|---|---|---|",
            *(f"| {int(member)} | {member.name} | {doc} |"
              for member, doc in FUNCTION_DOCS.items())]


def _enumeration(kind: type[IntEnum]) -> list[str]:
    doc = vars(kind).get("__doc__") or ""
    own = [" ".join(doc.split()), ""] if doc and doc != IntEnum.__doc__ else []
    return ["", f"### {kind.__name__}", "", *own, "| value | name |", "|---|---|",
            *(f"| {int(member)} | {member.name} |" for member in kind)]


def _commands() -> str:
    lines = ["# Commands", "",
             f"ISA {ISA_MAJOR}.{ISA_MINOR}. A program is a header of {HEADER_BYTES} bytes at a "
             f"multiple of 64, followed by commands of {COMMAND_BYTES};",
             "words of 32 bits, little-endian. [Programs](programs.md) says what they do,",
             "`python -m gen.top --regmap h` prints this page as a C header with packers.", "",
             "## Header", "", *_fields(HEADER), "",
             "## Command", "", *_fields(COMMAND), "", _reserved(COMMAND, COMMAND_BYTES), "",
             "## Opcodes", "", "| opcode | name | does |", "|---|---|---|",
             *(f"| {int(opcode)} | {opcode.name} | {doc} |"
               for opcode, doc in OPCODE_DOCS.items()), "",
             "## Instruction", "", "A word of the command's list.", "", *_fields(INSTRUCTION), "",
             _reserved(INSTRUCTION, 4)]
    for kind in (Operand, Function, Reduce, Post, Destination):
        lines += _functions() if kind is Function else _enumeration(kind)
    lines += ["", "## Features", "", "| bit | feature |", "|---|---|",
              *(f"| {feature.bit_length() - 1} | {feature.name} |" for feature in Feature), "",
              "## Error causes", "", "Bits of the register ERROR.", "",
              "| bit | cause | meaning |", "|---|---|---|",
              *(f"| {int(cause)} | {cause.name} | {doc} |" for cause, doc in ERROR_DOCS.items())]
    return "\n".join(lines) + "\n"


def _counters() -> str:
    lines = ["# Counters", "",
             f"{len(COUNTERS)} counters of 64 bits, each as two registers, the low word first.",
             "They count while a program runs; START clears them, COUNTER_CONTROL freezes or",
             "clears them ([registers](registers.md)).", "",
             "| offset | counter | counts |", "|---|---|---|",
             *(f"| 0x{COUNTER_BASE + 8 * index:03X} | {name} | {doc} |"
               for index, (name, doc) in enumerate(COUNTERS))]
    return "\n".join(lines) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "registers.md": lambda: _NOTE + _registers(),
    "commands.md": lambda: _NOTE + _commands(),
    "counters.md": lambda: _NOTE + _counters(),
    "accelerator.svg": lambda: draw(AcceleratorConfig("posit8")),
}


def stale(folder: Path = DOCS) -> list[str]:
    """Pages in ``folder`` that are absent or not what ``hdl.spec`` says."""
    return [name for name, page in PAGES.items()
            if not (folder / name).is_file()
            or (folder / name).read_text(encoding="utf-8") != page()]


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="gen.docs", description="Write the pages that follow from hdl/spec.")
    parser.add_argument("--check", action="store_true", help="write nothing, tell stale pages")
    arguments = parser.parse_args(argv)
    if checkout() is None:
        parser.error(f"pages must be those of a checkout; the sources in {DOCS.parent} are none")
    old = stale()
    if arguments.check:
        for name in old:
            print(f"docs/{name} is stale: run `make docs`")
        return int(bool(old))
    for name in old:
        deliver(parser, str(DOCS / name), PAGES[name])
        print(f"docs/{name}: written")
    print(f"docs: {len(PAGES)} pages, {len(old)} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
