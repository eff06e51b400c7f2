"""Exact oracles, one value at a time, apart from the models' vectorised methods."""

import math
from bisect import bisect_left
from fractions import Fraction

from hdl.spec.formats import FloatEncoding, LaneType, PositEncoding

__all__ = ["FloatOracle", "add", "fused", "multiply", "posit_encode", "posit_ring",
           "round_fraction"]


def round_fraction(lane: LaneType, value: Fraction, zero: float = 0.0) -> float:
    """RNE of an exact value with unbounded exponent, then zero or Inf outside the range."""
    if value == 0:
        return zero
    sign = math.copysign(1.0, value)
    exponent = value_log2(abs(value))
    quantum = Fraction(2) ** (exponent - lane.fraction_bits)
    result = round(value / quantum) * quantum  # Python rounds halves to even
    if abs(result) < Fraction(2) ** (1 - lane.bias):
        return math.copysign(0.0, sign)
    if abs(result) >= Fraction(2) ** (lane.bias + 1):
        return math.copysign(math.inf, sign)
    return float(result)


def value_log2(value: Fraction) -> int:
    """Floor of log2 of a positive rational."""
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if value >= Fraction(2) ** guess else guess - 1


def add(lane: LaneType, a: float, b: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a + b
    both = math.copysign(1, a) < 0 and math.copysign(1, b) < 0
    return round_fraction(lane, Fraction(a) + Fraction(b), -0.0 if both else 0.0)


def multiply(lane: LaneType, a: float, b: float) -> float:
    if not (math.isfinite(a) and math.isfinite(b)):
        return a * b
    zero = math.copysign(0.0, math.copysign(1, a) * math.copysign(1, b))
    return round_fraction(lane, Fraction(a) * Fraction(b), zero)


def fused(lane: LaneType, psum: float, a: float, b: float) -> float:
    if not all(map(math.isfinite, (psum, a, b))):
        return psum + a * b
    product = Fraction(a) * Fraction(b)
    zero = math.copysign(1, a) * math.copysign(1, b)
    if product == 0 and psum == 0:
        return psum if math.copysign(1, psum) == zero else 0.0
    return round_fraction(lane, Fraction(psum) + product)


def posit_ring(bits: int, es: int) -> list[Fraction]:
    """Values of codes 0 ... 2^(bits-1) - 1 by Gustafson's construction of the projective ring.

    Each further bit puts a point between two neighbours: useed times beyond the outermost, the
    geometric mean of powers of two more than an octave apart, the arithmetic mean otherwise.
    """
    useed = Fraction(2) ** (1 << es)
    ring = [Fraction(0), Fraction(1)]
    for _ in range(bits - 2):
        finer = []
        for low, high in zip(ring, [*ring[1:], None], strict=True):
            if high is None:
                middle = low * useed
            elif low == 0:
                middle = high / useed
            elif high / low > 2:
                middle = Fraction(2) ** ((value_log2(low) + value_log2(high)) // 2)
            else:
                middle = (low + high) / 2
            finer += [low, middle]
        ring = finer
    return ring


def posit_encode(encoding: PositEncoding, value: Fraction) -> int:
    """The bit string regime, exponent, fraction of |value|, cut to n - 1 bits by RNE."""
    magnitude = abs(value)
    if encoding.flush_log2 is not None and magnitude < Fraction(2) ** encoding.flush_log2:
        return 0
    if magnitude == 0:
        return 0
    scale = value_log2(magnitude)
    regime, exponent = divmod(scale, 1 << encoding.es)
    length = 64
    tail = magnitude / Fraction(2) ** scale - 1
    run = "1" * (regime + 1) + "0" if regime >= 0 else "0" * -regime + "1"
    text = run + (format(exponent, f"0{encoding.es}b") if encoding.es else "")
    scaled = tail * (1 << length)
    text += format(int(scaled), f"0{length}b")
    keep = encoding.bits - 1
    kept, guard = int(text[:keep], 2), text[keep] == "1"
    sticky = "1" in text[keep + 1:] or scaled.denominator != 1
    kept += guard and (sticky or kept & 1)
    kept = min(max(kept, 1), (1 << keep) - 1)
    return kept if value > 0 else (1 << encoding.bits) - kept


class FloatOracle:
    """Nearest finite code by search among all of them; ties to the even code."""

    def __init__(self, encoding: FloatEncoding) -> None:
        self.encoding = encoding
        self.values = [self.value(code) for code in range(encoding.max_code + 1)]
        self.middles = [(a + b) / 2
                        for a, b in zip(self.values, self.values[1:], strict=False)]

    def value(self, code: int) -> Fraction:
        exponent, fraction = divmod(code, 1 << self.encoding.fraction_bits)
        unit = Fraction(1, 1 << self.encoding.fraction_bits)
        if exponent == 0:
            return fraction * unit * Fraction(2) ** (1 - self.encoding.bias)
        return (1 + fraction * unit) * Fraction(2) ** (exponent - self.encoding.bias)

    def encode(self, value: float) -> int:
        magnitude = Fraction(abs(value))
        code = bisect_left(self.middles, magnitude)
        if code < len(self.middles) and self.middles[code] == magnitude:
            code += code & 1
        negative = math.copysign(1, value) < 0
        return code | negative << self.encoding.bits - 1
