"""Decode and encode the stored formats, from their definitions.

Posits: the value of a bit string (sign, run of regime bits, exponent, fraction) in exact
rationals; rounding on the bit string of n bits has its boundaries at the n + 1 bit posits that
end in 1, so that encoding is a search in their sorted table. Floats: rounding on the grid of
multiples of the quantum. Infinities of a format decode as NaN, as NaR does (numerics, Formats).

Integers are their own codes, in two's complement, and rounded by ``numpy.rint``.

Floats and posits of 8 bits change their code at values of at most 8 significant bits only: their
codes are looked up by sign, exponent, seven fraction bits and whether there are more.
"""

from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from hdl.spec.formats import Encoding, FloatEncoding, IntegerEncoding, PositEncoding
from sim.model.rounding import Array

__all__ = ["decode", "encode", "max_finite", "nar_count", "posit_value", "saturates"]

# Octaves that 8-bit formats may tell apart: 2^_LOWEST to 2^_BEYOND.
_LOWEST, _BEYOND = -64, 64
_MANY = 1 << 11  # values: more are encoded by compiled loops
_PART = 1 << 14  # values at a time: what lies between stays in the processor's cache


def posit_value(bits: int, es: int, code: int) -> Fraction | None:
    """Value of the posit(``bits``, ``es``) ``code``; ``None`` for NaR."""
    if code == 0:
        return Fraction(0)
    if code == 1 << bits - 1:
        return None
    if code >> bits - 1:
        opposite = posit_value(bits, es, (1 << bits) - code)
        return None if opposite is None else -opposite
    text = format(code, f"0{bits}b")[1:]
    run = len(text) - len(text.lstrip(text[0]))
    regime = run - 1 if text[0] == "1" else -run
    rest = text[run + 1:]
    exponent = int((rest[:es] + "0" * es)[:es] or "0", 2)
    fraction = rest[es:]
    weight = (regime << es) + exponent - len(fraction)
    significand = int("1" + fraction, 2)
    return Fraction(significand << max(weight, 0), 1 << max(-weight, 0))


def _positive_posits(bits: int, es: int, codes: Array) -> Array:
    """``posit_value`` of many positive ``codes``, which float64 holds exactly."""
    width = bits - 1
    first, alive = codes >> width - 1 & 1, np.ones(codes.shape, bool)
    run = np.zeros(codes.shape, np.int64)
    for place in reversed(range(width)):
        alive &= (codes >> place & 1) == first
        run += alive
    left = np.maximum(width - run - 1, 0)  # bits after the run and the bit that ends it
    own = np.minimum(es, left)
    rest = codes & (1 << left) - 1
    exponent = rest >> left - own << es - own
    fraction = rest & (1 << left - own) - 1
    regime = np.where(first == 1, run - 1, -run)
    return np.ldexp(1 + np.ldexp(fraction.astype(np.float64), own - left),
                    (regime << es) + exponent)


@cache
def _posit_table(encoding: PositEncoding) -> Array:
    """Value of every code."""
    values = (posit_value(encoding.bits, encoding.es, code) for code in range(1 << encoding.bits))
    return np.array([np.nan if value is None else float(value) for value in values])


@cache
def _float_table(encoding: FloatEncoding) -> Array:
    """Value of every code."""
    return _decode_float(encoding, np.arange(1 << encoding.bits))


@cache
def _posit_boundaries(encoding: PositEncoding) -> Array:
    """Element c − 1: where magnitudes of code c end and those of c + 1 begin."""
    codes = 2 * np.arange(1, (1 << encoding.bits - 1) - 1) + 1
    return _positive_posits(encoding.bits + 1, encoding.es, codes)


def _decode_float(encoding: FloatEncoding, codes: Array) -> Array:
    codes = codes.astype(np.int64)
    magnitude = codes & (1 << encoding.bits - 1) - 1
    biased, fraction = np.divmod(magnitude, 1 << encoding.fraction_bits)
    significand = fraction + np.where(biased > 0, 1 << encoding.fraction_bits, 0)
    exponent = np.maximum(biased, 1) - encoding.bias - encoding.fraction_bits
    value = np.ldexp(significand.astype(np.float64), exponent)
    value = np.where(magnitude > encoding.max_code, np.nan, value)
    return np.where(codes >> encoding.bits - 1, -value, value)


def decode(encoding: Encoding, codes: ArrayLike) -> Array:
    """Values (float64, exact) of ``codes``; NaR, NaN and Inf become NaN, −0 keeps its sign."""
    codes = np.asarray(codes)
    if isinstance(encoding, PositEncoding):
        return _posit_table(encoding)[codes]
    if isinstance(encoding, IntegerEncoding):
        return codes.astype(np.uint8).view(np.int8).astype(np.float64)
    return _float_table(encoding)[codes]


def _encode_posit(encoding: PositEncoding, values: Array) -> Array:
    """Codes of finite ``values``; what is beyond the last boundary is maxpos."""
    magnitude = np.abs(values)
    boundaries = _posit_boundaries(encoding)
    below = np.searchsorted(boundaries, magnitude, side="left")
    tie = boundaries[np.minimum(below, len(boundaries) - 1)] == magnitude
    code = 1 + below
    code = np.where(tie & (code & 1 == 1), code + 1, code)
    threshold = 0.0 if encoding.flush_log2 is None else 2.0 ** encoding.flush_log2
    code = np.where((magnitude < threshold) | (magnitude == 0), 0, code)
    return np.where(values < 0, -code, code) & (1 << encoding.bits) - 1


