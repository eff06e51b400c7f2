"""``python -m gen.docs`` (``make docs``): the pages of docs/ that are printed from ``hdl.spec``.

The diagram of a posit8 build is drawn from the design itself (``gen.diagram``).

``--check`` writes nothing; it names the pages that differ from what would be written and then ends
with code 1.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gen.cli import Parser, deliver
from gen.cli.folders import checkout
from gen.diagram import draw
from gen.regmap import bit_range, register_map
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    COMPUTING,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    ISA_MAJOR,
    ISA_MINOR,
    LISTED,
    TENSORS,
    AtLeast,
    CommandField,
    ErrorCause,
    Feature,
    Field,
    InstructionField,
    Member,
    Needs,
    Opcode,
    Trait,
    When,
    reserved_mask,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.features import HYBRID, NARROW
from hdl.spec.registers import COUNTER_BASE, COUNTERS
from hdl.spec.timing import INDEX_BYTES

__all__ = ["DOCS", "PAGES", "main", "stale"]

DOCS = Path(__file__).resolve().parent.parent / "docs"
_NOTE = "<!-- Generated from hdl/spec by `make docs`; changes here are overwritten. -->\n\n"


def _registers() -> str:
    return register_map("md")


def _placed(table: Mapping[str, Any]) -> list[Any]:
    """The fields of a table in the order of their bits."""
    return sorted(table.values(), key=lambda field: field.offset)


def _fields(table: Mapping[str, Any], rules: Callable[[Any], str] | None = None) -> list[str]:
    """The rows of a table; ``rules`` adds a column of what must hold."""
    more = (" must |", "---|") if rules else ("", "")
    return ["| word | bits | field | meaning |" + more[0], "|---|---|---|---|" + more[1],
            *(f"| {_words(field)} | {bit_range(field.low, min(field.bits, 32))} | `{field.name}` "
              f"| {field.doc} |" + (f" {rules(field)} |" if rules else "")
              for field in _placed(table))]


def _words(field: Field) -> str:
    last = field.word + (field.low + field.bits - 1) // 32
    return str(field.word) if last == field.word else f"{field.word}–{last}"


def _reserved(table: Mapping[str, Field], size: int) -> str:
    bits = reserved_mask(table, 8 * size).bit_count()
    return f"The other {bits} of {8 * size} bits are reserved and must be 0 (BAD_FIELD)."


def _names(needs: Needs) -> str:
    """The builds that have one feature of each entry."""
    if needs in (HYBRID, NARROW):
        return {HYBRID: "both FP8 encodings", NARROW: "8-bit formats"}[needs]
    return " and ".join(" or ".join(str(feature.name) for feature in Feature if feature in choice)
                        for choice in needs)


def _where(when: When) -> str:
    return ("/".join(opcode.name for opcode in when.opcodes)
            + f" with `{when.flag}`" * bool(when.flag))


def _command_rules(field: CommandField) -> str:
    """What must hold of a command's field, and where it means nothing."""
    where = [_where(when) for when in field.used if when.opcodes != COMPUTING or when.flag]
    found = [" or ".join(where)] * bool(where)
    found += [f"builds of {_names(field.needs)}"] * bool(field.needs)
    if found:
        found = [", ".join(found) + ", else " + (f"{field.default}" if field.strict
                                                 else "ignored")]
    found += [f"ISA {ISA_MAJOR}.{field.minor}"] * bool(field.minor)
    for limit in field.limits:
        if isinstance(limit, AtLeast):
            found.append(f"at least {limit.least} ({limit.cause.name})")
        else:
            most = f"`{limit.most}`" if isinstance(limit.most, str) else str(limit.most)
            found.append(f"at most {most} ({limit.cause.name}"
                         + f", builds of {_names(limit.needs)}" * bool(limit.needs) + ")")
    if field.bars:
        found.append("no instruction " + " and ".join(
            _BARRED[trait] for trait in field.bars) + " at once")
    if Trait.ON_CHIP in field.traits:
        found.append("a row fits a bank (OVERSIZE)")
    return "; ".join(found)


def _instruction_rules(field: InstructionField) -> str:
    found = ["a member of the build's"] if field.kind is not None else []
    found += [f"0, but in builds of {_names(field.needs)}"] if field.needs else []
    if field.bars:
        found.append("not " + " and ".join(_BARRED[trait] for trait in field.bars) + " at once")
    if field.only:
        found.append("only " + " and ".join(_BARRED[trait] for trait in field.only))
    return "; ".join(found)


