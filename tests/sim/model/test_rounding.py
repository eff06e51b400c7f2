import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from hdl.spec.formats import BFLOAT16, BINARY32
from sim.model import rounding
from sim.model.rounding import (
    add,
    add_to_odd,
    flush,
    from_words,
    largest,
    multiply,
    round_to,
    smallest,
    to_words,
)
from support import oracle

lane_types = pytest.mark.parametrize("lane", (BFLOAT16, BINARY32), ids=lambda lane: lane.name)
NUMPY = {"bf16": ml_dtypes.bfloat16, "fp32": np.float32}


def same(got, want):
    """Equal values, NaN equal to NaN, the sign of zero compared."""
    got, want = np.asarray(got), np.asarray(want)
    number = ~np.isnan(want)
    return (np.array_equal(got, want, equal_nan=True)
            and np.array_equal(np.signbit(got)[number], np.signbit(want)[number]))


def operand_pairs(lane, count, seed):
    """Pairs of lane values by class: any, near, cancelling, ties, far apart, tiny, huge, rest."""
    rng = np.random.default_rng(seed)

    def draw(low, high):
        significand = rng.integers(1 << lane.fraction_bits, 2 << lane.fraction_bits, count)
        exponent = rng.integers(low, high, count) - lane.fraction_bits
        return np.ldexp(significand.astype(float), exponent) * rng.choice([-1, 1], count)

    specials = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, smallest(lane), -smallest(lane),
                         largest(lane), -largest(lane), 1.0])
    near = draw(-3, 3)
    whole = draw(0, 1)
    half = 2.0 ** -(lane.fraction_bits + 1)
    pairs = [(draw(-126, 128), draw(-126, 128)), (draw(-2, 2), near),
             (near, -near * (1 + rng.choice([0, 2 * half, -half], count))),
             (whole, half * rng.choice([-1, 1], count)),
             (whole, half * rng.choice([-1, 1], count) + rng.choice([-1, 1], count) * 2.0**-100),
             (whole, draw(-80, -20)), (draw(-126, -118), draw(-126, -118)),
             (draw(120, 128), draw(120, 128)),
             tuple(np.array(np.meshgrid(specials, specials)).reshape(2, -1))]
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return round_to(lane, a), round_to(lane, b)


