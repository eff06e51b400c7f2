"""The exact accumulator: integer dot products, rounded once when they leave.

Every product is a multiple of u², u the smallest magnitude of the format. Operands are split into
digits in units of u, as few as let float64 matrices of digits be multiplied without rounding; two
words of an integer hold the sums of all weights. There is no order of addition to depend on.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from hdl.spec.config import AcceleratorConfig, ceil_log2
from hdl.spec.formats import LaneType
from sim.model.codec import decode
from sim.model.rounding import Array, add, add_to_odd, round_to

__all__ = ["Sums", "exact_gemm", "exact_sums", "exact_words", "held", "round_exact", "round_sums",
           "rounded_sums", "unit_log2"]

_LOW = 60
_MASK = (1 << _LOW) - 1
_EXACT = 53  # bits of the integers that float64 holds


@dataclass(frozen=True)
class Sums:
    """Integers ``high`` · 2^60 + ``low``, 0 <= ``low`` < 2^60 (int64); NaR where ``nar`` is."""

    high: Array
    low: Array
    nar: Array


@cache
def unit_log2(config: AcceleratorConfig) -> int:
    """log2 of u², which accumulators count."""
    smallest = []
    for encoding in config.format.encodings:
        values = np.abs(decode(encoding, np.arange(1 << encoding.bits)))
        smallest.append(np.min(values[values > 0]))
    return 2 * int(np.log2(min(smallest)))


def _integers(values: Array, unit: int) -> tuple[Array, int, int]:
    """(x, n, bits) with ``values`` = x · 2^(``unit`` + n), x whole float64 numbers of ``bits``
    bits at most, n as large as it can be; NaN counts as 0."""
    scaled = np.ldexp(np.nan_to_num(values, nan=0.0), -unit)
    whole = scaled.astype(np.int64)
    assert np.array_equal(scaled, whole), "values must be multiples of the unit"
    used = int(np.bitwise_or.reduce(np.abs(whole), axis=None))
    zeros = (used & -used).bit_length() - 1 if used else 0
    return np.ldexp(scaled, -zeros), zeros, used.bit_length() - zeros


def _digits(values: Array, bits: int, count: int) -> list[Array]:
    """``count`` signed digits of ``bits`` bits of whole ``values``, the lowest first."""
    digits = []
    for _ in range(count - 1):
        high = np.trunc(np.ldexp(values, -bits))
        digits.append(values - np.ldexp(high, bits))
        values = high
    return [*digits, values]


def exact_sums(config: AcceleratorConfig, a: Array, b: Array) -> Sums:
    """Decoded ``a`` (M×K) times ``b`` (K×N) in units of 2^unit_log2; NaR spoils every sum it
    enters."""
    unit = unit_log2(config) // 2
    (a_whole, a_zeros, a_bits), (b_whole, b_zeros, b_bits) = _integers(a, unit), _integers(b, unit)
    room = _EXACT - ceil_log2(a.shape[1])
    sizes = product(*([(-(-bits // n), n) for n in range(1, 9)] for bits in (a_bits, b_bits)))
    (a_digit, a_count), (b_digit, b_count) = min(
        (s for s in sizes if s[0][0] + s[1][0] <= room), key=lambda s: s[0][1] * s[1][1])
    high = np.zeros((a.shape[0], b.shape[1]), np.int64)
    low = np.zeros_like(high)
    columns = _digits(b_whole, b_digit, b_count)
    for i, left in enumerate(_digits(a_whole, a_digit, a_count)):
        for j, right in enumerate(columns):
            part = (left @ right).astype(np.int64)
            shift = i * a_digit + j * b_digit + a_zeros + b_zeros
            if shift >= _LOW:
                high += part << shift - _LOW
                continue
            low += (part & (1 << _LOW - shift) - 1) << shift
            high += (part >> _LOW - shift) + (low >> _LOW)
            low &= _MASK
    nar = np.isnan(a).any(axis=1)[:, None] | np.isnan(b).any(axis=0)[None, :]
    return Sums(high, low, np.broadcast_to(nar, high.shape))


def exact_gemm(config: AcceleratorConfig, a: Array, b: Array) -> Array:
    """``exact_sums`` as an object array (M×N) of Python integers; ``None`` for NaR."""
    sums = exact_sums(config, a, b)
    total = (sums.high.astype(object) << _LOW) + sums.low
    total[sums.nar] = None
    return total


def exact_words(sums: Array, bits: int, nar_bit: bool = True) -> Array:
    """Accumulator words of ``bits`` bits as Python integers, NaR on top where there is such a bit;
    all others are 0 under NaR, where they carry no meaning."""
    number = (1 << bits - nar_bit) - 1

    def word(value: int | None) -> int:
        return 1 << bits - 1 if value is None else value & number
    return np.frompyfunc(word, 1, 1)(sums)


def _to_odd(words: Array) -> Array:
    """``words`` (int64, not negative) as float64; above 2^53 what is lost sets the last bit."""
    lost = (words & 1023) != 0
    return np.where(words < 1 << _EXACT, words, (words >> 10 | lost) << 10).astype(np.float64)


def round_sums(config: AcceleratorConfig, lane: LaneType, sums: Sums) -> Array:
    """Values of ``lane`` nearest to ``sums``, ties to even."""
    negative = sums.high < 0
    low = np.where(negative, -sums.low & _MASK, sums.low)
    high = np.where(negative, -sums.high - (sums.low != 0), sums.high)
    magnitude = add_to_odd(np.ldexp(_to_odd(high), _LOW), _to_odd(low))
    values = np.ldexp(np.where(negative, -magnitude, magnitude), unit_log2(config))
    return round_to(lane, np.where(sums.nar, np.nan, values))


def _longest(x: Array, axis: int) -> float:
    """No less than the largest length of the vectors along ``axis``; NaN where there is one."""
    squares = np.einsum("ij,ij->i" if axis else "ij,ij->j", x, x)
    return float(np.sqrt(squares.max(initial=0.0))) * (1 + 2.0 ** -20)  # its own rounding


def held(config: AcceleratorConfig, a: Array, b: Array, units: int = 0) -> bool:
    """Whether float64 holds every sum of products of ``a`` (M×K) and ``b`` (K×N), in any order: no
    Σ|ab| reaches 2^53 products of units (Cauchy, Schwarz), that of ``a`` being 2^``units`` times
    the format's."""
    return _longest(a, 1) * _longest(b, 0) < 2.0 ** (_EXACT + unit_log2(config) + units)


