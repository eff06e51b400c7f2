"""Loops for what array operations would take most of a run's time, compiled by numba.

Nothing here makes an array: results and what lies between come as arguments, so that the code needs
nothing of numba when it runs. ``sim.model.compiled`` calls them; this module is imported where one
has to be compiled.
"""

import math

import numpy as np
from numba import njit

__all__ = ["accumulate", "add_all", "encode_float", "encode_table", "erf_all", "flush_all",
           "multiply_all", "round_all", "total_rows"]

Array = np.ndarray


@njit(inline="always", error_model="numpy")
def _round(value: float, dropped: int, smallest: float, beyond: float) -> float:
    """``rounding.round_to`` of one value; NaNs are canonical, whose bits no carry can leave."""
    words = np.float64(value).view(np.int64)
    half = (1 << dropped - 1) - 1 + (words >> dropped & 1)
    rounded = np.int64(words + half & ~((1 << dropped) - 1)).view(np.float64)
    magnitude = abs(rounded)
    rounded = np.copysign(0.0, value) if magnitude < smallest else rounded
    return np.copysign(np.inf, value) if magnitude >= beyond else rounded


@njit(inline="always", error_model="numpy")
def _add_rows(a: Array, b: Array, tile: Array, total: Array, start: int, used: int, first: int,
              count: int, dim: int, dropped: int, smallest: float, beyond: float) -> None:
    """Of a K-tile from ``start`` on, whose ``used`` rows and ``count`` columns of B are in ``b``:
    every row's psums, added to columns ``first`` on of ``total``."""
    for i in range(a.shape[0]):
        for j in range(count):
            tile[j] = 0.0
        for k in range(used):
            factor = a[i, start + k]
            for j in range(count):
                tile[j] = _round(tile[j] + factor * b[k, j], dropped, smallest, beyond)
        if used < dim:
            for j in range(count):
                tile[j] += 0.0
        if start == 0:
            for j in range(count):
                total[i, first + j] = tile[j]
        else:
            for j in range(count):
                total[i, first + j] = _round(total[i, first + j] + tile[j], dropped, smallest,
                                             beyond)


_BITS, _HALF, _KEPT, _ONE = np.int32(16), np.int32(0x7FFF), np.int32(-0x10000), np.int32(1)
_SIGN = np.int32(31)


@njit(inline="always", error_model="numpy")
def _to_bf16(total: float) -> float:
    """RNE of a float32."""
    words = np.float32(total).view(np.int32)
    return np.int32(  # numba's scalar is a float
        words + _HALF + (words >> _BITS & _ONE) & _KEPT).view(np.float32)  # type: ignore


@njit(inline="always", error_model="numpy")
def _to_bf16_exactly(psum: float, addend: float) -> float:
    """RNE of their sum, which float32 may round to a tie where it is none: there its error says
    which way to go."""
    total = np.float32(psum + addend)
    error = np.float32(psum - (total - addend))  # exact where it could matter, see accumulate.py
    words = total.view(np.int32)
    away = _ONE + (np.int32(error.view(np.int32) ^ words) >> _SIGN)
    up = away if error != 0 else words >> _BITS & _ONE
    return np.int32(  # numba's scalar is a float
        words + _HALF + up & _KEPT).view(np.float32)  # type: ignore


@njit(inline="always", error_model="numpy")
def _add_rows_single(a: Array, b: Array, tile: Array, total: Array, start: int, used: int,
                     first: int, count: int, dim: int, bf16: bool, odd: bool) -> None:
    """``_add_rows`` in float32."""
    for i in range(a.shape[0]):
        for j in range(count):
            tile[j] = np.float32(0)
        for k in range(used):
            factor = a[i, start + k]
            if odd:
                for j in range(count):
                    tile[j] = _to_bf16_exactly(tile[j], factor * b[k, j])
            elif bf16:
                for j in range(count):
                    tile[j] = _to_bf16(tile[j] + factor * b[k, j])
            else:
                for j in range(count):
                    tile[j] += factor * b[k, j]
        if used < dim:
            for j in range(count):
                tile[j] += np.float32(0)
        for j in range(count):
            both = tile[j] if start == 0 else total[i, first + j] + tile[j]
            total[i, first + j] = _to_bf16(both) if bf16 else both


def accumulate(total: Array, own: Array, tile: Array, a: Array, b: Array, dim: int, dropped: int,
               smallest: float, beyond: float, transposed: bool, values: Array | None,
               odd: bool | None) -> None:
    """``compiled.accumulate``, into ``total``; ``own`` (dim × columns at a time) and ``tile`` hold
    what lies between."""
    depth, width = a.shape[1], tile.size
    columns = total.shape[1]
    for first in range(0, columns, width):
        count = min(width, columns - first)
        for start in range(0, depth, dim):
            used = min(dim, depth - start)
            for j in range(count):
                for k in range(used):
                    item = b[first + j, start + k] if transposed else b[start + k, first + j]
                    # numba drops the branch that is not taken, by the type of ``values``.
                    if values is None:
                        own[k, j] = item
                    else:
                        own[k, j] = values[item]
            if odd is None:
                _add_rows(a, own, tile, total, start, used, first, count, dim, dropped, smallest,
                          beyond)
            else:
                _add_rows_single(a, own, tile, total, start, used, first, count, dim, dropped > 0,
                                 odd)


