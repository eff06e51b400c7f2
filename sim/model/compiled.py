"""Loops compiled by numba, for what array operations would take most of a run's time.

Compiled code is kept in ``$NUMBA_CACHE_DIR``, in ``numba/`` of ``$OTTAVA_BUILD``, or in the user's
cache, never next to the sources; numba compiles anew where a source changes. Importing numba takes
0.3 s: callers import this module when they need it.
"""

import math
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numba
import numpy as np
from numba import njit

__all__ = ["accumulate", "add_all", "compiled", "encode_float", "encode_table", "erf_all",
           "flush_all", "multiply_all", "round_all"]

Array = np.ndarray
_WIDTH = 128  # columns at a time: a tile of them stays in the processor's cache


@cache
def _folder() -> str | None:
    """Where compiled code is kept; ``None`` where nothing can be: every process compiles anew."""
    build = os.environ.get("OTTAVA_BUILD")
    own = Path(build) if build else Path(
        os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "ottava")
    folder = Path(numba.config.CACHE_DIR or own / "numba").resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return str(folder)


def compiled(function: Callable) -> Callable:
    """``function``, compiled on its first call."""
    folder = _folder()
    if folder is None:
        return njit(error_model="numpy", nogil=True)(function)
    # numba chooses the folder of a function when it is decorated.
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, folder
    try:
        return njit(cache=True, error_model="numpy", nogil=True)(function)
    finally:
        numba.config.CACHE_DIR = before


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
        tile[:] = 0.0
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


@njit(inline="always", error_model="numpy")
def _to_bf16(total: float) -> float:
    """RNE of a float32."""
    words = np.float32(total).view(np.int32)
    return np.int32(  # numba's scalar is a float
        words + _HALF + (words >> _BITS & _ONE) & _KEPT).view(np.float32)  # type: ignore


@njit(inline="always", error_model="numpy")
def _to_bf16_by_odd(psum: float, addend: float) -> float:
    """RNE of their sum, which float32 may round to a tie where it is none: to odd, first."""
    total = np.float32(psum + addend)
    error = psum - (total - addend)  # exact where it could matter: abs(addend) > abs(psum)
    words = total.view(np.int32)
    lost = np.int32(error != 0) & ~words & _ONE
    words = np.int32(words + lost * (2 * np.int32((error > 0) == (total > 0)) - 1))
    return np.int32(  # numba's scalar is a float
        words + _HALF + (words >> _BITS & _ONE) & _KEPT).view(np.float32)  # type: ignore


@njit(inline="always", error_model="numpy")
def _add_rows_single(a: Array, b: Array, tile: Array, total: Array, start: int, used: int,
                     first: int, count: int, dim: int, bf16: bool, odd: bool) -> None:
    """``_add_rows`` in float32."""
    for i in range(a.shape[0]):
        tile[:] = np.float32(0)
        for k in range(used):
            factor = a[i, start + k]
            if odd:
                for j in range(count):
                    tile[j] = _to_bf16_by_odd(tile[j], factor * b[k, j])
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


@compiled
def accumulate(a: Array, b: Array, dim: int, dropped: int, smallest: float, beyond: float,
               transposed: bool = False, values: Array | None = None,
               odd: bool | None = None) -> Array:
    """Psums (M×N) of ``a`` (M×K) times ``b`` (K×N, or N×K where ``transposed``), in K-tiles of
    ``dim``; of the type of ``a``, C order. ``values``: those of the codes that ``b`` then holds,
    decoded a tile at a time, so that no matrix of floats is made of them.

    A psum keeps 52 − ``dropped`` fraction bits; its magnitude is 0 below ``smallest`` and Inf from
    ``beyond`` on. NaNs of the operands must be canonical. Every addition is one of float64, which
    ``sim.model.accumulate`` shows to suffice, and one rounding; or, where ``odd`` is given, of
    float32: then no psum may be that small or large, and 0 or 16 bits are ``dropped`` of that.
    """
    depth = a.shape[1]
    columns = b.shape[0] if transposed else b.shape[1]
    total = np.empty((a.shape[0], columns), a.dtype)
    own, tile = np.empty((dim, _WIDTH), a.dtype), np.empty(_WIDTH, a.dtype)
    for first in range(0, columns, _WIDTH):
        count = min(_WIDTH, columns - first)
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
    return total


# ``sim.model.rounding`` of many values: arrays of one dimension, C order. What a lane's type is
# stands in ``dropped``, ``smallest`` and ``beyond``, as for ``accumulate``.

@compiled
def round_all(values: Array, dropped: int, smallest: float, beyond: float) -> Array:
    """``rounding.round_to``."""
    result = np.empty(values.size)
    for i in range(values.size):
        value = values[i]
        finite = abs(value) < np.inf
        result[i] = _round(value, dropped, smallest, beyond) if finite else value
    return result


@compiled
def flush_all(values: Array, smallest: float) -> Array:
    """``rounding.flush``."""
    result = np.empty(values.size)
    for i in range(values.size):
        value = values[i]
        result[i] = np.copysign(0.0, value) if abs(value) < smallest else value
    return result


@compiled
def multiply_all(a: Array, b: Array, dropped: int, smallest: float, beyond: float) -> Array:
    """``rounding.multiply``."""
    result = np.empty(a.size)
    for i in range(a.size):
        value = a[i] * b[i]
        finite = abs(value) < np.inf
        result[i] = _round(value, dropped, smallest, beyond) if finite else value
    return result


@compiled
def add_all(a: Array, b: Array, dropped: int, smallest: float, beyond: float) -> Array:
    """``rounding.add``: the sum rounded to odd, then to the lane's type."""
    result = np.empty(a.size)
    for i in range(a.size):
        total = a[i] + b[i]
        if abs(total) < np.inf:
            b_part = total - a[i]
            error = (a[i] - (total - b_part)) + (b[i] - b_part)
            words = np.float64(total).view(np.int64)
            if error != 0 and words & 1 == 0:
                words += 1 if (error > 0) == (total > 0) else -1
            total = _round(np.int64(words).view(np.float64), dropped, smallest, beyond)
        result[i] = total
    return result


@compiled
def erf_all(values: Array) -> Array:
    """The error function of float64 values, by the C library as ``math.erf``."""
    result = np.empty(values.size)
    for i in range(values.size):
        result[i] = math.erf(values[i])
    return result


# ``sim.model.codec`` of many values.

@compiled
def encode_table(values: Array, table: Array, first: int, posit: bool, nar: int) -> Array:
    """``codec._encode_by_table``: codes of 8 bits; ``first``: what entries are counted from."""
    result = np.empty(values.size, np.uint8)
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
    return result


@compiled
def encode_float(values: Array, fraction_bits: int, bias: int, most: float, sign: int, nar: int
                 ) -> Array:
    """``codec._encode_float``: codes of 16 bits."""
    result = np.empty(values.size, np.uint16)
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
    return result
