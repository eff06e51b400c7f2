import math

import numpy as np
import pytest

from hdl.spec.config import AcceleratorConfig
from sim.model.accumulate import accumulator_type, fused_multiply_add, gemm, narrow
from sim.model.codec import decode
from sim.model.rounding import round_to

BUILDS = (("posit8", "bf16"), ("posit8", "fp32"), ("posit8es0", "bf16"), ("posit8es2", "bf16"),
          ("e4m3", "bf16"), ("e5m2", "bf16"), ("fp8", "bf16"), ("fp8", "fp32"), ("bf16", "fp32"))
builds = pytest.mark.parametrize("fmt, acc", BUILDS)


def operands(config, shape, seed, encoding=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << config.format.storage_bits, shape)
    if config.fmt == "bf16":  # exponents near enough to interact, and some subnormals
        codes = codes & 0x807F | rng.integers(110, 145, shape) << 7
        codes = np.where(rng.random(shape) < 0.05, codes & 0x807F, codes)
    values = decode(config.format.encodings[encoding], codes)
    return np.where(np.isnan(values) & (rng.random(shape) < 0.9), 1.0, values)


def slow_gemm(oracle, config, a, b):
    """The definition, one exact rational at a time."""
    acc = accumulator_type(config)
    result = np.zeros((len(a), b.shape[1]))
    for i, j in np.ndindex(result.shape):
        total = None
        for start in range(0, a.shape[1], config.dim):
            psum = 0.0
            for k in range(start, min(start + config.dim, a.shape[1])):
                psum = oracle.fused(acc, psum, float(a[i, k]), float(b[k, j]))
            for _ in range(start + config.dim - a.shape[1]):
                psum = oracle.fused(acc, psum, 0.0, 0.0)
            total = psum if total is None else oracle.add(acc, total, psum)
        result[i, j] = total
    return result


@builds
def test_gemm_matches_exact_rationals(oracle, fmt, acc):
    config = AcceleratorConfig(fmt=fmt, acc=acc, dim=4)
    cases = 0
    for seed, (m, k, n) in enumerate([(1, 1, 1), (5, 4, 3), (3, 13, 4), (6, 33, 7)]):
        a = operands(config, (m, k), seed)
        b = operands(config, (k, n), seed + 100, len(config.format.encodings) - 1)
        want = slow_gemm(oracle, config, a, b)
        got = gemm(config, a, b)
        assert np.array_equal(got, want, equal_nan=True)
        assert np.array_equal(np.signbit(got)[want == 0], np.signbit(want)[want == 0])
        cases += m * n
    if fmt == "bf16":
        other = AcceleratorConfig(fmt=fmt, acc=acc, dim=8)
    else:
        other = AcceleratorConfig(fmt=fmt, acc="fp32" if acc == "bf16" else "bf16", dim=4)
    assert not np.array_equal(gemm(other, a, b), want, equal_nan=True)
    print(f"gemm {fmt} {acc}: {cases} dot products")


def test_fused_multiply_add_rounds_once(oracle):
    config = AcceleratorConfig(fmt="bf16")
    acc = accumulator_type(config)
    rng = np.random.default_rng(7)
    a, b = operands(config, 3000, 8), operands(config, 3000, 9)
    psum = round_to(acc, rng.normal(size=3000) * 2.0 ** rng.integers(-40, 40, 3000))
    psum = np.where(rng.random(3000) < 0.3, round_to(acc, -a * b), psum)
    want = [oracle.fused(acc, *row) for row in zip(psum.tolist(), a.tolist(), b.tolist(),
                                                   strict=True)]
    assert np.array_equal(fused_multiply_add(acc, psum, a, b), want, equal_nan=True)
    print("fused multiply-add: 3000 cases")


def test_narrow_rounds_once_to_the_lane():
    config = AcceleratorConfig(fmt="posit8", acc="fp32")
    values = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, 3.4e38, np.nan, -0.0])
    got = narrow(config, values)
    assert got[:3].tolist() == [1.0, 1 + 2.0**-6, math.inf]
    assert np.isnan(got[3]) and np.signbit(got[4])


@pytest.mark.parametrize("depth, negative", ((4, True), (3, False)))
def test_a_negative_zero_psum_survives_full_tiles_only(depth, negative):
    config = AcceleratorConfig(fmt="bf16", dim=4)
    a, b = np.zeros((1, depth)), -np.ones((depth, 1))
    a[0, -1], b[-1] = 2.0**-100, -(2.0**-100)
    got = gemm(config, a, b)
    assert got[0, 0] == 0 and np.signbit(got[0, 0]) == negative


def test_nar_spoils_its_row_and_column_only():
    config = AcceleratorConfig(fmt="posit8", dim=4)
    a, b = np.ones((3, 9)), np.ones((9, 3))
    a[1, 2] = np.nan
    b[:, 0] = 0.0
    assert np.isnan(gemm(config, a, b)).tolist() == [[False] * 3, [True] * 3, [False] * 3]


@pytest.mark.parametrize("fmt", ("posit8", "posit8es0", "posit8es2", "e4m3", "e5m2", "fp8"))
def test_psums_of_8_bit_operands_are_never_subnormal_or_infinite(fmt):
    config = AcceleratorConfig(fmt=fmt)
    finite = np.concatenate([decode(e, np.arange(256)) for e in config.format.encodings])
    finite = np.abs(finite[np.isfinite(finite) & (finite != 0)])
    # Every psum is a multiple of the quantum of the smallest product, rounded to 8 bits at most
    # 2^24 times; its magnitude is at most twice the number of products times the largest.
    assert finite.min() ** 2 * 2.0**-8 > 2.0**-126
    assert 2 * 2.0**24 * finite.max() ** 2 < 2.0**128
