"""Whole programs of integers on the generated Verilog: exact sums, one rounding, clipped codes."""

from functools import cache

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder, read
from compiler.program.epilogue import Epilogue
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    ErrorCause,
    Feature,
    pack,
    unpack,
)
from hdl.spec.config import INT32_PRODUCTS, AcceleratorConfig
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import LIMIT, compare, small_accelerator
from sim.harness.accelerator import Accelerator
from sim.model.machine import Machine
from support.random_programs import compare_random

LARGE = pytest.mark.slow


@cache
def machine_of(dim):
    if dim == 4:
        return small_accelerator("int8")
    return Accelerator(AcceleratorConfig("int8", dim=dim, input_depth=64, weight_depth=8 * dim,
                                         acc_depth=32, row_depth=8))


def product(machine, a, b, scale=None, encoding="bf16", seed=0):
    """What the RTL stores for A · B, the same as the model's; words or codes, and how it ended."""
    builder = ProgramBuilder(machine.config, BASE)
    out = builder.empty(len(a), b.shape[1], encoding)
    builder.gemm(builder.constant(a, "int8", skew=3), builder.constant(b, "int8"), out,
                 Epilogue() if scale is None else Epilogue(scale=scale))
    memory, address = builder.build(seed=seed, spare=64)
    compare(machine, Case(memory, address, BASE, (out,), "integers"), "light", seed)
    found = machine.run(memory, address, BASE, max_cycles=LIMIT)
    return read(memory, out, BASE), found


@pytest.mark.parametrize("dim", [4, pytest.param(8, marks=LARGE), pytest.param(16, marks=LARGE)])
def test_codes_are_the_rounded_integer_sum(dim):
    """numpy's integers, scaled by a power of two so that one rounding makes the code."""
    machine, rng = machine_of(dim), np.random.default_rng(3)
    a, b = rng.integers(-128, 128, (9, 75)), rng.integers(-128, 128, (75, 11))
    a[0], b[:, 0] = -128, -128
    sums = a.astype(np.int64) @ b
    assert sums.max() == 75 * 128 * 128
    words, _ = product(machine, a.astype(float), b.astype(float))
    assert np.array_equal(words, nearest(sums))
    codes, found = product(machine, a.astype(float), b.astype(float), 2.0 ** -9, "int8")
    scaled = nearest(sums) * 2.0 ** -9
    assert np.array_equal(codes, np.clip(np.rint(scaled), -128, 127))
    counted = found.counters["saturations"], found.counters["nars"]
    assert counted == (np.count_nonzero(codes != np.rint(scaled)), 0)
    assert 0 < counted[0] < codes.size


def nearest(sums):
    """BF16 values nearest to integers, ties to even, by integers."""
    magnitude = np.abs(sums)
    drop = np.maximum(np.vectorize(int.bit_length)(magnitude.astype(object)).astype(int) - 8, 0)
    half, rest = (1 << drop) >> 1, magnitude & (1 << drop) - 1
    kept = magnitude >> drop
    up = (rest > half) | ((rest == half) & (half > 0) & (kept & 1 == 1))
    return np.sign(sums) * ((kept + up) << drop).astype(float)


@pytest.mark.parametrize("profile", ["ideal", "heavy"])
def test_random_programs(profile):
    compare_random(machine_of(4), profile, 40)


def test_infinity_is_clipped_and_nan_is_zero():
    machine = machine_of(4)
    builder = ProgramBuilder(machine.config, BASE)
    words = np.array([[0x7F80, 0xFF80, 0x7FC0, 0x42FF, 0xC301, 0x4300, 0xC300, 0x8000]])
    out = builder.empty(1, 8, "int8")
    builder.vector(builder.codes(words, "bf16"), out, Epilogue())
    memory, address = builder.build(seed=1, spare=64)
    compare(machine, Case(memory, address, BASE, (out,), "specials"), "light", 1)
    found = machine.run(memory, address, BASE, max_cycles=LIMIT)
    assert read(memory, out, BASE).tolist() == [[127, -128, 0, 127, -128, 127, -128, 0]]
    assert (found.counters["saturations"], found.counters["nars"]) == (5, 1)


@pytest.mark.parametrize("k, cause", [
    pytest.param(INT32_PRODUCTS, None, marks=LARGE), (INT32_PRODUCTS + 1, ErrorCause.K_RANGE)])
def test_the_longest_sum_and_one_more(k, cause):
    """All products are the largest: a word of 31 bits would wrap."""
    machine = machine_of(4)
    builder = ProgramBuilder(machine.config, BASE)
    ones = np.full((1, INT32_PRODUCTS + 1), -128.0)
    a, out = builder.constant(ones, "int8"), builder.empty(1, 1, "bf16")
    b, most = builder.constant(ones, "int8"), INT32_PRODUCTS
    builder.gemm(a.block(0, 0, 1, most), b.block(0, 0, 1, most), out, b_transposed=True)
    memory, address = builder.build(seed=1, spare=64)
    start = address - BASE + HEADER_BYTES
    record = memory[start:start + COMMAND_BYTES]
    record[:] = np.frombuffer(pack(COMMAND, unpack(COMMAND, record.tobytes()) | {"k": k},
                                   COMMAND_BYTES), np.uint8)
    expected = memory.copy()
    outcome = Machine(machine.config).run(expected, address, BASE)
    found = machine.run(memory, address, BASE, max_cycles=LIMIT)
    assert (found.error, outcome.error, found.violations) == (cause, cause, [])
    assert np.array_equal(memory, expected)
    if cause is None:  # 2^31 - 2^14, rounded to eight bits
        assert read(memory, out, BASE)[0, 0] == 2.0 ** 31
    else:
        assert found.error_address == outcome.error_address == address + HEADER_BYTES


def test_what_a_program_needs_and_what_the_builder_refuses():
    config = AcceleratorConfig("int8", dim=4)
    builder = ProgramBuilder(config, BASE)
    a, b = builder.constant(np.ones((2, 3))), builder.constant(np.ones((3, 2)))
    builder.gemm(a, b, builder.empty(2, 2))
    memory, address = builder.build(seed=0)
    header = unpack(HEADER, memory[address - BASE:address - BASE + HEADER_BYTES].tobytes())
    assert header["features"] == Feature.INT8 | Feature.ACC_INT32 | Feature.LANE_BF16
    assert Machine(AcceleratorConfig("posit8", dim=4)).run(
        memory.copy(), address, BASE).error == ErrorCause.BAD_FEATURE
    long = builder.empty(1, 131_072), builder.empty(131_072, 1)
    with pytest.raises(ValueError, match="K must be at most 131071 with the int32 accumulator, "
                                         "not 131072"):
        builder.gemm(*long, builder.empty(1, 1))
