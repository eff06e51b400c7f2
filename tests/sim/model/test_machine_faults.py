"""What the sequencer refuses, in which order and where it says so."""

import numpy as np
import pytest

from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER_BYTES,
    ISA_MINOR,
    MAGIC,
    Destination,
    ErrorCause,
    Feature,
    Opcode,
    Operand,
    Reduce,
)
from support.images import BASE, SIZE, STORE, Bench, C, listed


@pytest.fixture
def good():
    """A program that runs, to be spoiled."""
    bench = Bench("posit8")
    bench.gemm(2, 3, 4)
    bench.command(Opcode.END)
    assert bench.run().error is None
    del bench.header["commands"]
    return bench


HEADER_FAULTS = [
    ({"magic": MAGIC ^ 1}, ErrorCause.BAD_MAGIC),
    ({"isa_major": 2}, ErrorCause.BAD_VERSION),
    ({"isa_minor": ISA_MINOR + 1}, ErrorCause.BAD_VERSION),
    ({"features": int(Feature.INT8)}, ErrorCause.BAD_FEATURE),
    ({"features": 1 << 31}, ErrorCause.BAD_FEATURE),
    ({"commands": 0}, ErrorCause.BAD_LENGTH),
    ({"magic": 0, "isa_major": 0, "features": 1 << 31, "commands": 0}, ErrorCause.BAD_MAGIC),
]


def test_reserved_bits_of_an_instruction(good):
    good.commands[0]["instructions"] |= 1 << 25
    assert good.run().error is ErrorCause.BAD_FIELD
    good.commands[0]["instructions"] ^= 1 << 25 | 1 << 32 + 25  # after the last: never looked at
    assert good.run().error is None


@pytest.mark.parametrize("change, cause", HEADER_FAULTS)
def test_bad_headers(good, change, cause):
    bench = good
    bench.header.update(change)
    outcome = bench.run()
    assert (outcome.error, outcome.error_address, outcome.commands) == (cause, BASE, 0)
    assert np.array_equal(bench.memory, bench.before)


COMMAND_FAULTS = [
    ({"opcode": 0}, ErrorCause.BAD_OPCODE),
    ({"opcode": int(Opcode.COPY), "m": 0}, ErrorCause.BAD_OPCODE),
    ({"m": 0}, ErrorCause.BAD_SHAPE),
    ({"k": 0, "n": 1 << 24}, ErrorCause.BAD_SHAPE),
    ({"n": 1 << 24, "instructions": ()}, ErrorCause.OVERSIZE),
    ({"opcode": int(Opcode.VECTOR), "k": 1, "a_transposed": 1}, ErrorCause.BAD_FIELD),
    ({"instructions": ()}, ErrorCause.BAD_FIELD),
    ({"instructions": ({"multiply": 7},)}, ErrorCause.BAD_FIELD),
    ({"instructions": ({"scale": 7},)}, ErrorCause.BAD_FIELD),
    ({"instructions": ({"add": Operand.SELF},)}, ErrorCause.BAD_FIELD),
    ({"instructions": ({"function": 9},)}, ErrorCause.BAD_FIELD),
    ({"instructions": ({"reduce": 3},)}, ErrorCause.BAD_FIELD),
    ({"instructions": ({"post": 4},)}, ErrorCause.BAD_FIELD),
    ({"instructions": ({"destination": 3},)}, ErrorCause.BAD_FIELD),
    ({"instructions": ({"multiply": Operand.Y, "add": Operand.Y},)}, ErrorCause.BAD_FIELD),
    ({"opcode": int(Opcode.VECTOR), "k": 2}, ErrorCause.BAD_FIELD),
    ({"x_gather": 1}, ErrorCause.BAD_FIELD),
    ({"opcode": int(Opcode.VECTOR), "x_gather": 1, "k": 1, "b_address": BASE},
     ErrorCause.INDEX_RANGE),
    ({"opcode": int(Opcode.VECTOR), "x_gather": 1, "k": 1, "b_address": 0},
     ErrorCause.READ_ERROR),
    ({"opcode": int(Opcode.VECTOR), "k": 1, "b_transposed": 1}, ErrorCause.BAD_FIELD),
    ({"opcode": int(Opcode.VECTOR), "k": 1, "row_max": 1}, ErrorCause.BAD_FIELD),
    ({"row_result": 1, "instructions": ({"reduce": Reduce.SUM, **STORE},)},
     ErrorCause.BAD_FIELD),
    ({"row_result": 1, "opcode": int(Opcode.VECTOR), "k": 1, "n": 1 << 20}, ErrorCause.OVERSIZE),
    ({"c_transposed": 1, "instructions": ({"reduce": Reduce.SUM, **STORE},)},
     ErrorCause.BAD_FIELD),
    ({"c_wide": 1}, ErrorCause.MISALIGNED),
    ({"c_wide": 1, "c_address": C & ~1, "c_stride": 7}, ErrorCause.MISALIGNED),
    ({"y0_wide": 1, "y0_address": 1, "instructions": ({"add": Operand.Y, **STORE},)},
     ErrorCause.MISALIGNED),
    ({"a_address": BASE + SIZE - 2}, ErrorCause.READ_ERROR),
    ({"b_address": 0}, ErrorCause.READ_ERROR),
    ({"c_address": (1 << 64) - 8}, ErrorCause.WRITE_ERROR),
]


