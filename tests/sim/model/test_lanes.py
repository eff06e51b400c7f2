import math
from fractions import Fraction

import numpy as np
import pytest

from hdl.spec.config import SOFTMAX_MODES, AcceleratorConfig
from hdl.spec.formats import BFLOAT16, BINARY32, PositEncoding
from hdl.spec.tables import EXP, RECIPROCAL
from sim.model import lanes
from sim.model.codec import encode
from sim.model.rounding import from_words, largest, round_to, to_words
from support import oracle

WORDS = np.arange(1 << 16)
VALUES = from_words(BFLOAT16, WORDS)
FLUSHED = np.where(np.abs(VALUES) < 2.0**-126, np.copysign(0.0, VALUES), VALUES)
lane_types = pytest.mark.parametrize("lane", (BFLOAT16, BINARY32), ids=lambda lane: lane.name)


def same(got, want):
    got, want = np.asarray(got), np.asarray(want)
    number = ~np.isnan(want)
    return (np.array_equal(got, want, equal_nan=True)
            and np.array_equal(np.signbit(got)[number], np.signbit(want)[number]))


def config_of(lane, softmax="pwl", **options):
    return AcceleratorConfig(fmt="posit8" if lane is BFLOAT16 else "bf16", softmax=softmax,
                             **options)


def word_value(lane, magnitude, negative):
    """Value of a word built as hdl.spec.tables says."""
    top = magnitude >> lane.fraction_bits
    if top >= 255 or top <= 0:
        value = math.inf if top >= 255 else 0.0
    else:
        fraction = magnitude & (1 << lane.fraction_bits) - 1
        value = math.ldexp((1 << lane.fraction_bits) + fraction, top - 127 - lane.fraction_bits)
    return -value if negative else value


@lane_types
def test_power_is_that_of_exact_rationals(lane):
    """All 65,536 upper halves of a word; 2^(-n - 1) by comparing fractions."""
    values = from_words(lane, WORDS << lane.bits - 16)
    want = []
    for value in np.abs(values).tolist():
        if math.isnan(value):
            want.append(math.nan)
        elif value < 2.0**-64:
            want.append(1.0)
        elif value >= 2.0**126:
            want.append(0.0)
        else:
            exact = Fraction(value)
            power = Fraction(2) ** (exact.denominator.bit_length() - exact.numerator.bit_length())
            power = next(p for p in (power / 2, power, power * 2) if 1 <= 2 * exact * p < 2)
            want.append(float(power))
    assert same(lanes.power(values), np.array(want))
    powers = np.ldexp(1.0, np.arange(-64, 126))
    assert np.array_equal(lanes.power(powers) * 2 * powers, np.ones(190))


@lane_types
def test_the_largest_magnitude(lane):
    rng, nans = np.random.default_rng(4), 0
    for _ in range(300):
        x = from_words(lane, rng.integers(0, 1 << 16, (3, 5)) << lane.bits - 16)
        before = float(abs(rng.normal()))
        flushed = np.where(np.abs(x) < 2.0**-126, 0.0, np.abs(x))
        want = math.nan if np.isnan(x).any() else max(before, flushed.max())
        assert same(lanes.largest_magnitude(lane, before, x), want)
        nans += math.isnan(want)
    assert 0 < nans < 300
    assert math.isnan(lanes.largest_magnitude(lane, math.nan, np.ones(3)))
    assert same(lanes.largest_magnitude(lane, 0.0, np.array([-0.0, -2.0**-130])), 0.0)


def table_exp(lane, word):
    """exp on a BF16 word, step by step from the published definition."""
    table = EXP[lane]
    sign, e, g = word >> 15, word >> 7 & 255, word & 127
    if e == 255 and g:
        return math.nan
    if e >= 134:
        return 0.0 if sign else math.inf
    k = e - 134 - table.log2e_bits + table.segments.argument_bits
    product = (128 + g) * table.log2e
    t = 0 if e == 0 else product << k if k >= 0 else product >> -k
    t = ~t if sign else t
    n, u = t >> table.segments.argument_bits, t & (1 << table.segments.argument_bits) - 1
    result_bits = table.segments.result_bits
    y = table.segments(u) - (1 << result_bits)
    return word_value(lane, (n + 127 << lane.fraction_bits)
                      + (y << lane.fraction_bits - result_bits), False)


