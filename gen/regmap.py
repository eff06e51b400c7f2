"""The register map as Markdown, JSON or a C header, printed from ``hdl.spec`` alone."""

import json

from gen.header import c_header
from hdl.spec.commands import ErrorCause, Feature
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import REGISTERS, Register

__all__ = ["FORMS", "bit_range", "register_map"]

FORMS = ("md", "json", "h")


def register_map(form: str, config: AcceleratorConfig | None = None, name: str = "ottava") -> str:
    """The map in ``form``, one of ``FORMS``; ``ValueError`` names what is allowed.

    The C header also holds the program format and what ``config`` (default: a default build) has;
    its names start with ``name``.
    """
    if form not in FORMS:
        raise ValueError(f"register map must be one of {', '.join(FORMS)}, not {form!r}")
    if form == "h":
        return c_header(config or AcceleratorConfig(), name)
    return _markdown() if form == "md" else _json()


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


def _json() -> str:
    registers = [
        {"name": register.name, "offset": register.offset, "doc": register.doc,
         "fields": [{"name": field.name, "low": field.low, "bits": field.bits,
                     "access": field.access, "doc": field.doc} for field in register.fields]}
        for register in REGISTERS]
    errors = [{"bit": int(cause), "name": cause.name, "doc": cause.doc}
              for cause in ErrorCause]
    features = [{"bit": feature.bit_length() - 1, "name": feature.name} for feature in Feature]
    return json.dumps(
        {"registers": registers, "errors": errors, "features": features}, indent=2) + "\n"
