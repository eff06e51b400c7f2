"""Whole programs with the exact accumulator on the generated Verilog: bits that nothing changes."""

from functools import cache

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder, read
from hdl.spec.commands import COMMAND, COMMAND_BYTES, HEADER_BYTES, ErrorCause, pack, unpack
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import BASE, Case, random_case
from sim.campaigns.regression import LIMIT, compare, small_accelerator
from sim.harness.accelerator import Accelerator
from sim.model.accumulate import gemm
from sim.model.codec import decode
from sim.model.machine import Machine
from support.random_programs import compare_random

M, K, N = 7, 151, 9  # several tiles, spans and weight panels at each dim
slow = pytest.mark.slow
BUILDS = [("posit8", 4), *(pytest.param("posit8", dim, marks=slow) for dim in (8, 16)),
          *(pytest.param(fmt, dim, marks=slow) for fmt in ("fp8", "posit8es2") for dim in (4, 8))]


@cache
def machine_of(fmt, dim):
    if dim == 4:
        return small_accelerator(fmt, acc="exact")
    return Accelerator(AcceleratorConfig(fmt, acc="exact", dim=dim, input_depth=64,
                                         weight_depth=8 * dim, acc_depth=32, row_depth=8))


def matrices(fmt, seed):
    """Values over the whole format. All products but the last of a sum cancel in pairs, so that any
    rounding on the way would show."""
    encodings = AcceleratorConfig(fmt).format.encodings
    rng, half = np.random.default_rng(seed), K // 2
    values = [decode(encoding, rng.integers(0, 256, 4 * K * M)) for encoding in encodings]
    left, right = values[0], values[-1]
    a = left[np.isfinite(left)][:M * half].reshape(M, half)
    b = right[np.isfinite(right) & (right != 0)][:half * N].reshape(half, N)
    return np.hstack([a, a, np.full((M, 1), 0.25)]), np.vstack([b, -b, np.full((1, N), 0.25)])


def result(machine, a, b, seed=0, profile="light"):
    """BF16 values that the RTL gives for A · B, the same as the model's."""
    builder = ProgramBuilder(machine.config, BASE)
    first, last = (encoding.name for encoding in (machine.config.format.encodings[0],
                                                  machine.config.format.encodings[-1]))
    out = builder.empty(len(a), b.shape[1], "bf16")
    builder.gemm(builder.constant(a, first, skew=3), builder.constant(b, last), out)
    memory, address = builder.build(seed=seed, spare=64)
    compare(machine, Case(memory, address, BASE, (out,), "exact gemm"), profile, seed)
    machine.run(memory, address, BASE, max_cycles=LIMIT)
    return read(memory, out, BASE)


@pytest.mark.parametrize("fmt, dim", BUILDS)
def test_neither_dim_nor_the_order_of_k_changes_a_bit(fmt, dim):
    machine, (a, b) = machine_of(fmt, dim), matrices(fmt, 1)
    expected = np.full((M, N), 0.0625)  # what does not cancel
    assert not np.array_equal(gemm(AcceleratorConfig(fmt, acc="fp32", dim=dim), a, b), expected)
    compared = 0
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(K) if seed else np.arange(K)
        got = result(machine, a[:, order], b[order], seed)
        assert np.array_equal(got, expected)
        compared += got.size
    print(f"{fmt} exact, dim {dim}: {compared} sums of {K} products, 0 wrong")
    assert compared == 4 * M * N


@pytest.mark.parametrize("fmt", ["posit8", pytest.param("fp8", marks=slow),
                                 pytest.param("posit8es2", marks=slow)])
@pytest.mark.parametrize("profile", ["ideal", "heavy"])
def test_random_programs(fmt, profile):
    compare_random(machine_of(fmt, 4), profile)


def test_nar_stays_in_its_row_and_column():
    machine, (a, b) = machine_of("posit8", 4), matrices("posit8", 2)
    a[2, 5], b[140, 3] = np.nan, np.nan
    got = result(machine, a, b)
    wanted = np.zeros((M, N), bool)
    wanted[2], wanted[:, 3] = True, True
    assert np.array_equal(np.isnan(got), wanted)
    assert np.all(got[~wanted] == 0.0625)


@pytest.mark.parametrize("k, cause", [(4096, None), (4097, ErrorCause.K_RANGE)])
def test_k_beyond_the_accumulator_is_refused(k, cause):
    machine = machine_of("posit8", 4)
    builder = ProgramBuilder(machine.config, BASE)
    a, b, out = builder.empty(1, 4097), builder.empty(4097, 1), builder.empty(1, 1, "bf16")
    builder.gemm(a.block(0, 0, 1, 4096), b.block(0, 0, 4096, 1), out)
    memory, address = builder.build(seed=1, spare=64)
    start = address - BASE + HEADER_BYTES
    record = memory[start:start + COMMAND_BYTES]
    fields = unpack(COMMAND, record.tobytes()) | {"k": k}
    record[:] = np.frombuffer(pack(COMMAND, fields, COMMAND_BYTES), np.uint8)
    expected = memory.copy()
    outcome = Machine(machine.config).run(expected, address, BASE)
    found = machine.run(memory, address, BASE, max_cycles=LIMIT)
    assert (found.error, outcome.error, found.violations) == (cause, cause, [])
    if cause is not None:
        assert found.error_address == outcome.error_address == address + HEADER_BYTES
    assert np.array_equal(memory, expected)
    assert compare(machine, random_case(machine.config, np.random.default_rng(5)), "light", 0)


def test_the_builder_refuses_too_large_a_k():
    builder = ProgramBuilder(AcceleratorConfig("posit8", acc="exact", dim=4, k_max=20), BASE)
    a, b, out = builder.empty(3, 21), builder.empty(21, 3), builder.empty(3, 3)
    with pytest.raises(ValueError, match="K must be at most k_max = 20 with the exact accumulator, "
                                         "not 21"):
        builder.gemm(a, b, out)
