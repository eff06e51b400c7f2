"""The exact accumulator: integer dot products, rounded once when they leave.

Every product is a multiple of u², u the smallest magnitude of the format. Operands are split into
digits of 12 bits in units of u; digits of each weight are multiplied as float64 matrices, in which
sums of up to 2^29 such products are exact; Python's integers join the weights. There is no order
of addition to depend on.
"""

import numpy as np

from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import LaneType

from .codec import decode
from .rounding import Array, round_to

__all__ = ["exact_gemm", "exact_words", "round_exact", "unit_log2"]

_DIGIT = 12


def unit_log2(config: AcceleratorConfig) -> int:
    """log2 of u², which accumulators count."""
    smallest = []
    for encoding in config.format.encodings:
        values = np.abs(decode(encoding, np.arange(1 << encoding.bits)))
        smallest.append(np.min(values[values > 0]))
    return 2 * int(np.log2(min(smallest)))


def _digits(values: Array, unit: int) -> list[Array]:
    """Signed digits of ``values`` in units of 2^unit, the lowest first; NaN counts as 0."""
    rest = np.ldexp(np.nan_to_num(values, nan=0.0), -unit)
    assert np.array_equal(rest, np.rint(rest)), "values must be multiples of the unit"
    digits = []
    while np.any(rest):
        high = np.trunc(np.ldexp(rest, -_DIGIT))
        digits.append(rest - np.ldexp(high, _DIGIT))
        rest = high
    return digits


def exact_gemm(config: AcceleratorConfig, a: Array, b: Array) -> Array:
    """Decoded ``a`` (M×K) times ``b`` (K×N) as an object array (M×N) of Python integers that count
    2^unit_log2; ``None`` for NaR, which spoils every sum it enters."""
    unit = unit_log2(config) // 2
    total = np.zeros((a.shape[0], b.shape[1]), object)
    weights: dict[int, Array] = {}
    columns = _digits(b, unit)
    for i, left in enumerate(_digits(a, unit)):
        for j, right in enumerate(columns):
            part = (left @ right).astype(np.int64)
            weights[i + j] = weights[i + j] + part if i + j in weights else part
    for weight, part in weights.items():
        total += part.astype(object) << _DIGIT * weight
    nar = np.isnan(a).any(axis=1)[:, None] | np.isnan(b).any(axis=0)[None, :]
    total[np.broadcast_to(nar, total.shape)] = None
    return total


def exact_words(sums: Array, bits: int) -> Array:
    """Accumulator words of ``bits`` bits, NaR on top, as Python integers; all others are 0 under
    NaR, where they carry no meaning."""
    def word(value: int | None) -> int:
        return 1 << bits - 1 if value is None else value & (1 << bits - 1) - 1
    return np.frompyfunc(word, 1, 1)(sums)


def _leading(value: int | None) -> tuple[float, int]:
    """(x, n), value ≈ x · 2^n: 48 bits, the last one set where any below them is."""
    if value is None:
        return np.nan, 0
    magnitude = abs(value)
    shift = max(0, magnitude.bit_length() - 48)
    top = magnitude >> shift
    if top << shift != magnitude:
        top |= 1
    return float(-top if value < 0 else top), shift


def round_exact(config: AcceleratorConfig, lane: LaneType, sums: Array) -> Array:
    """Values of ``lane`` nearest to the integers ``sums``, ties to even."""
    tops, shifts = np.frompyfunc(_leading, 1, 2)(sums)
    values = np.ldexp(tops.astype(np.float64), shifts.astype(np.int64) + unit_log2(config))
    return round_to(lane, values)