@pytest.mark.parametrize("change, cause", COMMAND_FAULTS)
def test_bad_commands(good, change, cause):
    bench = good
    bench.commands.insert(0, {"opcode": int(Opcode.FENCE)})
    if "instructions" in change:
        change = change | {"instructions": listed(*change["instructions"])}
    bench.commands[1].update(change)
    outcome = bench.run()
    address = BASE + HEADER_BYTES + COMMAND_BYTES
    assert (outcome.error, outcome.error_address, outcome.commands) == (cause, address, 1)


FINE = [{"x_wide": 1}, {"a_e5m2": 1}, {"y0_wide": 1, "y0_address": 1},
        {"c_wide": 1, "c_address": C & ~1, "c_stride": 8}]


@pytest.mark.parametrize("change", FINE)
def test_fields_without_meaning_for_the_command_are_not_judged(good, change):
    good.commands[0].update(change)
    assert good.run().error is None


@pytest.mark.parametrize("change", [
    {"n": 1 << 20, "instructions": listed({"destination": Destination.BUFFER}, STORE)},
    {"n": 1 << 20, "row_max": 1, "row_result": 1, "m": 0, "c_wide": 1, "c_address": 1},
    {name: (1 << field.bits) - 1 for name, field in COMMAND.items() if name != "opcode"}])
def test_a_fence_and_an_end_have_no_field_but_their_opcode(good, change):
    good.commands.insert(0, {"opcode": int(Opcode.FENCE)} | change)
    good.commands[-1].update(change)
    outcome = good.run()
    assert (outcome.error, outcome.commands) == (None, 3)


def test_alignment_of_bf16_tensors():
    for name in ("a_address", "b_stride", "c_address"):
        bench = Bench("bf16")
        fields = bench.gemm(2, 3, 4)
        bench.command(Opcode.END)
        assert bench.run().error is None
        fields[name] += 1
        assert bench.run().error is ErrorCause.MISALIGNED


def test_program_address_and_length(good):
    bench = good
    assert bench.run(BASE + 8).error is ErrorCause.MISALIGNED
    assert bench.run(BASE + SIZE).error is ErrorCause.READ_ERROR
    bench.header["commands"] = 1
    outcome = bench.run()
    end = BASE + HEADER_BYTES + COMMAND_BYTES
    assert (outcome.error, outcome.error_address) == (ErrorCause.BAD_LENGTH, end)
    assert outcome.commands == 1
    bench.header["commands"] = 2
    assert bench.run().error is None