def rounded_sums(config: AcceleratorConfig, lane: LaneType, a: Array, b: Array) -> Array:
    """``round_sums`` of ``exact_sums``, from one product of float64 matrices where that holds all
    sums, or else from two, of halves of ``a``, whose sum is rounded once."""
    if held(config, a, b):
        return round_to(lane, a @ b) + 0.0  # an exact zero is +0
    unit, most = unit_log2(config) // 2, np.abs(a).max(initial=0.0)
    if np.isfinite(most):
        half = (int(np.ldexp(most, -unit)).bit_length() + 1) // 2
        high = np.ldexp(np.trunc(np.ldexp(a, -unit - half)), unit + half)
        low = a - high
        if held(config, high, b, half) and held(config, low, b):
            return add(lane, high @ b, low @ b) + 0.0
    return round_sums(config, lane, exact_sums(config, a, b))


def round_exact(config: AcceleratorConfig, lane: LaneType, sums: Array) -> Array:
    """``round_sums`` of Python integers, ``None`` for NaR."""
    nar = np.asarray(sums == None)  # noqa: E711  item by item
    whole = np.where(nar, 0, sums)
    high, low = (np.asarray(part, object).astype(np.int64) for part in (whole >> _LOW,
                                                                        whole & _MASK))
    return round_sums(config, lane, Sums(high, low, nar))