def table_reciprocal(lane, word):
    segments = RECIPROCAL[lane].segments
    fraction_bits = lane.fraction_bits
    sign, e = word >> lane.bits - 1, word >> fraction_bits & 255
    fraction = word & (1 << fraction_bits) - 1
    if e == 255:
        return math.nan if fraction else math.copysign(0.0, -sign or 1)
    if e == 0:
        return -largest(lane) if sign else largest(lane)
    y = segments(fraction >> fraction_bits - segments.argument_bits) - (1 << segments.result_bits)
    return word_value(lane, (253 - e << fraction_bits)
                      + (y << fraction_bits - segments.result_bits), sign)


def line_exp(x):
    """0x3F80 less 184 units of the last place for each unit of -x, as a BF16 word's value."""
    if math.isnan(x):
        return math.nan
    if x <= -16:
        return 0.0
    return word_value(BFLOAT16, 0x3F80 - math.floor(184 * -Fraction(min(x, 0.0))), 0)


@lane_types
def test_linear_exp_counts_down_the_word_of_one(lane):
    config = config_of(lane, "linear")
    got = lanes.exp(config, VALUES)
    want = [line_exp(x) for x in VALUES.tolist()]
    assert same(got, want)
    assert not same(lanes.exp(config, VALUES * 2), want)
    assert same(lanes.reciprocal(config, VALUES), lanes.reciprocal(config_of(lane), VALUES))
    print(f"exp linear {lane.name}: {len(want)} cases")


@lane_types
def test_table_exp_follows_the_published_steps(lane):
    got = lanes.exp(config_of(lane), VALUES)
    want = [table_exp(lane, word) for word in WORDS.tolist()]
    assert same(got, want)
    assert not same(lanes.exp(config_of(lane), -VALUES), want)
    print(f"exp pwl {lane.name}: {len(want)} cases")


@lane_types
def test_table_exp_is_near_the_real_function(lane):
    result = lanes.exp(config_of(lane), VALUES)
    with np.errstate(over="ignore"):
        real = np.exp(FLUSHED)
    inside = (real >= 2.0**-126) & (real < 3.38e38) & np.isfinite(FLUSHED)
    ulp = 2.0 ** (np.floor(np.log2(real[inside])) - 7)
    error = np.abs(result[inside] - real[inside])
    print(f"exp pwl {lane.name}: max {np.max(error / ulp):.3f}, mean {np.mean(error / ulp):.3f} "
          f"BF16 ulp over {inside.sum()} inputs")
    assert inside.sum() > 30_000
    if lane is BFLOAT16:
        assert np.max(error / ulp) <= 1
    else:
        assert np.max(error / real[inside]) <= 2.0**-10


@pytest.mark.parametrize("softmax", ("approx", "approx_shifted"))
@lane_types
def test_trick_exp_equals_the_posit_path(lane, softmax):
    """P(16,0), shift right by two, NOT, cut to BF16, subtract epsilon: for all x < 0 and 0."""
    config = config_of(lane, softmax)
    words = np.arange(0x8000, 0xFF80)
    x = from_words(BFLOAT16, words)
    posit = encode(PositEncoding("posit16", 16, 0, None), -x).astype(int)
    shifted = (posit ^ 0x8000) >> 2 ^ 0x7FFF
    # Those codes lie in [1, 2): regime 10, 13 fraction bits; cut to seven.
    assert np.all(shifted >> 13 == 2)
    value = 1 + (shifted & 0x1FFF) // 64 / 128
    want = np.maximum(value - config.exp_epsilon / 128, 0)
    if config.exp_theta is not None:
        want = np.where(x < config.exp_theta / 128, 0, want)
    assert same(lanes.exp(config, x), want)
    other = config_of(lane, softmax, exp_epsilon=config.exp_epsilon + 1)
    assert not same(lanes.exp(other, x), want)
    positive = lanes.exp(config, from_words(BFLOAT16, np.arange(0x7F81)))
    assert np.all(positive == want[0])
    assert lanes.exp(config, np.array([-np.inf]))[0] == 0
    print(f"exp {softmax} {lane.name}: {len(words)} cases, max error on [-8, 0] "
          f"{np.max(np.abs(want - np.exp(x))[x >= -8]):.4f}")


