"""Arithmetic of fixed lanes against rational numbers."""

from fractions import Fraction

import numpy as np
import pytest

from hdl.spec.commands import Post
from hdl.spec.formats import BFLOAT16, FIXED32
from sim.harness.operands import lane_words
from sim.model import fixed
from sim.model.rounding import from_words, largest

CASES = 1500


def clipped(units):
    return min(max(units, FIXED32.least), FIXED32.most)


def unit(value):
    """The nearest word of a rational number, ties to even, in units."""
    return clipped(round(Fraction(value) * 2 ** FIXED32.fraction_bits))


def eight_bits(value):
    """The nearest rational number of 8 significant bits, ties to even."""
    if not value:
        return Fraction(0)
    scale = Fraction(1)
    while abs(value) * scale >= 256:
        scale /= 2
    while abs(value) * scale < 128:
        scale *= 2
    return Fraction(round(value * scale)) / scale


def words(rng, count=CASES):
    return from_words(FIXED32, lane_words(FIXED32, count, rng))


def test_products_and_sums():
    rng = np.random.default_rng(1)
    x, own, y = words(rng), words(rng), from_words(BFLOAT16, lane_words(BFLOAT16, CASES, rng))
    product, square = fixed.enter(fixed.multiply(x, y)), fixed.enter(fixed.multiply(x, own))
    total, less = fixed.enter(fixed.add(x, own)), fixed.enter(fixed.add(x, own, True))
    for index in range(CASES):
        a, b = Fraction(float(x[index])), Fraction(float(own[index]))
        assert product[index] * 65536 == unit(a * eight_bits(_finite(float(y[index]))))
        assert square[index] * 65536 == unit(a * eight_bits(b))
        assert total[index] * 65536 == unit(a + b) and less[index] * 65536 == unit(a - b)
    assert np.count_nonzero(np.abs(product) == 32768) > 100 < np.count_nonzero(product % 1)


def _finite(value):
    if not np.isfinite(value):
        return Fraction(float(np.copysign(largest(BFLOAT16), value)))
    return Fraction(value) if abs(value) >= 2.0 ** -126 else Fraction(0)


def test_accumulators_are_multiplied_before_anything_is_rounded():
    rng = np.random.default_rng(2)
    sums = rng.integers(-(1 << 31), 1 << 31, CASES) >> rng.integers(0, 31, CASES)
    factors = from_words(BFLOAT16, rng.integers(100, 135, CASES) << 7 | rng.integers(
        0, 128, CASES))
    found = fixed.enter(fixed.multiply(sums.astype(float), factors))
    assert [own * 65536 for own in found] == [
        unit(int(a) * Fraction(float(b))) for a, b in zip(sums, factors, strict=True)]


def totals(rng):
    return [int(own) >> int(by) for own, by in zip(
        rng.integers(-(1 << 55), 1 << 55, CASES), rng.integers(0, 56, CASES), strict=True)]


def test_a_mean_is_rounded_once():
    """Though it is cut to units of 2^-32 before it is a word."""
    rng = np.random.default_rng(3)
    ties, found = 0, 0
    for total in totals(rng):
        n = int(rng.integers(1, 5000))
        factor = float(np.float32(1 / n))
        if rng.random() < .3:
            factor = 2.0 ** -int(rng.integers(1, 20))
        exact = Fraction(total, 65536) * Fraction(factor)
        value, beyond = fixed.post(Post.MEAN, total, factor, 0.0)
        assert value * 65536 == unit(exact)
        assert beyond == (round(exact * 65536) != clipped(round(exact * 65536)))
        ties += (exact * 131072).denominator == 1 and (exact * 65536).denominator != 1
        found += beyond
    assert ties > 20 < found


@pytest.mark.parametrize("post", [Post.INVERSE, Post.RECIPROCAL_MEAN])
def test_inverses_are_near(post):
    """Within the rounding to 8 bits before and the table's last bit after."""
    rng, compared = np.random.default_rng(4), 0
    for total in totals(rng):
        factor, more = float(np.float32(1 / rng.integers(1, 500))), float(np.float32(1e-5))
        exact = Fraction(total, 65536)
        if post == Post.RECIPROCAL_MEAN:
            exact = exact * Fraction(factor) + Fraction(more)
        value, beyond = fixed.post(post, total, factor, more)
        assert not beyond
        if not exact:
            assert value == largest(BFLOAT16)
        # A mean goes twice as far as a word; what ``epsilon`` has below 2^-32 is not seen.
        elif post == Post.INVERSE or 2.0 ** -16 < abs(exact) < 2 ** 16:
            assert abs(Fraction(value) * exact - 1) < Fraction(3, 256)
            compared += 1
    assert compared > CASES // 4


def test_sums_are_exact_and_clipped_once():
    x = from_words(FIXED32, np.array([[0x7FFFFFFF] * 3 + [0x80000000] * 2, [0x7FFFFFFF] * 5,
                                      [0x80000000] * 5, [1, 2, 3, 4, 5]], np.uint32))
    sums = fixed.reduced(x, False)
    assert sums == [3 * FIXED32.most + 2 * FIXED32.least, 5 * FIXED32.most, 5 * FIXED32.least, 15]
    assert [fixed.post(Post.NONE, own, 0.0, 0.0) for own in sums] == [
        (clipped(own) / 65536, own != clipped(own)) for own in sums]
    assert fixed.reduced(x, True) == [FIXED32.most, FIXED32.most, FIXED32.least, 5]
    assert fixed.reduced(np.abs(x), True)[2] == 1 << 31
