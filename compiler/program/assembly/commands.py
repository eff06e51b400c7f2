"""One command, or a program's header, as a line of text, read and written.

    gemm   M×K×N A[ᵀ]TENSOR · B[ᵀ]TENSOR → C[ᵀ]TENSOR[, ITEM …]: INSTRUCTIONS
    vector M×N XTENSOR → C[ᵀ]TENSOR[, ITEM …]: INSTRUCTIONS
    fence | end | opcode N [, ITEM …]
    header isa MAJOR.MINOR, commands N, features NAME …, hash N[, ITEM …]

TENSOR is [.bf16][.e5m2]@ADDRESS/STRIDE. ITEM is Y0TENSOR, Y1TENSOR, ``D@OFFSET`` (from C),
``IMM0 NUMBER`` (or IMM1, inverse_n, epsilon; hexadecimal numbers are raw words), ``IMM0 scalar N``
(or IMM1; an item of the table that the header's ITEM ``scalars ADDRESS`` places), ``rows of K by
@ADDRESS`` (x_gather: X is a table of K rows, its indices at ADDRESS), a flag that has no other sign
by its name, as ``row result``, or FIELD=VALUE of ``hdl.spec.commands`` for what nothing else says.
Fields that are not named are 0, but for K of a vector command, 1.
"""

import re
from collections.abc import Mapping

import numpy as np

from compiler.program.assembly.instructions import (
    assignments,
    list_text,
    parse_assignments,
    parse_list,
)
from compiler.program.records import instructions
from hdl.spec.commands import (
    COMMAND,
    COMPUTING,
    HEADER,
    INSTRUCTION,
    LISTED,
    MAGIC,
    TENSORS,
    CommandField,
    Feature,
    Opcode,
    Role,
    meanings,
    roles,
    touched,
    unpack,
)
from hdl.spec.formats import LaneType
from sim.model.rounding import from_words, round_to, to_words

__all__ = ["command_text", "header_text", "parse_command", "parse_header"]

_NUMBERS = {name: field.number for name, field in COMMAND.items() if field.number is not None}
_KINDS = {Role.WIDE: "bf16", Role.E5M2: "e5m2"}
_TENSOR = re.compile(r"(?P<label>[A-Z][01]?)(?P<transposed>ᵀ?)(?P<kinds>(?:\.\w+)*)"
                     r"@(?P<address>\w+)/(?P<stride>\w+)")
_SECOND = re.compile(r"D@(\w+)")
_GATHER = re.compile(r"rows of (?P<k>\w+) by @(?P<b_address>\w+)")
_ROW_MAX = "IMM0 × row max→R0; "
# A flag is said by its tensor's text, before the list, or else by its name.
_FLAGS = {name.replace("_", " "): name for name, field in COMMAND.items()
          if field.bits == 1 and field.register is None and not field.scalar
          and field.role not in (*_KINDS, Role.TRANSPOSED, Role.GATHER)}
_SCALARS = {field.scalar: name for name, field in COMMAND.items() if field.scalar}
# Tensors besides those that every command of its kind has.
_OPERANDS = [shape.label for name, tensor in TENSORS.items() for shape in tensor.shapes
             if name in LISTED and name != "c"]
_READ = [label for label in _OPERANDS if label != "D"]
_SIMPLE = {opcode.name.lower(): opcode for opcode in (Opcode.END, Opcode.FENCE)}


def _number_text(kind: LaneType, word: int) -> str:
    """The shortest decimal that rounds to ``word``, or the word."""
    value = float(from_words(kind, np.uint32(word)))
    if np.isfinite(value):
        for digits in range(1, 10):
            text = f"{value:.{digits}g}"
            if _parse_number(kind, text) == word:
                return text
    return f"{word:#x}"


def _parse_number(kind: LaneType, text: str) -> int:
    try:
        if text.startswith("0x"):
            return int(text, 16)
        return int(to_words(kind, round_to(kind, np.float64(float(text)))))
    except ValueError:
        raise ValueError(f"number must be a decimal or 0x and a word, not {text!r}") from None


def _integer(name: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f"{name} must be an integer, not {text!r}") from None


def _labels(opcode: int) -> dict[str, str]:
    """Tensors of commands of ``opcode`` by the letters of their text."""
    return {shape.label: name for name, tensor in TENSORS.items() for shape in tensor.shapes
            if opcode in shape.when.opcodes and not shape.indices}


def _told(opcode: int, name: str) -> dict[Role, CommandField]:
    """The fields that the text of tensor ``name`` can say in a command of ``opcode``."""
    return {role: field for role, field in roles(name).items()
            if any(opcode in when.opcodes for when in field.used)}


