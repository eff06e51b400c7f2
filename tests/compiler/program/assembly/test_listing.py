"""Programs as text and back, whole ones, random ones and random bits."""

import re

import numpy as np
import pytest

from compiler.checkpoints import small
from compiler.lowering.heads import lower
from compiler.program.assembly.instructions import list_text, parse_list
from compiler.program.assembly.listing import AssemblyError, assemble, disassemble, program_bytes
from compiler.program.builder import ProgramBuilder
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    MAGIC,
    Destination,
    Feature,
    Function,
    Opcode,
    Operand,
    Post,
    Reduce,
    pack,
)
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.lists import random_list_case
from sim.campaigns.programs import random_case

BASE = 0x2_0000_0000
HEADER_LINE = "header isa 1.0, features POSIT8\n"


def survives(memory, address, base):
    """Number of lines; the text makes the same bytes."""
    lines = disassemble(memory, address, base)
    assert assemble("\n".join(lines)) == program_bytes(memory, address, base)
    return len(lines)


@pytest.mark.parametrize("fmt, functions", [("posit8", "all"), ("fp8", "all"), ("bf16", "all"),
                                            ("fp8", "training")])
def test_random_programs_survive(fmt, functions):
    config = AcceleratorConfig(fmt, dim=4, functions=functions)
    rng = np.random.default_rng(3)
    lines = 0
    for index in range(60):
        make = random_list_case if index % 2 else random_case
        case = make(config, rng)
        lines += survives(case.memory, case.address, case.base)
        assert not any("=" in line for line in disassemble(case.memory, case.address, case.base)
                       if "{" not in line)
    print(f"{fmt} {functions}: {lines} lines")


def test_an_attention_head_survives():
    program = lower(AcceleratorConfig("fp8"), small.load(32), [0], base=BASE)
    assert survives(program.memory, program.address, program.base) > 5


def random_record(rng, kind):
    """Bits of a command: any, few, or zeros but for one field."""
    bits = rng.integers(0, 256, COMMAND_BYTES, dtype=np.uint8)
    if kind == 1:
        bits &= rng.integers(0, 256, COMMAND_BYTES, dtype=np.uint8)
        bits[rng.random(COMMAND_BYTES) < 0.8] = 0
    if kind == 2:
        field = rng.choice(list(COMMAND.values()))
        value = int.from_bytes(rng.bytes(32), "little") & (1 << field.bits) - 1
        bits = np.frombuffer(pack(COMMAND, {field.name: value}, COMMAND_BYTES), np.uint8).copy()
    bits[0] = rng.choice([0, *Opcode, 3, 3, 4, 4, 255])
    return bits


def test_any_bits_survive():
    rng, lines, opcodes = np.random.default_rng(4), 0, set()
    for index in range(500):
        records = [random_record(rng, index % 3) for _ in range(4)]
        header = rng.integers(0, 256, HEADER_BYTES, dtype=np.uint8)
        if index % 2:
            known = {"magic": MAGIC, "isa_major": 1, "features": int(max(Feature))}
            header = np.frombuffer(pack(HEADER, known, HEADER_BYTES), np.uint8).copy()
        header[12:16] = [4, 0, 0, 0]
        memory = np.concatenate([np.zeros(64, np.uint8), header, *records])
        opcodes |= {int(record[0]) for record in records}
        lines += survives(memory, BASE + 64, BASE)
    assert opcodes > set(Opcode)
    print(f"random bits: {lines} lines")


def test_every_field_that_is_not_0_appears():
    for name, field in COMMAND.items():
        if name == "opcode":
            continue
        for opcode in (Opcode.GEMM, Opcode.VECTOR, Opcode.FENCE, 77):
            texts = set()
            for value in (0, 1, (1 << field.bits) - 1):
                record = pack(COMMAND, {"opcode": opcode, name: value}, COMMAND_BYTES)
                memory = np.frombuffer(pack(HEADER, {"commands": 1}, HEADER_BYTES) + record,
                                       np.uint8)
                survives(memory, 0, 0)
                texts.add(disassemble(memory, 0)[1])
            assert len(texts) == (2 if field.bits == 1 else 3), (name, opcode)


def test_every_instruction_survives():
    rng, cases = np.random.default_rng(5), 0
    for values in np.ndindex(len(Operand), len(Operand), 2, len(Function), len(Operand), 2):
        names = ("multiply", "add", "subtract", "function", "scale", "relu")
        fields = dict(zip(names, values, strict=True)) | {
            "y": rng.integers(2), "reduce": rng.integers(len(Reduce)),
            "reduce_to": rng.integers(2), "post": rng.integers(len(Post)),
            "destination": rng.integers(len(Destination)), "last": 1}
        word = int.from_bytes(pack(INSTRUCTION, {n: int(v) for n, v in fields.items()}, 4),
                              "little")
        assert parse_list(list_text(word)) == word
        cases += 1
    print(f"instructions: {cases} cases")


