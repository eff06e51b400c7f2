"""Whole programs with ``fused`` accumulators on the generated Verilog, against exact rationals."""

from fractions import Fraction

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder, read
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BINARY32
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import LIMIT, compare, small_accelerator
from sim.model.accumulate import gemm
from sim.model.codec import decode
from support.oracle import round_fraction
from support.random_programs import compare_random

M, K, N = 5, 37, 6
slow = pytest.mark.slow
FORMATS = ["posit8", pytest.param("fp8", marks=slow), pytest.param("posit8es2", marks=slow)]


def truth(a, b, dim):
    """float32 sums of tiles of ``dim`` products, each rounded once."""
    total = np.zeros((len(a), b.shape[1]), np.float32)
    for row, column in np.ndindex(total.shape):
        tiles = [np.float32(round_fraction(BINARY32, sum(
            (Fraction(x) * Fraction(y) for x, y in zip(a[row, k:k + dim], b[k:k + dim, column],
                                                       strict=True)), Fraction(0))))
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
        # A rounding after each product gives other bits.
        psums = gemm(AcceleratorConfig(fmt, acc="bf16", dim=machine.config.dim), a, b)
        assert np.count_nonzero(psums != wanted) > wanted.size // 2
    print(f"{fmt} fused: {compared} sums of {K} products, 0 wrong")


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("profile", ["ideal", "heavy"])
def test_random_programs(fmt, profile):
    compare_random(small_accelerator(fmt, acc="fused"), profile)
