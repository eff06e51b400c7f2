"""Round to nearest even into the lane and accumulator types, from exact values.

Values are float64 arrays that hold BF16 and FP32 values exactly (NaN and −0 kept). Every result
of an exact sum or product is rounded once: a sum that float64 cannot hold is first rounded to
odd, which keeps the later rounding to 24 bits or fewer right.

Rule (numerics, vector unit and accumulators): round to p significand bits with an unbounded
exponent; then a magnitude below the smallest normal is zero with its sign, one beyond the largest
finite is infinite.
"""

import numpy as np
from numpy.typing import ArrayLike

from hdl.spec.formats import FixedType, LaneType

__all__ = ["Array", "add", "add_to_odd", "bounds", "flush", "from_words", "largest", "multiply",
           "round_to", "smallest", "to_words"]

Array = np.ndarray
_MANY = 1 << 11  # values: more are rounded by compiled loops, which numpy's passes cost too much


def bounds(lane: LaneType) -> tuple[int, float, float]:
    """Bits of float64 that ``lane`` drops, its smallest normal value, and what overflows."""
    return 52 - lane.fraction_bits, smallest(lane), 2.0 ** (lane.bias + 1)


def largest(lane: LaneType) -> float:
    """Largest finite value of ``lane``."""
    return float(2.0 ** lane.bias * (2.0 - 2.0 ** -lane.fraction_bits))


def smallest(lane: LaneType) -> float:
    """Smallest normal value of ``lane``."""
    return float(2.0 ** (1 - lane.bias))


def flush(lane: LaneType, values: ArrayLike) -> Array:
    """Subnormal values of ``lane`` as zero with their sign; the rest as it is."""
    values = np.asarray(values, np.float64)
    if values.size >= _MANY:
        from sim.model.compiled import flush_all  # loads compiled code

        return flush_all(np.ascontiguousarray(values).reshape(-1),
                         smallest(lane)).reshape(values.shape)
    return np.where(np.abs(values) < smallest(lane), np.copysign(0.0, values), values)


def round_to(lane: LaneType, values: ArrayLike) -> Array:
    """Float64 ``values`` rounded once to ``lane``, zero for subnormals, Inf for overflow.

    The values are exact, or rounded to odd (``add_to_odd``).
    """
    values = np.asarray(values, np.float64, order="C")
    if values.size >= _MANY:
        from sim.model.compiled import round_all

        return round_all(values.reshape(-1), *bounds(lane)).reshape(values.shape)
    words = values.view(np.int64)
    dropped = 52 - lane.fraction_bits
    odd = words >> dropped & 1
    # Adding just under half, or half when the kept part is odd, carries where RNE rounds up;
    # a carry out of the significand is the next exponent, as it must be.
    near = words + ((1 << dropped - 1) - 1) + odd & ~np.int64((1 << dropped) - 1)
    result = near.view(np.float64)
    magnitude = np.abs(result)
    special = ~(np.abs(values) < np.inf)
    result = np.where(magnitude < smallest(lane), np.copysign(0.0, values), result)
    result = np.where(magnitude >= 2.0 ** (lane.bias + 1), np.copysign(np.inf, values), result)
    return np.where(special, values, result)


def add_to_odd(a: Array, b: Array) -> Array:
    """a + b, exact where float64 holds it, else the neighbour with an odd last bit."""
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.asarray(np.add(a, b), np.float64)
        # Two-sum (Knuth): total + error is exactly a + b.
        b_part = total - a
        error = (a - (total - b_part)) + (b - b_part)
        inexact = np.isfinite(total) & (error != 0)
    words = np.asarray(total, order="C").view(np.int64)
    even = words & 1 == 0
    away = (error > 0) == (total > 0)
    step = np.where(inexact & even, np.where(away, 1, -1), 0)
    return (words + step).view(np.float64)


def add(lane: LaneType, a: Array, b: Array, *, flushing: bool = False) -> Array:
    """RNE(a + b) in ``lane``; an exact zero sum is +0 unless both addends are −0. ``flushing``:
    addends that are subnormal there count as zero."""
    pair = _many(a, b)
    if pair is not None:
        from sim.model.compiled import add_all

        return add_all(pair[0].reshape(-1), pair[1].reshape(-1), *bounds(lane),
                       smallest(lane) if flushing else 0.0).reshape(pair[0].shape)
    if flushing:
        a, b = flush(lane, a), flush(lane, b)
    return round_to(lane, add_to_odd(a, b))


def multiply(lane: LaneType, a: Array, b: Array, *, flushing: bool = False) -> Array:
    """RNE(a · b) in ``lane``; a product of two 24-bit significands is exact in float64.
    ``flushing``: as for ``add``."""
    pair = _many(a, b)
    if pair is not None:
        from sim.model.compiled import multiply_all

        return multiply_all(pair[0].reshape(-1), pair[1].reshape(-1), *bounds(lane),
                            smallest(lane) if flushing else 0.0).reshape(pair[0].shape)
    if flushing:
        a, b = flush(lane, a), flush(lane, b)
    with np.errstate(invalid="ignore", over="ignore"):
        return round_to(lane, np.multiply(a, b))


def _many(a: Array, b: Array) -> tuple[Array, Array] | None:
    """Both in one shape, float64 and C order, where they are worth a compiled loop."""
    a, b = np.broadcast_arrays(a, b)
    if a.size < _MANY:
        return None
    return (np.ascontiguousarray(a, np.float64), np.ascontiguousarray(b, np.float64))


def from_words(lane: LaneType | FixedType, words: ArrayLike) -> Array:
    """Raw words of ``lane`` as values (subnormals and infinities too)."""
    words = np.asarray(words).astype(np.uint32)
    if isinstance(lane, FixedType):
        return np.ldexp(words.view(np.int32).astype(np.float64), -lane.fraction_bits)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        return (words << np.uint32(32 - lane.bits)).view(np.float32).astype(np.float64)


def to_words(lane: LaneType | FixedType, values: ArrayLike) -> Array:
    """Values that ``lane`` holds exactly as raw words; every NaN is the canonical one.

    ``ValueError`` if a value is not of the lane type.
    """
    values = np.asarray(values, np.float64)
    if isinstance(lane, FixedType):
        units = np.ldexp(values, lane.fraction_bits)
        if np.any((units != np.rint(units)) | (units < lane.least) | (units > lane.most)):
            raise ValueError(f"values must be of type {lane.name}")
        return units.astype(np.int64).astype(np.uint32)
    with np.errstate(over="ignore"):
        words = np.asarray(values, np.float32, order="C").view(np.uint32)
    words = words >> np.uint32(32 - lane.bits)
    nan = np.isnan(values)
    if not np.array_equal(from_words(lane, words)[~nan], values[~nan]):
        raise ValueError(f"values must be of type {lane.name}")
    words = np.where(nan, np.uint32(lane.nan), words)
    return words.astype(np.uint16 if lane.bits == 16 else np.uint32)