def _tensor_text(label: str, fields: Mapping[str, int]) -> str:
    told = _told(fields["opcode"], _labels(fields["opcode"])[label])
    if Role.OFFSET in told:
        return f"{label}@{fields[told[Role.OFFSET].name]:#x}"
    said = {role for role, field in told.items() if fields[field.name]}
    kinds = "".join(f".{kind}" for role, kind in _KINDS.items() if role in said)
    return (f"{label}{'ᵀ' * (Role.TRANSPOSED in said)}{kinds}"
            f"@{fields[told[Role.ADDRESS].name]:#x}/{fields[told[Role.STRIDE].name]}")


def _parse_tensor(opcode: int, text: str, *labels: str) -> dict[str, int]:
    found = _TENSOR.fullmatch(text.strip())
    if found is None or found["label"] not in labels:
        raise ValueError(f"tensor must be {' or '.join(labels)} with @address/stride, "
                         f"not {text.strip()!r}")
    label = found["label"]
    told = _told(opcode, _labels(opcode)[label])
    fields = {told[role].name: _integer(f"{role.value} of {label}", found[role.value])
              for role in (Role.ADDRESS, Role.STRIDE)}
    kinds = {kind: told[role].name for role, kind in _KINDS.items() if role in told}
    for kind in found["kinds"].split(".")[1:]:
        if kind not in kinds:
            raise ValueError(f"{label} must not be of kind {kind!r}")
        fields[kinds[kind]] = 1
    if found["transposed"] and Role.TRANSPOSED not in told:
        raise ValueError(f"{label} must not be transposed")
    return fields | ({told[Role.TRANSPOSED].name: 1} if found["transposed"] else {})


def _taken(fields: Mapping[str, int]) -> set[str]:
    """Constants and tensors that the list, or a flag, takes."""
    steps = [unpack(INSTRUCTION, word.to_bytes(4, "little"))
             for word in instructions(fields["instructions"])]
    found = {name for flag, field in COMMAND.items() if fields[flag] for name in field.reads}
    for step in steps:
        found |= touched(step)
        found |= {name for meaning in meanings(step).values() for name in meaning.reads}
    return found


def _items(fields: Mapping[str, int]) -> list[str]:
    """What X and C are, and operands of a list's stages: those that it reads or that are not 0."""
    taken = _taken(fields)
    items = [f"rows of {fields['k']} by @{fields['b_address']:#x}"] * fields["x_gather"]
    items += [text for text, name in _FLAGS.items() if fields[name]]
    for label, name in _labels(fields["opcode"]).items():
        if label in _OPERANDS and (name in taken or any(
                fields[field.name] for field in roles(name).values())):
            items.append(_tensor_text(label, fields))
    for name, kind in _NUMBERS.items():
        label = name.upper() if name.startswith("imm") else name
        if fields.get(_SCALARS.get(name, "")):
            items.append(f"{label} scalar {fields[name]}")
        elif name in taken or fields[name]:
            items.append(f"{label} {_number_text(kind, fields[name])}")
    return items


def _parse_items(opcode: int, items: list[str]) -> dict[str, int]:
    fields: dict[str, int] = {}
    rest = []
    for item in filter(None, map(str.strip, items)):
        name, _, number = item.partition(" ")
        if name.lower() in _SCALARS and number.startswith("scalar "):
            fields |= {_SCALARS[name.lower()]: 1,
                       name.lower(): _integer("scalar", number.removeprefix("scalar ").strip())}
        elif name.lower() in _NUMBERS and number:
            fields[name.lower()] = _parse_number(_NUMBERS[name.lower()], number.strip())
        elif gather := _GATHER.fullmatch(item):
            fields |= {"x_gather": 1} | {
                name: _integer(name, text) for name, text in gather.groupdict().items()}
        elif item in _FLAGS:
            fields[_FLAGS[item]] = 1
        elif offset := _SECOND.fullmatch(item):
            fields["d_offset"] = _integer("offset of D", offset[1])
        elif "@" in item and opcode in COMPUTING:
            fields |= _parse_tensor(opcode, item, *_READ)
        else:
            rest.append(item)
    return fields | parse_assignments(rest, COMMAND)


def _shape(text: str, names: str) -> dict[str, int]:
    sizes = text.split("×")
    if len(sizes) != len(names):
        raise ValueError(f"shape must be {'×'.join(names.upper())}, not {text!r}")
    return {name: _integer(name, size) for name, size in zip(names, sizes, strict=True)}