# ``sim.model.rounding`` of many values: arrays of one dimension, C order. What a lane's type is
# stands in ``dropped``, ``smallest`` and ``beyond``, as for ``accumulate``.

def round_all(result: Array, values: Array, dropped: int, smallest: float, beyond: float) -> None:
    """``rounding.round_to``."""
    for i in range(values.size):
        value = values[i]
        finite = abs(value) < np.inf
        result[i] = _round(value, dropped, smallest, beyond) if finite else value


def flush_all(result: Array, values: Array, smallest: float) -> None:
    """``rounding.flush``."""
    for i in range(values.size):
        result[i] = _flushed(values[i], smallest)


@njit(inline="always", error_model="numpy")
def _flushed(value: float, smallest: float) -> float:
    return np.copysign(0.0, value) if abs(value) < smallest else value


@njit(inline="always", error_model="numpy")
def _sum(a: float, b: float, dropped: int, smallest: float, beyond: float) -> float:
    """``rounding.add`` of two values: to odd, then to the lane's type."""
    total = a + b
    if abs(total) < np.inf:
        b_part = total - a
        error = (a - (total - b_part)) + (b - b_part)
        words = np.float64(total).view(np.int64)
        if error != 0 and words & 1 == 0:
            words += 1 if (error > 0) == (total > 0) else -1
        total = _round(np.int64(words).view(np.float64), dropped, smallest, beyond)
    return total


@njit(inline="always", error_model="numpy")
def _total(words: Array, dropped: int, smallest: float, beyond: float) -> float:
    """The sum of as many ``words`` as a power of two: of adjacent pairs, then of pairs of these.
    They are lost."""
    width = words.size
    while width > 1:
        width //= 2
        for pair in range(width):
            words[pair] = _sum(words[2 * pair], words[2 * pair + 1], dropped, smallest, beyond)
    return words[0]


def multiply_all(result: Array, a: Array, b: Array, dropped: int, smallest: float,
                 beyond: float, least: float) -> None:
    """``rounding.multiply``, of factors below ``least`` as zeros."""
    for i in range(a.size):
        value = _flushed(a[i], least) * _flushed(b[i], least)
        finite = abs(value) < np.inf
        result[i] = _round(value, dropped, smallest, beyond) if finite else value


def add_all(result: Array, a: Array, b: Array, dropped: int, smallest: float, beyond: float,
            least: float) -> None:
    """``rounding.add``, of addends below ``least`` as zeros."""
    for i in range(a.size):
        result[i] = _sum(_flushed(a[i], least), _flushed(b[i], least), dropped, smallest, beyond)


def total_rows(result: Array, tree: Array, partial: Array, x: Array, dropped: int,
               smallest: float, beyond: float, least: float) -> None:
    """``lanes.row_total``: a beat is as wide as ``tree``, which holds its sums; ``partial`` holds
    those of the beats that it is long apart."""
    lanes, ways = tree.size, partial.size
    for row in range(x.shape[0]):
        partial[:] = 0.0
        for first in range(0, x.shape[1], lanes):
            for lane in range(lanes):
                there = first + lane < x.shape[1]
                tree[lane] = _flushed(x[row, first + lane], least) if there else 0.0
            total = _total(tree, dropped, smallest, beyond)
            way = first // lanes % ways
            partial[way] = total if first < ways * lanes else _sum(
                partial[way], total, dropped, smallest, beyond)
        result[row] = _total(partial, dropped, smallest, beyond)


def erf_all(result: Array, values: Array) -> None:
    """The error function of float64 values, by the C library as ``math.erf``."""
    for i in range(values.size):
        result[i] = math.erf(values[i])


# ``sim.model.codec`` of many values.

def encode_table(result: Array, values: Array, table: Array, first: int, posit: bool, nar: int
                 ) -> None:
    """``codec._encode_by_table``: codes of 8 bits; ``first``: what entries are counted from."""
    last = table.size - 1
    for i in range(values.size):
        value = np.float64(values[i])
        if not abs(value) < np.inf:
            result[i] = nar
            continue
        magnitude = np.float64(abs(value)).view(np.int64)
        entry = ((magnitude >> 45) << 1) - first
        if magnitude & ((1 << 45) - 1):
            entry |= 1
        least = 1 if magnitude else 0
        code = table[least if entry < least else last if entry > last else entry]
        if np.signbit(value):
            code = (-code if posit else code | 128) & 255
        result[i] = code


def encode_float(result: Array, values: Array, fraction_bits: int, bias: int, most: float,
                 sign: int, nar: int) -> None:
    """``codec._encode_float``: codes of 16 bits."""
    lowest = 1 - bias
    for i in range(values.size):
        value = np.float64(values[i])
        if not abs(value) < np.inf:
            result[i] = nar
            continue
        magnitude = min(abs(value), most)
        exponent = lowest
        if magnitude > 0:
            exponent = max(int(np.float64(magnitude).view(np.int64) >> 52) - 1023, lowest)
        # A power of two: exact.
        scale = np.int64(1023 + fraction_bits - exponent << 52).view(np.float64)
        code = (exponent - lowest << fraction_bits) + np.int64(np.rint(magnitude * scale))
        result[i] = code | sign if np.signbit(value) else code
