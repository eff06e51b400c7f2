"""The exact accumulator's model against rationals, and what its configuration refuses."""

import time
from fractions import Fraction

import numpy as np
import pytest

from hdl.spec.config import AcceleratorConfig
from sim.model.accumulate import gemm, narrow, product
from sim.model.codec import decode
from sim.model.exact import exact_words, held, round_exact, unit_log2
from support import oracle

EIGHT_BIT = ("posit8", "posit8es0", "posit8es2", "e4m3", "e5m2", "fp8")


def operands(config, m, k, n, seed):
    """Values of any magnitude, a few NaR."""
    rng = np.random.default_rng(seed)
    encodings = config.format.encodings
    return (decode(encodings[0], rng.integers(0, 256, (m, k))),
            decode(encodings[-1], rng.integers(0, 256, (k, n))))


@pytest.mark.parametrize("fmt", EIGHT_BIT)
def test_gemm_matches_exact_rationals(fmt):
    config = AcceleratorConfig(fmt, acc="exact", dim=4)
    unit, cases = Fraction(2) ** unit_log2(config), 0
    for seed, (m, k, n) in enumerate([(1, 1, 1), (5, 4, 3), (3, 13, 40), (9, 100, 7)]):
        a, b = operands(config, m, k, n, seed)
        a[np.isnan(a) & (np.random.default_rng(seed).random(a.shape) < 0.9)] = 1.0
        sums, values = gemm(config, a, b), product(config, a, b)
        for i, j in np.ndindex(m, n):
            if np.isnan(a[i]).any() or np.isnan(b[:, j]).any():
                assert sums[i, j] is None and np.isnan(values[i, j])
                continue
            exact = sum(Fraction(float(x)) * Fraction(float(y))
                        for x, y in zip(a[i], b[:, j], strict=True))
            assert sums[i, j] * unit == exact
            assert values[i, j] == oracle.round_fraction(config.lane, exact)
            cases += 1
    assert cases > 50
    print(f"gemm {fmt} exact: {cases} dot products")


@pytest.mark.parametrize("fmt", EIGHT_BIT)
def test_products_of_any_range_equal_their_integers(fmt):
    config, cases = AcceleratorConfig(fmt, acc="exact"), 0
    for seed, k in enumerate((1, 17, 700, 4096)):
        a, b = operands(config, 20, k, 30, seed)
        rng = np.random.default_rng(seed)
        a[np.isnan(a) & (rng.random(a.shape) < 0.999)] = 0.0
        b[np.isnan(b) & (rng.random(b.shape) < 0.999)] = 0.0
        for low, high in ((0, np.inf), (0, 1), (1, np.inf), (2, 4), (np.inf, np.inf)):
            left = np.where((np.abs(a) >= low) & (np.abs(a) < high) | np.isnan(a), a, 0.0)
            sums, got = gemm(config, left, b), product(config, left, b)
            assert np.array_equal(got, narrow(config, sums), equal_nan=True)
            whole = [Fraction(0) if s is None else s * Fraction(2) ** unit_log2(config)
                     for s in sums[0]]
            real = [sum((Fraction(x) * Fraction(y) for x, y in zip(left[0], column, strict=True)),
                        Fraction(0)) if k < 100 and not np.isnan([left[0], column]).any() else w
                    for column, w in zip(b.T.tolist(), whole, strict=True)]
            assert whole == real
            assert not np.any(np.signbit(got[got == 0]))
            cases += got.size
    print(f"products {fmt}: {cases} sums")


@pytest.mark.parametrize("fmt", EIGHT_BIT)
def test_order_and_dim_do_not_matter(fmt):
    a, b = operands(AcceleratorConfig(fmt, acc="exact"), 6, 90, 5, 8)
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    builds = [AcceleratorConfig(fmt, acc="exact", dim=dim) for dim in (4, 8, 16)]
    expected = gemm(builds[0], a, b)
    for config in builds:
        order = np.random.default_rng(config.dim).permutation(90)
        assert np.array_equal(gemm(config, a[:, order], b[order]), expected)
    rounded = AcceleratorConfig(fmt, acc="bf16", dim=4)
    assert not np.array_equal(gemm(rounded, a, b), gemm(rounded, a[:, ::-1], b[::-1]))


