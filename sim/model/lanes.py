"""Arithmetic of the vector unit: what one lane and the row reductions compute.

Values are float64 arrays of the lane's type (BF16, or FP32 for ``--fmt bf16``); see
``rounding``. Subnormal operands count as zero with their sign. Exp and reciprocal come in the
modes of ``config.softmax``; the bit tricks are computed here as the piecewise-linear functions
that they are, not on words.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from hdl.spec.commands import Function
from hdl.spec.config import SOFTMAX_TRICKS, AcceleratorConfig
from hdl.spec.formats import BFLOAT16, BINARY32, LaneType, PositEncoding
from sim.model import rounding, tables
from sim.model.codec import encode
from sim.model.rounding import Array, flush, from_words, largest, round_to, to_words

__all__ = ["activation", "add", "apply", "exp", "inverse_root", "inverse_sqrt",
           "largest_magnitude", "maximum", "multiply", "power", "reciprocal", "reciprocal_by_table",
           "relu", "row_max", "row_sum", "row_total", "subtract"]

_POSIT16 = PositEncoding("posit16es0", 16, 0, None)


def add(lane: LaneType, x: Array, y: Array) -> Array:
    """x + y, one RNE."""
    return rounding.add(lane, x, y, flushing=True)


def subtract(lane: LaneType, x: Array, y: Array) -> Array:
    """x − y, one RNE."""
    return rounding.add(lane, x, np.negative(y), flushing=True)


def multiply(lane: LaneType, x: Array, y: Array) -> Array:
    """x · y, one RNE."""
    return rounding.multiply(lane, x, y, flushing=True)


def maximum(lane: LaneType, x: Array, y: Array) -> Array:
    """The larger; NaN wins, and +0 is larger than −0."""
    x, y = flush(lane, x), flush(lane, y)
    larger = np.where((x > y) | ((x == y) & ~np.signbit(x)), x, y)
    return np.where(np.isnan(x) | np.isnan(y), np.nan, larger)


def relu(lane: LaneType, x: Array) -> Array:
    """max(x, +0)."""
    return maximum(lane, x, np.zeros_like(x))


def row_max(lane: LaneType, x: Array) -> Array:
    """Maximum of each row of ``x`` (rows × columns, at least one column)."""
    x = flush(lane, x)
    top = np.max(np.where(np.isnan(x), -np.inf, x), axis=1)
    # numpy's maximum of zeros may be either of them.
    plus_zero = np.any((x == 0) & ~np.signbit(x), axis=1)
    top = np.where((top == 0) & plus_zero, 0.0, top)
    return np.where(np.any(np.isnan(x), axis=1), np.nan, top)


def largest_magnitude(lane: LaneType, so_far: float, x: Array) -> float:
    """The largest of abs(``x``) and ``so_far``, which is not negative; NaN where any is."""
    return float(np.max(np.append(np.abs(flush(lane, x)), so_far)))


def power(x: Array) -> Array:
    """2^(−n − 1) for abs(x) in [2^n, 2^(n + 1)), values of a lane; below 2^-64 1, from 2^126 on
    zero."""
    x = np.abs(x)
    _, exponent = np.frexp(x)  # abs(x) = half · 2^exponent, half in [½, 1)
    inside = (x >= 2.0 ** -64) & (x < 2.0 ** 126)
    result = np.where(x < 2.0 ** -64, 1.0, np.where(inside, np.ldexp(1.0, -exponent), 0.0))
    return np.where(np.isnan(x), np.nan, result)


def row_total(lane: LaneType, lanes: int, ways: int, x: Array) -> Array:
    """FP32 sum of each row of ``x``: adjacent pairs within a beat of ``lanes`` (missing lanes +0),
    of the beats b those of one b mod ``ways`` in order, then adjacent pairs of these sums, +0 where
    there is no beat."""
    from sim.model.compiled import total_rows  # loads compiled code

    return total_rows(np.ascontiguousarray(x, np.float64), lanes, ways, *rounding.bounds(BINARY32),
                      rounding.smallest(lane))


def row_sum(config: AcceleratorConfig, x: Array) -> Array:
    """The sum of each row of ``x`` as a build takes it: ``row_total`` rounded once to its lane's
    type, RNE."""
    return round_to(config.lane, row_total(config.lane, config.lanes, config.sum_ways, x))


def _exp_by_posit(epsilon: int, theta: int | None, x: Array) -> Array:
    """max(0, 1 + (127 − p8)/128 − ε), p8 the high byte of Posit(16,0)(−x); 0 below θ.

    ε and θ in units of 2^-7; x > 0 counts as 0.
    """
    x = np.minimum(x, 0.0)
    code = encode(_POSIT16, np.maximum(-x, 0.0)).astype(np.int64)
    units = np.maximum(128 + 127 - (code >> 8) - epsilon, 0)
    below = np.zeros(x.shape, bool) if theta is None else x < theta / 128
    return np.where(np.isneginf(x) | below, 0, units) / 128


def _exp_by_line(x: Array) -> Array:
    """2^-n (1 + f) with n - f = abs(x) · 23/16, f cut to seven bits upwards; 0 for x <= -16.

    x > 0 counts as 0.
    """
    x = np.maximum(np.minimum(x, 0.0), -16.0)
    t = np.floor(-x * 184) / 128
    n = np.ceil(t)
    return np.where(x > -16, np.ldexp(1 + (n - t), -n.astype(int)), 0.0)


@cache
def _exp_table(softmax: str, epsilon: int, theta: int | None, lane: LaneType) -> Array:
    """exp of all 65,536 BF16 words, as values of ``lane``."""
    words = np.arange(1 << 16)
    x = flush(BFLOAT16, from_words(BFLOAT16, words))
    nan = np.isnan(x)
    x = np.where(nan, 0.0, x)
    if softmax == "linear":
        result = _exp_by_line(x)
    elif softmax == "pwl":
        result = tables.exp(lane, x)
    else:
        result = _exp_by_posit(epsilon, theta, x)
    return np.where(nan, np.nan, result)


def exp(config: AcceleratorConfig, x: Array) -> Array:
    """e^x as the build has it; FP32 lanes round x to BF16 first."""
    table = _exp_table(config.softmax, config.exp_epsilon, config.exp_theta, config.lane)
    x = round_to(BFLOAT16, flush(config.lane, x))
    return table[to_words(BFLOAT16, x)]


def _reciprocal_by_segments(lane: LaneType, exact_power: bool, x: Array) -> Array:
    """1/x for finite x ≠ 0 by straight segments between powers of two.

    For |x| = 2^n (1 + f): 2^-n (1 − f/2), exact at powers of two, or the same one unit of the
    last place lower (which is NOT of all bits but the sign); below the smallest normal, zero.
    """
    significand, exponent = np.frexp(np.abs(x))
    fraction = 2 * significand - 1
    unit = 0.0 if exact_power else 2.0 ** -(lane.fraction_bits + 1)
    result = np.ldexp(1 - fraction / 2 - unit, 1 - exponent)
    return np.copysign(flush(lane, result), x)


def reciprocal(config: AcceleratorConfig, x: Array) -> Array:
    """1/x as the build has it; ±0 gives the largest finite, ±Inf gives ±0."""
    if config.softmax not in SOFTMAX_TRICKS:
        return reciprocal_by_table(config.lane, x)
    return _reciprocal(config.lane, x, lambda work: _reciprocal_by_segments(
        config.lane, config.exact_power_reciprocal, work))


def reciprocal_by_table(lane: LaneType, x: Array) -> Array:
    """1/x by the table, whatever the softmax mode; its ends as those of ``reciprocal``."""
    return _reciprocal(lane, x, lambda work: tables.reciprocal(lane, work))


def _reciprocal(lane: LaneType, x: Array, regularly: Callable[[Array], Array]) -> Array:
    x = flush(lane, x)
    regular = np.isfinite(x) & (x != 0)
    result = regularly(np.where(regular, x, 1.0))
    ends = np.copysign(np.where(x == 0, largest(lane), 0.0), x)
    return np.where(np.isnan(x), np.nan, np.where(regular, result, ends))


def inverse_root(lane: LaneType, total: Array) -> Array:
    """1/√ of FP32 sums of rows, rounded to ``lane``; of zero the largest finite value of that."""
    root = round_to(lane, inverse_sqrt(BINARY32, total))
    return np.where(flush(BINARY32, total) == 0, largest(lane), root)


def inverse_sqrt(lane: LaneType, x: Array) -> Array:
    """1/√x; zeros of either sign give the largest finite value, what is below them NaN."""
    x = flush(lane, x)
    regular = np.isfinite(x) & (x > 0)
    result = tables.inverse_sqrt(lane, np.where(regular, x, 1.0))
    ends = np.where(x == 0, largest(lane), np.where(np.isposinf(x), 0.0, np.nan))
    return np.where(regular, result, ends)


@cache
def _activation_table(function: Function, lane: LaneType) -> Array:
    """``function`` of all 65,536 BF16 words, as values of ``lane``."""
    x = flush(BFLOAT16, from_words(BFLOAT16, np.arange(1 << 16)))
    nan = np.isnan(x)
    return np.where(nan, np.nan, tables.activation(lane, function, np.where(nan, 0.0, x)))


def activation(lane: LaneType, function: Function, x: Array) -> Array:
    """GELU, SiLU, sigmoid, tanh or a slope; FP32 lanes round x to BF16 first."""
    x = round_to(BFLOAT16, flush(lane, x))
    return _activation_table(function, lane)[to_words(BFLOAT16, x)]


def apply(config: AcceleratorConfig, function: Function, x: Array) -> Array:
    """Stage 3 of a lane: ``x`` itself for ``Function.NONE``."""
    if function == Function.NONE:
        return x
    if function == Function.EXP:
        return exp(config, x)
    if function == Function.RECIPROCAL:
        return reciprocal(config, x)
    if function == Function.INVERSE_SQRT:
        return inverse_sqrt(config.lane, x)
    return activation(config.lane, Function(function), x)
