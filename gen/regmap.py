"""The register map as Markdown, JSON, a C header or SystemRDL, from ``hdl.spec`` alone."""

import json
from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from gen.header import c_header
from gen.identification import identification
from gen.systemrdl import system_rdl
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    INSTRUCTIONS,
    ISA_MAJOR,
    MAGIC,
    PROGRAM_ALIGNMENT,
    ErrorCause,
    Feature,
    Field,
    Opcode,
    isa_minor,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import REGISTERS, Register

INSTRUCTION_BYTES = 4

__all__ = ["FORMS", "bit_range", "register_map"]

_OF_BUILD = {"h": c_header, "rdl": system_rdl}
FORMS = ("md", "json", "h", "rdl")


def register_map(form: str, config: AcceleratorConfig | None = None, name: str = "ottava") -> str:
    """The map in ``form``, one of ``FORMS``; ``ValueError`` names what is allowed.

    The C header also holds the program format; it, SystemRDL and JSON what ``config`` (default: a
    default build) has. The header's names start with ``name``, the map in SystemRDL has that name.
    """
    if form not in FORMS:
        raise ValueError(f"register map must be one of {', '.join(FORMS)}, not {form!r}")
    if form in _OF_BUILD:
        return _OF_BUILD[form](config or AcceleratorConfig(), name)
    return _markdown() if form == "md" else _json(config or AcceleratorConfig())


def bit_range(low: int, bits: int) -> str:
    """``high:low`` of a field, or its only bit."""
    return str(low) if bits == 1 else f"{low + bits - 1}:{low}"


def _rows(register: Register) -> list[str]:
    return [f"| {bit_range(field.low, field.bits)} | {field.name} | {field.access} | {field.doc} |"
            for field in register.fields]


def _markdown() -> str:
    lines = ["# Register map", "",
             "AXI4-Lite, 32-bit registers, byte offsets. Access: ro read only; rw read and write;",
             "w1s write 1 to trigger, reads 0; w1c write 1 to clear. Other offsets read 0.", "",
             "| offset | register | meaning |", "|---|---|---|"]
    lines += [f"| 0x{register.offset:03X} | {register.name} | {register.doc} |"
              for register in REGISTERS]
    for register in REGISTERS:
        if len(register.fields) > 1 or register.fields[0].access != "ro":
            lines += ["", f"## {register.name} (0x{register.offset:03X})", "",
                      "| bits | field | access | meaning |", "|---|---|---|---|", *_rows(register)]
    lines += ["", "## Bits of ERROR", "", "| bit | cause | meaning |", "|---|---|---|"]
    lines += [f"| {int(cause)} | {cause.name} | {cause.doc} |" for cause in ErrorCause]
    lines += ["", "## Bits of FEATURES", "", "| bit | feature |", "|---|---|"]
    lines += [f"| {feature.bit_length() - 1} | {feature.name} |" for feature in Feature]
    return "\n".join(lines) + "\n"


def _json(config: AcceleratorConfig) -> str:
    known = identification(config)
    registers = [
        {"name": register.name, "offset": register.offset, "doc": register.doc,
         "fields": [{"name": field.name, "low": field.low, "bits": field.bits,
                     "access": field.access, "doc": field.doc,
                     **({"value": known[place]} if (place := (register.name, field.name)) in known
                        else {})} for field in register.fields]}
        for register in REGISTERS]
    errors = [{"bit": int(cause), "name": cause.name, "doc": cause.doc}
              for cause in ErrorCause]
    features = [{"bit": feature.bit_length() - 1, "name": feature.name} for feature in Feature]
    return json.dumps({"build": config.as_dict(), "registers": registers, "errors": errors,
                       "features": features, "program": _program(config)}, indent=2) + "\n"


def _program(config: AcceleratorConfig) -> dict[str, Any]:
    """The program format: records of fields, bits counted from each record's start."""
    records: dict[str, tuple[Mapping[str, Field], int]] = {
        "header": (HEADER, HEADER_BYTES), "command": (COMMAND, COMMAND_BYTES),
        "instruction": (INSTRUCTION, INSTRUCTION_BYTES)}
    kinds: set[type[IntEnum]] = {Opcode, *(field.kind for field in INSTRUCTION.values()
                                           if field.kind)}
    return {
        "magic": MAGIC, "isa": [ISA_MAJOR, isa_minor(config)], "alignment": PROGRAM_ALIGNMENT,
        "instructions": INSTRUCTIONS,
        **{name: {"bytes": size, "fields": [
            {"name": field.name, "offset": field.offset, "bits": field.bits, "doc": field.doc}
            for field in sorted(table.values(), key=lambda field: field.offset)]}
           for name, (table, size) in records.items()},
        "values": {kind.__name__: {member.name: int(member) for member in kind}
                   for kind in sorted(kinds, key=lambda kind: kind.__name__)},
    }
