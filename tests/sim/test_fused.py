"""Whole programs with ``fused`` accumulators on the generated Verilog, against exact rationals."""

from fractions import Fraction

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder, read
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import BASE, EPILOGUES, Case, random_case
from sim.campaigns.regression import LIMIT, compare, small_accelerator
from sim.model.accumulate import gemm
from sim.model.codec import decode
from support.seeds import seed_of

M, K, N = 5, 37, 6
slow = pytest.mark.slow
FORMATS = ["posit8", pytest.param("fp8", marks=slow), pytest.param("posit8es2", marks=slow)]


def nearest(value):
    """The float32 nearest to a rational, ties to even."""
    if not value:
        return np.float32(0)
    exponent = abs(value).numerator.bit_length() - value.denominator.bit_length()
    exponent -= Fraction(2) ** exponent > abs(value)
    return np.float32(float(round(value / Fraction(2) ** (exponent - 23))) * 2.0 ** (exponent - 23))


def truth(a, b, dim):
    """float32 sums of tiles of ``dim`` products, each rounded once."""
    total = np.zeros((len(a), b.shape[1]), np.float32)
    for row, column in np.ndindex(total.shape):
        tiles = [nearest(sum(Fraction(x) * Fraction(y) for x, y in zip(
            a[row, k:k + dim], b[k:k + dim, column], strict=True)))
            for k in range(0, a.shape[1], dim)]
        total[row, column] = tiles[0]
        for tile in tiles[1:]:
            total[row, column] = np.float32(total[row, column] + tile)
    return total


def matrices(fmt, seed):
    encodings = AcceleratorConfig(fmt).format.encodings
    rng = np.random.default_rng(seed)
    values = [decode(encoding, rng.integers(0, 256, 4 * K * M)) for encoding in
              (encodings[0], encodings[-1])]
    a, b = (side[np.isfinite(side)] for side in values)
    return a[:M * K].reshape(M, K), b[:K * N].reshape(K, N)


@pytest.mark.parametrize("fmt", FORMATS)
def test_tiles_are_rounded_once(fmt):
    machine, compared = small_accelerator(fmt, acc="fused"), 0
    encodings = machine.config.format.encodings
    for seed in range(4):
        a, b = matrices(fmt, seed)
        wanted = truth(a, b, machine.config.dim)
        assert np.array_equal(gemm(machine.config, a, b), wanted)
        builder = ProgramBuilder(machine.config, BASE)
        out = builder.empty(M, N, "bf16")
        builder.gemm(builder.constant(a, encodings[0].name, skew=3),
                     builder.constant(b, encodings[-1].name), out)
        memory, address = builder.build(seed=seed, spare=64)
        compare(machine, Case(memory, address, BASE, (out,), "fused gemm"), "light", seed)
        machine.run(memory, address, BASE, max_cycles=LIMIT)
        # BF16 of the float32 sums, ties to even.
        words = wanted.view(np.uint32).astype(np.uint64)
        rounded = (words + 0x7FFF + (words >> 16 & 1) & 0xFFFF0000).astype(np.uint32)
        assert np.array_equal(read(memory, out, BASE), rounded.view(np.float32))
        compared += out.rows * out.columns
    # A rounding of each product's sum gives other bits.
    alone = gemm(AcceleratorConfig(fmt, acc="fp32", dim=machine.config.dim), a, b)
    assert fmt in ("fp8", "posit8") or not np.array_equal(alone, wanted)
    print(f"{fmt} fused: {compared} sums of {K} products, 0 wrong")


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("profile", ["ideal", "heavy"])
def test_random_programs(fmt, profile):
    machine = small_accelerator(fmt, acc="fused")
    rng = np.random.default_rng(seed_of(fmt, profile))
    compared = sum(compare(machine, random_case(
        machine.config, rng, largest=(13, 60)[index % 8 == 7],
        epilogue=EPILOGUES[index % len(EPILOGUES)]), profile, index) for index in range(60))
    assert compared > 1000
    print(f"{fmt} fused {profile}: 60 programs, {compared} bytes compared")