@lane_types
def test_sums_match_exact_rationals(lane):
    a, b = operand_pairs(lane, 400, 2)
    want = [oracle.add(lane, x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert same(add(lane, a, b), want)
    truncated = add(lane, a, b * (1 - 2.0**-30))
    assert not same(truncated, want)
    print(f"add {lane.name}: {len(want)} cases")


@lane_types
def test_products_match_exact_rationals(lane):
    a, b = operand_pairs(lane, 400, 3)
    small = np.abs(a) < 1e9
    a = np.where(small, a, a * 2.0**-60)
    want = [oracle.multiply(lane, x, y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert same(multiply(lane, a, b), want)
    other = BFLOAT16 if lane is BINARY32 else BINARY32
    assert not same(multiply(other, a, b), want)
    print(f"multiply {lane.name}: {len(want)} cases")


@lane_types
def test_rounding_boundaries_and_their_neighbours(lane):
    rng = np.random.default_rng(4)
    significand = rng.integers(1 << lane.fraction_bits, 2 << lane.fraction_bits, 500)
    exponents = np.concatenate([rng.integers(-10, 10, 400), [-126] * 25, [-127] * 50, [127] * 25])
    middles = np.ldexp(significand + 0.5, exponents - lane.fraction_bits)
    top = np.ldexp((2 << lane.fraction_bits) - 0.5, np.array([-127, 127]) - lane.fraction_bits)
    middles = np.concatenate([middles, top])
    for values in (np.nextafter(middles, 0), middles, np.nextafter(middles, np.inf)):
        for sign in (1, -1):
            want = [oracle.round_fraction(lane, Fraction(v)) for v in (sign * values).tolist()]
            assert same(round_to(lane, sign * values), want)
    print(f"boundaries {lane.name}: {6 * len(middles)} cases")


@lane_types
def test_rounding_matches_numpy_where_both_are_defined(lane):
    rng = np.random.default_rng(5)
    values = rng.normal(size=100_000) * 2.0 ** rng.integers(-100, 100, 100_000)
    if lane is BFLOAT16:  # from float32: ml_dtypes rounds float64 twice
        values = values.astype(np.float32).astype(np.float64)
    want = values.astype(NUMPY[lane.name]).astype(np.float64)
    assert same(round_to(lane, values), want)
    assert not same(values, want)


def test_flush_is_decided_after_rounding():
    edge = 2.0**-126
    just_below = edge * (1 - 2.0**-9)  # rounds to the smallest normal with 8 bits
    assert round_to(BFLOAT16, np.array([just_below]))[0] == edge
    further = edge * (1 - 2.0**-8)
    assert same(round_to(BFLOAT16, np.array([further, -further])), [0.0, -0.0])
    assert same(flush(BFLOAT16, np.array([further, -further, edge])), [0.0, -0.0, edge])


def test_round_to_odd_keeps_what_a_double_rounding_loses():
    a, b = 1 + 2.0**-8, 2.0**-70
    assert a + b == a
    assert round_to(BFLOAT16, np.array([a + b]))[0] == 1.0
    assert round_to(BFLOAT16, add_to_odd(np.array([a]), np.array([b])))[0] == 1 + 2.0**-7
    a = 1 + 3 * 2.0**-8  # the even neighbour is the upper one
    assert round_to(BFLOAT16, np.array([a - b]))[0] == 1 + 2.0**-6
    assert round_to(BFLOAT16, add_to_odd(np.array([a]), np.array([-b])))[0] == 1 + 2.0**-7


@lane_types
def test_words_and_values(lane):
    words = np.arange(1 << 16) if lane.bits == 16 else np.random.default_rng(6).integers(
        0, 1 << 32, 100_000)
    values = from_words(lane, words)
    back = to_words(lane, values)
    nan = np.isnan(values)
    assert np.array_equal(back[~nan], words[~nan])
    assert np.all(back[nan] == lane.nan) and nan.any()
    with pytest.raises(ValueError, match=f"values must be of type {lane.name}"):
        to_words(lane, np.array([1 + 2.0**-30]))
    assert math.isinf(from_words(lane, to_words(lane, np.array([np.inf])))[0])


def wild(count, seed):
    """Any bits of float64, values near those of a lane, ties, zeros and what is no number."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 1 << 64, count, dtype=np.uint64).view(np.float64)
    near = np.float32(rng.normal(0, 1, count) * 2.0 ** rng.integers(-140, 120, count))
    ties = rng.integers(-1024, 1024, count) * 2.0 ** rng.integers(-140, 120, count)
    odd = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 2.0 ** -126, 2.0 ** -133, 1.0], count)
    return rng.permuted(np.stack([bits, near, ties, odd]), axis=0)[0]


def same_bits(a, b):
    number = ~np.isnan(b)
    return (np.array_equal(a, b, equal_nan=True)
            and np.array_equal(np.signbit(a)[number], np.signbit(b)[number]))


@pytest.mark.parametrize("lane", (BFLOAT16, BINARY32), ids=lambda lane: lane.name)
def test_many_values_are_rounded_as_few_are(lane, monkeypatch):
    x, y = wild(40_000, 1), wild(40_000, 2)
    found = {}
    for many in (1, 1 << 60):
        monkeypatch.setattr(rounding, "_MANY", many)
        a, b = rounding.round_to(lane, x), rounding.round_to(lane, y)
        found[many] = [a, b, rounding.flush(lane, x), rounding.add(lane, a, b),
                       rounding.multiply(lane, a, b), rounding.add(lane, a, -a[:1]),
                       rounding.multiply(lane, a.reshape(200, 200), b[:200][:, None])]
    for compiled, plain in zip(*found.values(), strict=True):
        assert compiled.shape == plain.shape and same_bits(compiled, plain)
        assert not same_bits(np.roll(compiled, 1), plain)
