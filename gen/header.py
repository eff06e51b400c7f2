"""The C header for firmware: registers, causes, features and packers, from ``hdl.spec`` alone.

C99 and C++; no function allocates, and none is emitted unless it is used (``static inline``).
"""

from enum import IntEnum

from gen.cli import in_ascii
from gen.verilog.names import IDENTIFIER
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    INSTRUCTIONS,
    ISA_MAJOR,
    MAGIC,
    Destination,
    ErrorCause,
    Feature,
    Field,
    Function,
    Opcode,
    Operand,
    Post,
    Reduce,
    features_of,
    isa_minor,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import IDENTITY, REGISTERS

__all__ = ["c_header", "c_names"]

_ENUMS = (Opcode, Operand, Function, Reduce, Post, Destination)
_USE = """\
/* A program: set {upper}_PROGRAM_*, then {upper}_CONTROL_START_MASK in CONTROL. In memory, at a
 * multiple of 64 bytes, one {lower}_header and its commands, words little-endian. Start from
 * cleared records: a setter replaces its field alone, and a value is cut to the field's bits. */
struct {lower}_header {{ uint32_t word[{header}]; }};
struct {lower}_command {{ uint32_t word[{command}]; }};
"""


def c_header(config: AcceleratorConfig, name: str = "ottava") -> str:
    """The header of a build; every name starts with ``name``, in capitals or small.

    ``ValueError`` where ``name`` is no C identifier.
    """
    upper, lower = c_names(name)
    lines = [f"/* Ottava accelerator {name}: registers and programs, ISA {ISA_MAJOR}."
             f"{isa_minor(config)}.",
             " * Generated; C99 or C++. */", f"#ifndef {upper}_H", f"#define {upper}_H", "",
             "#include <stdint.h>", "", *_build(config, upper), *_registers(upper),
             *_enumerations(upper, lower)]
    lines += _USE.format(upper=upper, lower=lower, header=HEADER_BYTES // 4,
                         command=COMMAND_BYTES // 4).splitlines()
    for record, table in (("header", HEADER), ("command", COMMAND)):
        for field in sorted(table.values(), key=lambda field: field.offset):
            lines += _accessors(lower, record, field)
    lines += ["", "/* Fields of an instruction, to be joined with |. */"]
    lines += [line for field in INSTRUCTION.values() for line in (
        _note(field.doc), f"#define {upper}_INSTRUCTION_{field.name.upper()}(value) "
        f"(((uint32_t)(value) & {_mask(field.bits)}) << {field.low})")]
    return in_ascii("\n".join([*lines, "", f"#endif /* {upper}_H */"]) + "\n")


def c_names(name: str) -> tuple[str, str]:
    """What names in C start with, in capitals and small; ``ValueError`` for no identifier."""
    if not IDENTIFIER.match(name):
        raise ValueError(f"name must be a legal C identifier, not {name!r}")
    return name.upper(), name.lower()


def _note(text: str) -> str:
    return f"/* {text} */"


def _mask(bits: int, low: int = 0) -> str:
    return f"UINT32_C(0x{((1 << bits) - 1) << low:08X})"


def _build(config: AcceleratorConfig, upper: str) -> list[str]:
    values = {"IDENTITY": f"UINT32_C(0x{IDENTITY:08X})", "MAGIC": f"UINT32_C(0x{MAGIC:08X})",
              "ISA_MAJOR": ISA_MAJOR, "ISA_MINOR": isa_minor(config), "HEADER_BYTES": HEADER_BYTES,
              "COMMAND_BYTES": COMMAND_BYTES, "COMMAND_INSTRUCTIONS": INSTRUCTIONS}
    build = {"DIM": config.dim, "LANES": config.lanes, "BUS_BYTES": config.bus_bytes,
             "FEATURES": f"UINT32_C(0x{int(features_of(config)):08X})",
             "CONFIG_HASH": f"UINT64_C(0x{config.hash:016X})"}
    return [*(f"#define {upper}_{key} {value}" for key, value in values.items()), "",
            "/* This build. */",
            *(f"#define {upper}_BUILD_{key} {value}" for key, value in build.items()), ""]


def _registers(upper: str) -> list[str]:
    lines = ["/* Registers: byte offsets, and masks and shifts of their fields. */"]
    for register in REGISTERS:
        lines += [_note(register.doc),
                  f"#define {upper}_{register.name}_OFFSET 0x{register.offset:03X}"]
        for field in register.fields:
            if field.bits < 32:
                start = f"#define {upper}_{register.name}_{field.name}"
                lines += [_note(f"{field.access}: {field.doc}"),
                          f"{start}_MASK {_mask(field.bits, field.low)}",
                          f"{start}_SHIFT {field.low}"]
    lines += ["", "/* Causes: bits of the register ERROR. */"]
    for cause in ErrorCause:
        lines += [_note(cause.doc), f"#define {upper}_CAUSE_{cause.name} {_mask(1, int(cause))}"]
    lines += ["", "/* Features: bits of the register FEATURES and of a program's header. */"]
    lines += [f"#define {upper}_FEATURE_{feature.name} UINT32_C(0x{int(feature):08X})"
              for feature in Feature]
    return [*lines, ""]


def _enumerations(upper: str, lower: str) -> list[str]:
    lines = []
    for kind in _ENUMS:
        lines += [f"enum {lower}_{kind.__name__.lower()} {{", _members(kind, upper), "};", ""]
    return lines


def _members(kind: type[IntEnum], upper: str) -> str:
    return ",\n".join(f"  {upper}_{kind.__name__.upper()}_{member.name} = {int(member)}"
                      for member in kind)


def _accessors(lower: str, record: str, field: Field) -> list[str]:
    """Setter and getter of a field that lies in one word, fills two, or is a run of words."""
    of = f"struct {lower}_{record}"
    start = f"{lower}_{record}"
    word = f"record->word[{field.word}]"
    if field.low + field.bits <= 32:
        mask = _mask(field.bits, field.low)
        kind, index = "uint32_t", ""
        put = f"{word} = ({word} & ~{mask}) | ((value << {field.low}) & {mask});"
        get = f"({word} & {mask}) >> {field.low}"
    elif (field.low, field.bits) == (0, 64):
        high = f"record->word[{field.word + 1}]"
        kind, index = "uint64_t", ""
        put = f"{word} = (uint32_t)value;\n  {high} = (uint32_t)(value >> 32);"
        get = f"(uint64_t){high} << 32 | {word}"
    elif field.low == 0 and field.bits % 32 == 0:
        kind, index = "uint32_t", ", unsigned index"
        word = f"record->word[{field.word} + index]"
        put, get = f"{word} = value;", word
    else:
        raise ValueError(f"field {field.name} must lie in one word or fill whole ones")
    return ["", _note(f"{field.doc}; {field.bits} bits" + ("; index in words" if index else "")),
            f"static inline void {start}_set_{field.name}({of} *record{index}, {kind} value)",
            "{", f"  {put}", "}",
            f"static inline {kind} {start}_get_{field.name}(const {of} *record{index})",
            "{", f"  return {get};", "}"]