def test_fp32_exp_rounds_its_argument_first():
    config = config_of(BINARY32)
    x = np.array([-1 - 2.0**-8, -1 - 3 * 2.0**-8])
    assert same(lanes.exp(config, x), lanes.exp(config, np.array([-1, -1 - 2.0**-6])))


def reciprocal_inputs(lane):
    if lane is BFLOAT16:
        return WORDS
    rng = np.random.default_rng(11)
    return np.concatenate([rng.integers(0, 1 << 32, 20_000), WORDS << 16,
                           (rng.integers(0, 2, 4000) << 31) + (253 << 23)
                           + rng.integers(-5, 6, 4000)])


@lane_types
def test_table_reciprocal_follows_the_published_steps(lane):
    words = reciprocal_inputs(lane)
    want = [table_reciprocal(lane, word) for word in words.tolist()]
    assert same(lanes.reciprocal(config_of(lane), from_words(lane, words)), want)
    print(f"reciprocal pwl {lane.name}: {len(want)} cases")


@lane_types
def test_table_reciprocal_is_near_the_real_function(lane):
    x = from_words(lane, reciprocal_inputs(lane))
    x = x[np.isfinite(x) & (np.abs(x) >= 2.0**-126) & (np.abs(x) <= 2.0**125)]
    got = lanes.reciprocal(config_of(lane), x)
    ulp = 2.0 ** (np.floor(np.log2(np.abs(1 / x))) - 7)
    error = np.abs(got - 1 / x)
    print(f"reciprocal pwl {lane.name}: max {np.max(error / ulp):.3f}, "
          f"mean {np.mean(error / ulp):.3f} BF16 ulp over {len(x)} inputs")
    assert len(x) > 60_000
    assert np.max(error / ulp) <= 1 if lane is BFLOAT16 else np.max(error * abs(x)) <= 2.0**-10


@pytest.mark.parametrize("exact_power", (False, True))
@lane_types
def test_trick_reciprocal_is_the_rule_on_bits(lane, exact_power):
    config = config_of(lane, "approx", exact_power_reciprocal=exact_power)
    words = reciprocal_inputs(lane)
    fraction_bits = lane.fraction_bits
    sign, e = words >> lane.bits - 1, words >> fraction_bits & 255
    fraction = words & (1 << fraction_bits) - 1
    ones = (1 << fraction_bits) - 1
    if exact_power:
        magnitude = (254 << fraction_bits) - (e << fraction_bits) - fraction
    else:
        magnitude = (253 - e << fraction_bits) + (ones - fraction)
    magnitude = np.where(magnitude >> fraction_bits <= 0, 0, magnitude)
    magnitude = np.where(e == 0, (255 << fraction_bits) - 1, magnitude)
    magnitude = np.where((e == 255) & (fraction > 0), lane.nan, magnitude)
    want = from_words(lane, magnitude)
    want = np.where(sign == 1, -want, want)
    got = lanes.reciprocal(config, from_words(lane, words))
    assert same(got, want)
    other = config_of(lane, "approx", exact_power_reciprocal=not exact_power)
    assert not same(lanes.reciprocal(other, from_words(lane, words)), want)
    x = from_words(lane, words)
    inside = np.isfinite(x) & (np.abs(x) >= 2.0**-120) & (np.abs(x) <= 2.0**120)
    error = np.abs(got[inside] * x[inside] - 1)
    assert np.max(error) <= 0.1255
    print(f"reciprocal trick {lane.name}: {len(words)} cases, max error {np.max(error):.4f}, "
          f"mean {np.mean(error):.4f}")


