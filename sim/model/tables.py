"""The published piecewise-linear tables evaluated on values, exactly.

``hdl.spec.tables`` and ``hdl.spec.activations`` define them on words; here the same integers are
applied to the numbers that the words stand for. Every intermediate is an integer or a dyadic
rational of fewer than 53 bits, so float64 and int64 hold it exactly.
"""

import numpy as np

from hdl.spec.activations import ACTIVATIONS, FRACTION_BITS
from hdl.spec.commands import Function
from hdl.spec.formats import LaneType
from hdl.spec.tables import EXP, INVERSE_SQRT, RECIPROCAL, Segments
from sim.model.rounding import Array, round_to

__all__ = ["activation", "exp", "inverse_sqrt", "reciprocal"]


def _significand(segments: Segments, u: Array) -> Array:
    """y(u) of ``segments``, in units of 2^-result_bits."""
    segment, offset = np.divmod(u, 1 << segments.offset_bits)
    base = np.array(segments.base, np.int64)[segment]
    slope = np.array(segments.slope, np.int64)[segment]
    return np.floor_divide(base + slope * offset, 1 << segments.shift)


def _value(lane: LaneType, segments: Segments, y: Array, exponent: Array) -> Array:
    """y · 2^exponent; infinite or zero outside the normal range of ``lane``."""
    value = np.ldexp(y.astype(np.float64), exponent - segments.result_bits)
    value = np.where(value >= 2.0 ** (lane.bias + 1), np.inf, value)
    return np.where(value < 2.0 ** (1 - lane.bias), 0.0, value)


def exp(lane: LaneType, x: Array) -> Array:
    """e^x as a value of ``lane``, for BF16 values ``x`` (zeros and infinities, no NaN)."""
    table = EXP[lane]
    argument_bits = table.segments.argument_bits
    # Beyond 128 the result is zero or infinite, and the product below would outgrow an int64.
    far = np.abs(x) >= 128
    scaled = np.where(far, 0.0, np.abs(x)) * table.log2e
    t = np.floor(np.ldexp(scaled, argument_bits - table.log2e_bits)).astype(np.int64)
    t = np.where(np.signbit(x), -1 - t, t)
    n, u = np.divmod(t, 1 << argument_bits)
    result = _value(lane, table.segments, _significand(table.segments, u), n)
    return np.where(far, np.where(np.signbit(x), 0.0, np.inf), result)


def reciprocal(lane: LaneType, x: Array) -> Array:
    """1/x as a value of ``lane``, for normal values ``x`` of it."""
    segments = RECIPROCAL[lane].segments
    half, exponent = np.frexp(np.abs(x))  # |x| = 2 half · 2^(exponent − 1)
    u = np.floor(np.ldexp(2 * half - 1, segments.argument_bits)).astype(np.int64)
    result = _value(lane, segments, _significand(segments, u), -exponent)
    return np.copysign(result, x)


def inverse_sqrt(lane: LaneType, x: Array) -> Array:
    """1/√x as a value of ``lane``, for positive normal values ``x`` of it."""
    segments = INVERSE_SQRT[lane].segments
    _, exponent = np.frexp(x)
    m = np.floor_divide(exponent - 1, 2)  # x = v · 4^m, 1 <= v < 4
    v = np.ldexp(x, -2 * m)
    doubled = v >= 2
    unit = 1 << segments.argument_bits - 1
    u = np.floor((np.where(doubled, v / 2, v) - 1) * unit).astype(np.int64) + doubled * unit
    return _value(lane, segments, _significand(segments, u), -m - 1)


def activation(lane: LaneType, function: Function, x: Array) -> Array:
    """``function`` of BF16 values ``x`` (zeros and infinities, no NaN, no subnormals)."""
    table = ACTIVATIONS[function]
    segments = table.segments
    a = np.abs(x)
    inside = a < 2.0 ** table.octaves
    near = np.where(inside, a, 0.0)
    # The octave's start and the spacing of the grid in it: below 1 that of [0, 1).
    octave = np.where(near < 1, 0, np.frexp(near)[1])
    start = np.where(near < 1, 0.0, np.ldexp(1.0, octave - 1))
    width = np.where(near < 1, 1.0, start)
    u = octave * (1 << FRACTION_BITS) + np.floor((near - start) / width * (1 << FRACTION_BITS))
    one = 1 << segments.result_bits
    y = np.where(inside, _significand(segments, u.astype(np.int64)), 0)
    lone = (a >= 1) if table.even else np.full(a.shape, not table.times_x)
    weight = np.where(~lone if table.even else np.signbit(x), y, one - y) / one
    factor = np.where(lone, 1.0, a)
    # Nothing of an infinity is nothing.
    result = round_to(lane, np.where(weight == 0, 0.0, factor) * weight)
    return np.copysign(result, x) if table.times_x else result
