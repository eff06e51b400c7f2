"""The register map in SystemRDL 2.0, from ``hdl.spec`` alone: what PeakRDL's exporters read.

``systemrdl-compiler`` accepts it; PeakRDL makes pages, C, IP-XACT, UVM and cocotb classes of it.
"""

from gen.identification import identification
from gen.verilog.names import IDENTIFIER
from hdl.spec.commands import ErrorCause, Feature
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import REGISTERS, Register, RegisterField

__all__ = ["register_fields", "system_rdl"]

# What a field's access is in SystemRDL. Of read-only fields hardware alone knows the value, unless
# it is one of the build's (``identification``).
_ACCESS = {
    "ro": ("sw = r", "hw = w"),
    "rw": ("sw = rw", "hw = r"),
    "w1s": ("sw = w", "hw = r", "singlepulse"),
    "w1c": ("sw = rw", "onwrite = woclr", "hw = w", "hwset"),
}
_CONSTANT = ("sw = r", "hw = na")


def register_fields(register: Register) -> tuple[RegisterField, ...]:
    """Fields of ``register``; of one that is a set of bits with names, each named bit."""
    if register.name == "ERROR":
        (whole,) = register.fields
        return tuple(RegisterField(cause.name, int(cause), 1, whole.access, cause.doc)
                     for cause in ErrorCause)
    if register.name == "FEATURES":
        (whole,) = register.fields
        return tuple(RegisterField(str(feature.name), feature.bit_length() - 1, 1, whole.access,
                                   f"this build has {feature.name}") for feature in Feature)
    return register.fields


def system_rdl(config: AcceleratorConfig, name: str = "ottava") -> str:
    """The map of ``config`` as an ``addrmap`` of that ``name``.

    A field that identifies the build has its value as reset; writable fields start at 0.
    ``ValueError`` where ``name`` is no identifier.
    """
    if not IDENTIFIER.match(name):
        raise ValueError(f"name must be a legal SystemRDL identifier, not {name!r}")
    # With a backslash even a word of SystemRDL's own is a name.
    lines = [f"addrmap \\{name} {{",
             *_told("Ottava accelerator", "AXI4-Lite, 32-bit registers. Other offsets read 0."),
             "  littleendian;", "  default regwidth = 32;", "  default accesswidth = 32;"]
    known = identification(config)
    for register in REGISTERS:
        lines += ["", "  reg {", *_told(register.name, register.doc, "    ")]
        for field in register_fields(register):
            lines += _field(field, known.get((register.name, field.name)))
        lines.append(f"  }} {register.name} @ 0x{register.offset:03X};")
    return "\n".join([*lines, "};"]) + "\n"


def _field(field: RegisterField, value: int | None) -> list[str]:
    properties = _ACCESS[field.access] if value is None else _CONSTANT
    reset = 0 if value is None and field.access != "ro" else value
    after = "" if reset is None else f" = {field.bits}'h{reset:X}"
    place = f"[{field.low + field.bits - 1}:{field.low}]"
    return ["    field {", *_told(field.name, field.doc, "      "),
            *(f"      {line};" for line in properties), f"    }} {field.name}{place}{after};"]


def _told(name: str, text: str, indent: str = "  ") -> list[str]:
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return [f'{indent}name = "{name}";', f'{indent}desc = "{quoted}";']