def _parts(fields: Mapping[str, int]) -> tuple[str, list[str], str]:
    """A command's line in its parts: up to the items, the items, the instructions."""
    opcode = fields["opcode"]
    if opcode not in COMPUTING:
        name = next((name for name, known in _SIMPLE.items() if known == opcode), None)
        return name or f"opcode {opcode}", [], ""
    m, k, n = fields["m"], fields["k"], fields["n"]
    if opcode == Opcode.GEMM:
        head = (f"gemm   {m}×{k}×{n} {_tensor_text('A', fields)} · "
                f"{_tensor_text('B', fields)}")
    else:
        head = f"vector {m}×{n} {_tensor_text('X', fields)}"
    passes = _ROW_MAX * fields["row_max"] + list_text(fields["instructions"])
    return f"{head} → {_tensor_text('C', fields)}", _items(fields), f": {passes}"


def command_text(fields: Mapping[str, int]) -> str:
    """The line of a command, ``fields`` as ``records.commands`` gives them."""
    head, items, passes = _parts(fields)
    told = parse_command(", ".join([head, *items]) + passes)
    return ", ".join([head, *items, *assignments(fields, told)]) + passes


def parse_command(line: str) -> dict[str, int]:
    """Fields of a line; ``ValueError`` where it is none."""
    head, colon, passes = line.partition(":")
    head, *items = head.split(",")
    name, _, rest = head.strip().partition(" ")
    fields = {}
    if name in _SIMPLE or name == "opcode":
        if colon or (name in _SIMPLE and rest):
            raise ValueError(f"{name} must be followed by , and FIELD=VALUE alone, "
                             f"not {line.strip()!r}")
        opcode = _SIMPLE.get(name) or _integer("opcode", rest)
        return {"opcode": opcode} | _parse_items(opcode, items)
    if name not in ("gemm", "vector"):
        raise ValueError(f"command must be gemm, vector, {', '.join(_SIMPLE)} or opcode, "
                         f"not {name!r}")
    shape, _, rest = rest.strip().partition(" ")
    inputs, arrow, c = rest.partition("→")
    if not arrow or not colon:
        raise ValueError(f"{name} must have → C and : with its instructions, "
                         f"not {line.strip()!r}")
    opcode = Opcode[name.upper()]
    if opcode == Opcode.GEMM:
        a, _, b = inputs.partition("·")
        fields = _shape(shape, "mkn") | _parse_tensor(opcode, a, "A")
        fields |= _parse_tensor(opcode, b, "B")
    else:
        fields = _shape(shape, "mn") | {"k": COMMAND["k"].default}
        fields |= _parse_tensor(opcode, inputs, "X")
    passes = passes.strip()
    row_max = passes.startswith(_ROW_MAX)
    fields |= _parse_tensor(opcode, c, "C") | {
        "opcode": opcode, "row_max": int(row_max),
        "instructions": parse_list(passes.removeprefix(_ROW_MAX))}
    return fields | _parse_items(opcode, items)


def header_text(fields: Mapping[str, int]) -> str:
    """The line of a header."""
    known = [feature for feature in Feature if fields["features"] & feature]
    more = fields["features"] & ~sum(known)
    names = [str(feature.name) for feature in known] + [f"{more:#x}"] * bool(more)
    told = {"magic": MAGIC, **{name: fields[name] for name in HEADER if name != "magic"}}
    return ", ".join([
        f"header isa {fields['isa_major']}.{fields['isa_minor']}",
        f"commands {fields['commands']}", f"features {' '.join(names) or 'none'}",
        f"hash {fields['config_hash']:#x}",
        *[f"scalars {fields['scalars']:#x}"] * bool(fields["scalars"]),
        *assignments(fields, told)])


def _features(text: str) -> int:
    known, value = {str(feature.name): feature for feature in Feature}, 0
    for name in text.split():
        if name not in known and not name.startswith("0x") and name != "none":
            raise ValueError(f"feature must be one of {', '.join(known)}, not {name!r}")
        value |= known[name] if name in known else 0 if name == "none" else _integer(
            "feature", name)
    return int(value)


def parse_header(line: str) -> dict[str, int]:
    """Fields of a header's line; ``commands`` is missing where it does not say."""
    first, *items = (item.strip() for item in line.split(","))
    found = re.fullmatch(r"header +isa +(\d+)\.(\d+)", first)
    if found is None:
        raise ValueError(f"program must begin with header isa MAJOR.MINOR, not {first!r}")
    fields = {"magic": MAGIC, "isa_major": int(found[1]), "isa_minor": int(found[2])}
    rest = []
    for item in items:
        name, _, value = item.partition(" ")
        if name == "features":
            fields["features"] = _features(value)
        elif name in ("commands", "hash", "scalars") and value:
            fields[{"hash": "config_hash"}.get(name, name)] = _integer(name, value)
        else:
            rest.append(item)
    return fields | parse_assignments(rest, HEADER)
