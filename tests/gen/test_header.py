"""The C header compiles without a word as C and as C++, and packs what ``hdl.spec`` packs."""

import random
import subprocess

import pytest

from gen.header import c_header
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    ErrorCause,
    Opcode,
    features_of,
    pack,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import REGISTERS

CONFIG = AcceleratorConfig(fmt="fp8", dim=8)
C = ["g++", "-x", "c", "-std=c99", "-pedantic"]
CPP = ["g++", "-x", "c++", "-std=c++11", "-pedantic"]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow"]


def output_of(folder, body, compiler, name="ottava"):
    (folder / f"{name}.h").write_text(c_header(CONFIG, name))
    source = folder / "main.c"
    source.write_text(f'#include "{name}.h"\n#include "{name}.h"\n#include <stdio.h>\n'
                      f"int main(void) {{\n{body}\n  return 0;\n}}\n")
    program = folder / "main"
    subprocess.run([*compiler, *WARNINGS, "-o", program, source], check=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout


def values_of(table, rng):
    return {name: rng.getrandbits(field.bits) for name, field in table.items()}


def setters(record, values):
    lines = [f"  struct ottava_{record} {record} = {{{{0}}}};"]
    for name, value in values.items():
        if name == "instructions":
            lines += [f"  ottava_command_set_instructions(&command, {index}u, "
                      f"UINT32_C({value >> 32 * index & 0xFFFFFFFF}));" for index in range(8)]
            continue
        bits = (COMMAND if record == "command" else HEADER)[name].bits
        kind = "UINT64_C" if bits > 32 else "UINT32_C"
        lines += [f"  ottava_{record}_set_{name}(&{record}, {kind}({value}));",
                  f'  if (ottava_{record}_get_{name}(&{record}) != {kind}({value})) return 1;']
    size = HEADER_BYTES if record == "header" else COMMAND_BYTES
    return "\n".join([*lines, f"  for (unsigned i = 0; i < {size // 4}; i++) "
                      f'printf("%08lx\\n", (unsigned long){record}.word[i]);'])


def words_of(record):
    return [int.from_bytes(record[at:at + 4], "little") for at in range(0, len(record), 4)]


@pytest.mark.parametrize("compiler", [C, CPP], ids=["c99", "c++"])
def test_records_are_packed_as_the_specification_packs_them(tmp_path, compiler):
    rng = random.Random(1)
    header, command = values_of(HEADER, rng), values_of(COMMAND, rng)
    said = output_of(tmp_path, setters("header", header) + "\n" + setters("command", command),
                     compiler)
    expected = words_of(pack(HEADER, header, HEADER_BYTES) + pack(COMMAND, command, COMMAND_BYTES))
    assert [int(line, 16) for line in said.split()] == expected
    assert sum(map(bool, expected)) > 30


def test_setters_replace_their_own_field(tmp_path):
    lines = ["  struct ottava_command c; unsigned i;",
             "  for (i = 0; i < 32; i++) c.word[i] = UINT32_C(0xFFFFFFFF);"]
    lines += [f"  ottava_command_set_{name}(&c, 0);" for name, field in COMMAND.items()
              if name != "instructions"]
    lines += ["  for (i = 0; i < 8; i++) ottava_command_set_instructions(&c, i, 0);",
              '  for (i = 0; i < 32; i++) printf("%08lx\\n", (unsigned long)c.word[i]);']
    said = output_of(tmp_path, "\n".join(lines), C)
    full = pack(COMMAND, {name: (1 << f.bits) - 1 for name, f in COMMAND.items()}, COMMAND_BYTES)
    assert [int(line, 16) for line in said.split()] == [
        0xFFFFFFFF & ~word for word in words_of(full)]


def test_constants_are_those_of_the_specification(tmp_path):
    rng = random.Random(2)
    instruction = values_of(INSTRUCTION, rng)
    expected = {"OTTAVA_BUILD_FEATURES": int(features_of(CONFIG)), "OTTAVA_BUILD_DIM": 8,
                "OTTAVA_BUILD_CONFIG_HASH": CONFIG.hash,
                " | ".join(f"OTTAVA_INSTRUCTION_{name.upper()}({value})"
                           for name, value in instruction.items()):
                words_of(pack(INSTRUCTION, instruction, 4))[0]}
    expected |= {f"OTTAVA_{register.name}_OFFSET": register.offset for register in REGISTERS}
    expected |= {f"OTTAVA_{register.name}_{field.name}_MASK":
                 ((1 << field.bits) - 1) << field.low
                 for register in REGISTERS for field in register.fields if field.bits < 32}
    expected |= {f"OTTAVA_CAUSE_{cause.name}": 1 << cause for cause in ErrorCause}
    expected |= {f"OTTAVA_OPCODE_{opcode.name}": int(opcode) for opcode in Opcode}
    said = output_of(tmp_path, "\n".join(f'  printf("%llx\\n", (unsigned long long)({name}));'
                                         for name in expected), C)
    assert [int(line, 16) for line in said.split()] == list(expected.values())
    assert len(expected) > 80


def test_two_builds_fit_one_firmware(tmp_path):
    (tmp_path / "left.h").write_text(c_header(AcceleratorConfig(dim=4), "left"))
    body = '  printf("%d %d", LEFT_BUILD_DIM, RIGHT_BUILD_DIM);'
    assert output_of(tmp_path, body, [*C, "-include", tmp_path / "left.h"], "right") == "4 8"


def test_an_illegal_name_is_refused():
    with pytest.raises(ValueError, match="^name must be a legal C identifier, not '8va'$"):
        c_header(CONFIG, "8va")
