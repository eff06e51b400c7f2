"""Arithmetic of lanes of integers: words of 32 bits in units of 2^-16 that saturate (numerics,
Fixed lanes).

Values are float64, which holds every word, every accumulator and every product of one of them by a
BF16 value exactly; sums of rows and what follows from them are Python integers.
"""

from fractions import Fraction

import numpy as np

from hdl.spec.commands import Post
from hdl.spec.formats import BFLOAT16, BINARY32, FIXED32, LaneType
from sim.model import lanes
from sim.model.rounding import Array, largest, round_to

__all__ = ["add", "beyond", "enter", "factor", "multiply", "nearest_float", "post", "reduced",
           "row_maximum", "saturate"]

_UNIT = 2.0 ** FIXED32.fraction_bits
_FINE = 32
"""Fraction bits of a mean before it is rounded, and of what is added to it."""
_MOST = (1 << 48) - 1
"""The largest of both, in their units: twice as far as words go."""


def _units(x: Array) -> Array:
    """``x`` in units, rounded to nearest even."""
    return np.rint(np.ldexp(np.nan_to_num(np.asarray(x, np.float64), nan=0.0, posinf=np.inf,
                                          neginf=-np.inf), FIXED32.fraction_bits))


def beyond(x: Array) -> Array:
    """Where the nearest word of ``x`` saturates."""
    units = _units(x)
    return (units < FIXED32.least) | (units > FIXED32.most)


def enter(x: Array) -> Array:
    """The nearest words of ``x``; NaN gives 0."""
    return np.clip(_units(x), FIXED32.least, FIXED32.most) / _UNIT + 0.0


def saturate(units: int) -> float:
    """The word of so many units."""
    return min(max(units, FIXED32.least), FIXED32.most) / _UNIT


def factor(y: Array) -> Array:
    """What ``y`` is multiplied by as: rounded to 8 significant bits; what is not finite counts as
    the largest finite value of its sign, a subnormal as zero."""
    y = np.asarray(y, np.float64)
    finite = round_to(BFLOAT16, np.where(np.isfinite(y), y, 0.0))
    return np.where(np.isfinite(y), finite, np.copysign(largest(BFLOAT16), y))


def multiply(x: Array, y: Array) -> Array:
    """x · ``factor``(y), exactly: x may be an accumulator."""
    return np.asarray(x, np.float64) * factor(y)


def add(x: Array, y: Array, subtract: bool = False) -> Array:
    """x + y or x − y as words, exactly."""
    return enter(x) + (-enter(y) if subtract else enter(y))


def row_maximum(x: Array, scale: float) -> Array:
    """The largest accumulator of each row times ``scale``."""
    return enter(multiply(np.max(x, axis=1), np.asarray(scale)))


def reduced(x: Array, largest_alone: bool) -> list[int]:
    """The largest word of each row, or the sum of all, in units."""
    words = np.rint(x * _UNIT).astype(np.int64)
    totals = words.max(axis=1) if largest_alone else words.sum(axis=1)
    return [int(total) for total in totals]


def _nearest(value: Fraction) -> int:
    """To nearest, ties to even."""
    return round(value)


def _single(value: float) -> Fraction:
    """A constant of a command, an FP32 value: a subnormal is zero, what is not finite the largest
    finite value of its sign."""
    if not np.isfinite(value):
        value = float(np.copysign(largest(BINARY32), value))
    return Fraction(value) if abs(value) >= 2.0 ** (1 - BINARY32.bias) else Fraction(0)


def nearest_float(lane: LaneType, value: Fraction) -> float:
    """``value``, to nearest even."""
    if not value:
        return 0.0
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    exponent -= magnitude < Fraction(2) ** exponent
    unit = Fraction(2) ** (exponent - lane.fraction_bits)
    return float(round(value / unit) * unit)


def _mean(total: int, inverse_n: float) -> int:
    """Units of 2^-``_FINE`` of a sum times ``inverse_n``, made odd where these cannot hold it."""
    exact = Fraction(total, int(_UNIT)) * _single(inverse_n) * (1 << _FINE)
    cut = exact.numerator // exact.denominator
    if cut != exact:
        cut |= 1
    return min(max(cut, -_MOST - 1), _MOST)


def post(kind: Post, total: int, inverse_n: float, epsilon: float) -> tuple[float, bool]:
    """What a row register takes of a reduction of ``total`` units, and whether it saturates."""
    if kind == Post.NONE:
        value = saturate(total)
        return value, value * _UNIT != total
    if kind == Post.INVERSE:
        return _inverse(Fraction(total, int(_UNIT))), False
    mean = _mean(total, inverse_n)
    if kind == Post.MEAN:
        units = _nearest(Fraction(mean, 1 << _FINE - FIXED32.fraction_bits))
        return saturate(units), not FIXED32.least <= units <= FIXED32.most
    assert kind == Post.RECIPROCAL_MEAN, "others need functions"
    more = _nearest(_single(epsilon) * (1 << _FINE))
    more = min(max(more, -_MOST - 1), _MOST)
    return _inverse(Fraction(mean + more, 1 << _FINE)), False


def _inverse(value: Fraction) -> float:
    """1/x by the table, of x rounded to BF16."""
    x = np.array([nearest_float(BFLOAT16, value)])
    return float(lanes.reciprocal_by_table(BFLOAT16, x)[0])