def slow_row_sum(lane, count, row, ways):
    totals = [None] * ways
    for number, start in enumerate(range(0, len(row), count)):
        beat = row[start:start + count] + [0.0] * (count - len(row[start:start + count]))
        while len(beat) > 1:
            beat = [oracle.add(BINARY32, *pair)
                    for pair in zip(beat[0::2], beat[1::2], strict=True)]
        so_far = totals[number % ways]
        totals[number % ways] = (beat[0] if so_far is None
                                 else oracle.add(BINARY32, so_far, beat[0]))
    totals = [0.0 if total is None else total for total in totals]
    while len(totals) > 1:
        totals = [oracle.add(BINARY32, *pair)
                  for pair in zip(totals[0::2], totals[1::2], strict=True)]
    total = totals[0]
    return oracle.add(lane, total, 0.0) if total else total


@pytest.mark.parametrize("count, ways", [(4, 1), (16, 1), (4, 2), (4, 4), (8, 4)])
@lane_types
def test_row_sum_follows_the_order(lane, count, ways):
    rng = np.random.default_rng(12)
    cases = 0
    for columns in (1, 3, 4, 5, 16, 37, 70):
        x = rng.normal(size=(20, columns)) * 2.0 ** rng.integers(-20, 20, (20, columns))
        x = round_to(lane, x)
        x[3, -1] = np.nan
        x[4] = -0.0
        want = [slow_row_sum(lane, count, row, ways) for row in x.tolist()]
        assert same(round_to(lane, lanes.row_total(lane, count, ways, x)), want)
        # +0 where a word or a sum is absent.
        assert np.signbit(want[4]) == (columns % count == 0 and columns // count >= ways)
        cases += len(x)
    totals = lanes.row_total(lane, count, ways, x)
    for other in (lanes.row_total(lane, count, ways, x[:, ::-1]),
                  lanes.row_total(lane, count, 1 if ways > 1 else 2, x)):
        assert not same(other, totals)
    print(f"row sum {lane.name} {count} lanes {ways} ways: {cases} rows")


@lane_types
def test_maximum_and_row_max(lane):
    inf, nan = math.inf, math.nan
    tiny = 2.0**-130
    x = np.array([[-0.0, 0.0, -0.0], [-0.0, -0.0, -1.0], [1.0, nan, inf], [-inf, -3.0, -inf],
                  [-tiny, -1.0, -2.0], [tiny, -1.0, -0.0], [-inf, -inf, -inf]])
    want = np.array([0.0, -0.0, nan, -3.0, -0.0, 0.0, -inf])
    assert same(lanes.row_max(lane, x), want)
    assert same(lanes.maximum(lane, lanes.maximum(lane, x[:, 0], x[:, 1]), x[:, 2]), want)
    assert not same(np.max(x, axis=1), want)


@lane_types
def test_relu_and_flushed_operands(lane):
    tiny = 2.0**-130
    x = np.array([-1.0, -0.0, 2.0, math.nan, -math.inf, math.inf, tiny])
    assert same(lanes.relu(lane, x), [0.0, 0.0, 2.0, math.nan, 0.0, math.inf, 0.0])
    assert same(lanes.add(lane, np.array([tiny, -tiny]), np.array([-0.0, -0.0])), [0.0, -0.0])
    assert same(lanes.subtract(lane, np.array([1.0, -0.0]), np.array([1.0, 0.0])), [0.0, -0.0])
    assert same(lanes.multiply(lane, np.array([tiny, -tiny]), np.array([2.0**100] * 2)),
                [0.0, -0.0])


@pytest.mark.parametrize("softmax", SOFTMAX_MODES)
@lane_types
def test_results_are_lane_words(lane, softmax):
    config = config_of(lane, softmax)
    x = from_words(lane, reciprocal_inputs(lane))
    for result in (lanes.exp(config, x), lanes.reciprocal(config, x)):
        assert len(to_words(lane, result)) == len(x)