def test_sums_at_the_limit_fit_their_words():
    for fmt in EIGHT_BIT:
        config = AcceleratorConfig(fmt, acc="exact", k_max=5)
        values = [decode(encoding, np.arange(256)) for encoding in config.format.encodings]
        largest = np.nanmax(np.concatenate(values)[np.isfinite(np.concatenate(values))])
        total = gemm(config, np.full((1, 5), largest), np.full((5, 1), -largest))
        bits = config.acc_bits
        assert -(1 << bits - 2) <= total[0, 0] < -(1 << bits - 5)
        assert exact_words(total, bits)[0, 0] == total[0, 0] + (1 << bits - 1)


def test_rounding_once_not_twice():
    config = AcceleratorConfig("posit8es2", acc="exact")
    half = (1 << 100) + (1 << 92)
    for value, expected in ((half, 1 << 100), (half + 1, 129 << 93), (half - 1, 1 << 100),
                            (-half - 1, -(129 << 93)), (0, 0)):
        got = round_exact(config, config.lane, np.array([value], object))[0]
        assert Fraction(got) == expected * Fraction(2) ** -48
        assert np.signbit(got) == (value < 0)


@pytest.mark.slow  # a bound on time is for a quiet machine
def test_a_cube_of_128_takes_less_than_two_seconds():
    config = AcceleratorConfig("posit8es2", acc="exact")
    a, b = operands(config, 128, 128, 128, 3)
    start = time.process_time()
    narrow(config, gemm(config, a, b))
    assert time.process_time() - start < 2


@pytest.mark.parametrize("values, message", [
    ({"fmt": "bf16", "acc": "exact"}, "acc must be fp32 for format bf16, not 'exact': an exact"),
    ({"acc": "exact", "k_max": 0}, "k_max must be an integer from 1 to 16777215, not 0"),
    ({"acc": "exact", "k_max": 1 << 24}, "k_max must be an integer from 1 to 16777215, not 167"),
    ({"acc": "int32"}, "acc must be bf16, fp32, exact, fused where the format is not int8, "
     "not 'int32'")])
def test_bad_configurations_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        AcceleratorConfig(**values)


@pytest.mark.parametrize("fmt", EIGHT_BIT)
def test_one_product_where_float64_holds_it_and_only_there(fmt):
    """Rows of growing length pass from one product of float64 to two and on to integers."""
    config, rng, ways = AcceleratorConfig(fmt, acc="exact"), np.random.default_rng(9), set()
    unit = 2.0 ** (unit_log2(config) // 2)
    values = np.unique(np.abs(decode(config.format.encodings[-1], np.arange(256))))
    values = values[np.isfinite(values)]
    for most in values[1::3]:
        small = np.append(values[(values <= most) & (values >= most / 4)], values[1])
        a, b = (rng.choice(small, shape) * rng.choice([-1, 1], shape)
                for shape in ((6, 300), (300, 5)))
        largest = (np.abs(a) @ np.abs(b)).max() / unit ** 2
        assert not (held(config, a, b) and largest >= 2 ** 53)
        ways.add(held(config, a, b))
        assert np.array_equal(product(config, a, b), narrow(config, gemm(config, a, b)))
    # Floats of E4M3 never reach the bound, nor posits of es 0: 300 · (2^18)² < 2^53.
    assert ways == ({True} if fmt in ("e4m3", "posit8es0") else {True, False})


def test_a_product_beyond_what_float64_holds_is_not_held():
    config = AcceleratorConfig("posit8", acc="exact")
    a = np.array([[4096.0, 2.0 ** -12, -4096.0]] * 2)
    b = np.array([[4096.0, 2.0 ** -12, 4096.0]]).T
    b = np.repeat(b, 3, axis=1)
    assert held(config, a / 64, b) and not held(config, np.tile(a, 300), np.tile(b, (300, 1)))
    assert np.all(product(config, np.tile(a, 300), np.tile(b, (300, 1))) == 300 * 2.0 ** -24)