def _encode_float(encoding: FloatEncoding, values: Array) -> Array:
    """Codes of finite ``values``, saturated; zero keeps its sign."""
    magnitude = np.minimum(np.abs(values), max_finite(encoding))
    lowest = 1 - encoding.bias
    _, exponent = np.frexp(magnitude)
    exponent = np.where(magnitude > 0, np.maximum(exponent - 1, lowest), lowest)
    # Exact: the scaled magnitude is below 2^(fraction_bits + 1), rint rounds half to even.
    steps = np.rint(np.ldexp(magnitude, encoding.fraction_bits - exponent)).astype(np.int64)
    code = (exponent.astype(np.int64) - lowest << encoding.fraction_bits) + steps
    return np.where(np.signbit(values), code | 1 << encoding.bits - 1, code)


def _encode_integer(encoding: IntegerEncoding, values: Array) -> Array:
    """Codes of any ``values``: the nearest integer, ties to even, within bounds; NaN gives 0."""
    nearest = np.clip(np.rint(values), encoding.least, encoding.most)
    nearest = np.where(np.isnan(nearest), encoding.nar_code, nearest)
    return nearest.astype(np.int8).view(np.uint8)


def _encode_finite(encoding: Encoding, values: Array) -> Array:
    if isinstance(encoding, PositEncoding):
        return _encode_posit(encoding, values)
    assert isinstance(encoding, FloatEncoding), "integers have no table"
    return _encode_float(encoding, values)


@cache
def _magnitude_codes(encoding: Encoding) -> Array:
    """Codes of 0, of what is below 2^_LOWEST, then of both entries of each of the magnitudes of 8
    significant bits: the magnitude itself, and what follows it up to the next."""
    words = np.arange(1023 + _LOWEST << 7, 1023 + _BEYOND << 7) << 45
    both = np.stack([words, words + 1], axis=1).view(np.float64).reshape(-1)
    return _encode_finite(encoding, np.concatenate([[0.0, 2.0 ** (_LOWEST - 1)], both]))


@cache
def _magnitude_table(encoding: Encoding) -> Array:
    """``_magnitude_codes`` as compiled loops take it."""
    return _magnitude_codes(encoding).astype(np.int64)


def _encode_by_table(encoding: Encoding, values: Array) -> Array:
    """Codes of finite ``values``; magnitudes from 2^_BEYOND on are as those below."""
    table = _magnitude_codes(encoding)
    magnitude = np.abs(values).view(np.int64)
    entry = (magnitude >> 45 << 1) - (2 * (1023 + _LOWEST << 7) - 2)
    entry |= (magnitude & (1 << 45) - 1) != 0
    codes = table[np.clip(entry, magnitude != 0, len(table) - 1)]
    negative = np.signbit(values)
    if isinstance(encoding, PositEncoding):
        return np.where(negative, -codes, codes) & (1 << encoding.bits) - 1
    return codes | negative.astype(np.int64) << encoding.bits - 1


def _encode_many(encoding: Encoding, values: Array) -> Array:
    """``encode`` by compiled loops, which take all but posits of 16 bits."""
    from sim.model.compiled import encode_float, encode_table  # loads compiled code

    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.dtype not in (np.float32, np.float64):
        flat = flat.astype(np.float64)
    if encoding.bits == 8:
        codes = encode_table(flat, _magnitude_table(encoding),
                             2 * (1023 + _LOWEST << 7) - 2,
                             isinstance(encoding, PositEncoding), encoding.nar_code)
    else:
        assert isinstance(encoding, FloatEncoding), "posits have 8 bits here"
        codes = encode_float(flat, encoding.fraction_bits, encoding.bias, max_finite(encoding),
                             1 << encoding.bits - 1, encoding.nar_code)
    return codes.reshape(values.shape)


def encode(encoding: Encoding, values: ArrayLike) -> Array:
    """Codes (uint8, or uint16 of 16-bit formats) of ``values``, each rounded once.

    Round to nearest even, saturate, NaN and Inf to the canonical NaR; infinities as integers
    saturate.
    """
    values = np.asarray(values)
    if isinstance(encoding, IntegerEncoding):
        return _encode_integer(encoding, values)
    if values.size >= _MANY and (encoding.bits == 8 or isinstance(encoding, FloatEncoding)):
        return _encode_many(encoding, values)
    codes = np.empty(values.shape, np.uint8 if encoding.bits == 8 else np.uint16)
    rule = _encode_by_table if encoding.bits == 8 else _encode_finite
    flat, found = values.reshape(-1), codes.reshape(-1)
    for start in range(0, values.size, _PART):
        part = flat[start:start + _PART].astype(np.float64)
        finite = np.isfinite(part)
        work = np.where(finite, part, 0.0)
        found[start:start + _PART] = np.where(finite, rule(encoding, work), encoding.nar_code)
    return codes


def max_finite(encoding: Encoding) -> float:
    """Largest finite value of ``encoding``."""
    if isinstance(encoding, PositEncoding):
        return 2.0 ** encoding.max_exponent
    return float(encoding.max_finite)


def saturates(encoding: Encoding, values: Array) -> Array:
    """True where a finite value lies beyond the largest finite one and is clipped to it; of
    integers, where the nearest one is clipped, infinities too."""
    if isinstance(encoding, IntegerEncoding):
        nearest = np.rint(np.asarray(values, np.float64))
        return (nearest < encoding.least) | (nearest > encoding.most)
    magnitude = np.abs(np.asarray(values, np.float64))
    return np.isfinite(magnitude) & (magnitude > max_finite(encoding))


def nar_count(encoding: Encoding, values: Array) -> int:
    """How many of ``values`` count as NaR when they are encoded: NaN, and Inf but for integers."""
    return int(np.count_nonzero(np.isnan(values) if isinstance(encoding, IntegerEncoding)
                                else ~np.isfinite(values)))