def test_a_keyboard_will_do():
    text = HEADER_LINE + """
    # softmax(A·Bᵀ)
    gemm 3*5*2 A@0x0/5 . B^T@0x20/5 -> C.bf16@0x30/4, IMM0 0.5: IMM0 * row max->R0; \
exp(x * IMM0 - R0) 1/sum->R1; exp(x * IMM0 - R0) * R1 ->MEMORY
    0x1234 vector 3*2 X@0x0/2 -> C@0x40/2, inverse_n 0.5: x 1/sqrt(mean sum + eps)->R0 ->MEMORY
    end"""
    memory = np.frombuffer(assemble(text), np.uint8)
    lines = disassemble(memory, 0)
    assert lines[0].endswith("header isa 1.0, commands 3, features POSIT8, hash 0x0")
    assert lines[1].endswith(
        "gemm   3×5×2 A@0x0/5 · Bᵀ@0x20/5 → C.bf16@0x30/4, IMM0 0.5: IMM0 × row max→R0; "
        "exp(x × IMM0 − R0) 1/sum→R1; exp(x × IMM0 − R0) × R1 →MEMORY")
    assert lines[2].endswith("inverse_n 0.5, epsilon 0: x 1/√(mean sum + ε)→R0 →MEMORY")
    assert lines[3] == "0x00000140 end"


def test_words_of_immediates():
    line = HEADER_LINE + "vector 1*1 X@0/1 -> C@0/1, IMM0 {}: x * IMM0 ->MEMORY"
    for text, shown in (("0.1", "0.1"), ("-1.5", "-1.5"), ("0x7fc0", "0x7fc0"), ("1e30", "1e+30"),
                        ("0x0001", "0x1"), ("0x8000", "-0"), ("0.10009", "0.1")):
        memory = np.frombuffer(assemble(line.format(text)), np.uint8)
        assert f"IMM0 {shown}:" in disassemble(memory, 0)[1]


def listed(passes):
    return f"vector 1×1 X@0/1 → C@0/1: {passes}"


@pytest.mark.parametrize("line, message", [
    ("gem 1×1×1", "command must be gemm, vector, end, fence or opcode, not 'gem'"),
    ("gemm 1×1 A@0/1 · B@0/1 → C@0/1: x", "shape must be M×K×N, not '1×1'"),
    ("gemm 1×1×1 A@0/1 · C@0/1 → C@0/1: x", "tensor must be B with @address/stride, not 'C@0/1'"),
    ("gemm 1×1×1 A.bf16@0/1 · B@0/1 → C@0/1: x", "A must not be of kind 'bf16'"),
    ("vector 1×1 Xᵀ@0/1 → C@0/1: x →MEMORY", "X must not be transposed"),
    ("vector 1×1 X@0/1 C@0/1: x", "vector must have → C and : with its instructions"),
    ("vector 1×1 X@0/1 → C@0/zz: x", "stride of C must be an integer, not 'zz'"),
    ("vector 5000000000×1 X@0/1 → C@0/1: x", "m must fit 32 bits, not 5000000000"),
    ("vector 1×1 X@0/1 → C@0/1, IMM0 foo: x", "number must be a decimal or 0x and a word"),
    ("vector 1×1 X@0/1 → C@0/1, foo=1: x", "field must be one of opcode, .*, not 'foo=1'"),
    ("vector 1×1 X@0/1 → C@0/1, Y2@0/1: x", "tensor must be Y0 or Y1 with"),
    ("vector 1×1 X@0/1 → C@0/1, m=foo: x", "m must be a number, not 'foo'"),
    ("fence foo", "fence must be followed by , and FIELD=VALUE alone, not 'fence foo'"),
    ("opcode x", "opcode must be an integer, not 'x'"),
    ("end, reserved=1", "reserved must have bits that belong to no field alone, not 0x1"),
    (listed("y"), "instruction must be a word x and its stages, not 'y'"),
    (listed("x × Z"), "operand must be one of self, Y0, .*, not 'Z'"),
    (listed("x × Y0 + Y1"), "operand must be the same Y in every stage, not Y0 and Y1"),
    (listed("foo(x)"), "function must be one of exp, .*, not 'foo'"),
    (listed("x {y=1"), "instruction must close its brace, not 'x {y=1'"),
    (listed("x {z=1}"), "field must be one of multiply, .*, not 'z=1'"),
    (listed("x {post=9}"), "post must fit 3 bits, not 9"),
    (listed("x; " * 8 + "x"), "instructions must be 1 to 8, not 9"),
])
def test_errors_name_the_line(line, message):
    text = HEADER_LINE + "\nfence\n" + line
    with pytest.raises(AssemblyError) as caught:
        assemble(text)
    assert re.match(f"line 4: {message}", str(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("header, message", [
    ("", "line 1: program must begin with header isa MAJOR.MINOR, not nothing"),
    ("fence", "line 1: program must begin with header isa MAJOR.MINOR, not 'fence'"),
    ("header isa 1.0, features FOO", "line 1: feature must be one of POSIT8, .*, not 'FOO'"),
    ("header isa 1.99999", "line 1: isa_minor must fit 16 bits, not 99999"),
    ("header isa 1.0, foo 1", "line 1: field must be one of magic, .*, not 'foo 1'"),
])
def test_headers_that_are_none(header, message):
    with pytest.raises(AssemblyError, match=message):
        assemble(header)


def test_a_program_cut_short_shows_what_is_there():
    builder = ProgramBuilder(AcceleratorConfig(dim=4))
    builder.fence()
    builder.fence()
    memory, address = builder.build()
    memory = memory[:address + HEADER_BYTES + 2 * COMMAND_BYTES - 1]
    lines = disassemble(memory, address)
    assert len(lines) == 2 and "commands 3" in lines[0]
    assert survives(memory, address, 0) == 2