_BARRED = {Trait.REDUCES: "reduces rows", Trait.STORES: "stores", Trait.ON_CHIP: "keeps the block",
           Trait.WHOLE_ROWS: "works on whole rows", Trait.LARGEST: "fills A",
           Trait.ITEMS: "stores an item of each row"}


def _member_rules(member: Member) -> str:
    meaning = member.meaning
    found = [_names(meaning.needs)] * bool(meaning.needs and all(meaning.needs))
    found += [f"ISA {ISA_MAJOR}.{meaning.minor}"] * bool(meaning.minor)
    found += ["in " + ", ".join(f"`{name}`" for name in meaning.fields)] * bool(meaning.fields)
    found += ["in one stage of an instruction"] * meaning.once
    found += [f"with `{meaning.requires}`"] * bool(meaning.requires)
    if meaning.bars:
        found.append("no instruction of the list " + " and ".join(
            _BARRED[trait] for trait in meaning.bars))
    if meaning.register is not None:
        found.append(f"something was reduced into R{meaning.register} before")
    found += ["a row fits a bank"] * (Trait.ON_CHIP in meaning.traits)
    return "; ".join(found)


def _enumeration(kind: type[Member]) -> list[str]:
    doc = vars(kind).get("__doc__") or ""
    own = [" ".join(doc.split()), ""] if doc else []
    return ["", f"### {kind.__name__}", "", *own, "| value | name | says | needs |",
            "|---|---|---|---|",
            *(f"| {int(member)} | {member.name} | {member.doc} | {_member_rules(member)} |"
              for member in kind)]


def _tensors() -> list[str]:
    lines = ["## Tensors", "", "| tensor | in | rows × columns | fields |", "|---|---|---|---|"]
    for name, tensor in TENSORS.items():
        for shape in tensor.shapes:
            fields = ", ".join(f"`{field.name}`" for field in _placed(COMMAND)
                               if field.tensor == name and any(
                                   set(used.opcodes) & set(shape.when.opcodes)
                                   for used in field.used))
            where = _where(shape.when) + ", where the list names it" * (name in LISTED)
            size = f"{str(shape.rows).upper()} × {str(shape.columns).upper()}"
            size += f", {INDEX_BYTES} bytes each, without gaps" * shape.indices
            lines.append(f"| {shape.label} | {where} | {size} | {fields} |")
    return [*lines, "", "Items of two bytes stand at even addresses with even strides "
            "(MISALIGNED); all others anywhere.", ""]


def _commands() -> str:
    lines = ["# Commands", "",
             f"ISA {ISA_MAJOR}.{ISA_MINOR}. A program is a header of {HEADER_BYTES} bytes at a "
             f"multiple of 64, followed by commands of {COMMAND_BYTES};",
             "words of 32 bits, little-endian. [Programs](programs.md) says what they do,",
             "`python -m gen.top --regmap h` prints this page as a C header with packers.", "",
             "## Header", "", *_fields(HEADER), "",
             "## Command", "", *_fields(COMMAND, _command_rules), "",
             _reserved(COMMAND, COMMAND_BYTES), "",
             "What breaks a rule is BAD_FIELD where no other cause is named. END and FENCE read no "
             "field but their opcode.", "",
             *_tensors(),
             "## Opcodes", "", "| opcode | name | does |", "|---|---|---|",
             *(f"| {int(opcode)} | {opcode.name} | {opcode.doc} |" for opcode in Opcode), "",
             "## Instruction", "", "A word of the command's list.", "",
             *_fields(INSTRUCTION, _instruction_rules), "", _reserved(INSTRUCTION, 4)]
    for kind in dict.fromkeys(field.kind for field in INSTRUCTION.values() if field.kind):
        lines += _enumeration(kind)
    lines += ["", "## Features", "", "| bit | feature |", "|---|---|",
              *(f"| {feature.bit_length() - 1} | {feature.name} |" for feature in Feature), "",
              "## Error causes", "", "Bits of the register ERROR.", "",
              "| bit | cause | meaning |", "|---|---|---|",
              *(f"| {int(cause)} | {cause.name} | {cause.doc} |" for cause in ErrorCause)]
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
