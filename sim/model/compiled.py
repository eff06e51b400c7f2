"""Loops compiled by numba, for what array operations would take most of a run's time.

Compiled code is kept in ``$NUMBA_CACHE_DIR``, in ``numba/`` of ``$OTTAVA_BUILD``, or in the user's
cache, never next to the sources; numba compiles anew where a source changes. Importing numba takes
0.3 s: callers import this module when they need it.
"""

import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numba
import numpy as np
from numba import njit

from sim.model.rounding import Array

__all__ = ["accumulate", "accumulate_stored", "compiled"]

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
        return njit(error_model="numpy")(function)
    # numba chooses the folder of a function when it is decorated.
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, folder
    try:
        return njit(cache=True, error_model="numpy")(function)
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


@compiled
def accumulate(a: Array, b: Array, dim: int, dropped: int, smallest: float, beyond: float
               ) -> Array:
    """Psums (M×N) of ``a`` (M×K) times ``b`` (K×N), in K-tiles of ``dim``; float64, C order.

    A psum keeps 52 − ``dropped`` fraction bits; its magnitude is 0 below ``smallest`` and Inf from
    ``beyond`` on. NaNs of the operands must be canonical. Every addition is one of float64, which
    ``sim.model.accumulate`` shows to suffice, and one rounding.
    """
    rows, depth = a.shape
    columns = b.shape[1]
    total = np.empty((rows, columns))
    tile = np.empty(columns)
    for i in range(rows):
        for start in range(0, depth, dim):
            tile[:] = 0.0
            for k in range(start, min(start + dim, depth)):
                factor = a[i, k]
                for j in range(columns):
                    tile[j] = _round(tile[j] + factor * b[k, j], dropped, smallest, beyond)
            if start + dim > depth:
                for j in range(columns):
                    tile[j] += 0.0
            if start == 0:
                total[i] = tile
            else:
                for j in range(columns):
                    total[i, j] = _round(total[i, j] + tile[j], dropped, smallest, beyond)
    return total


@compiled
def accumulate_stored(a: Array, codes: Array, values: Array, transposed: bool, dim: int,
                      dropped: int, smallest: float, beyond: float) -> Array:
    """As ``accumulate``, of B as it is stored: ``values`` of its ``codes`` (K×N, or N×K where
    ``transposed``), decoded a tile at a time, so that no matrix of float64 is made of them."""
    rows, depth = a.shape
    columns = codes.shape[0] if transposed else codes.shape[1]
    total = np.empty((rows, columns))
    b = np.empty((dim, _WIDTH))
    tile = np.empty(_WIDTH)
    for first in range(0, columns, _WIDTH):
        count = min(_WIDTH, columns - first)
        for start in range(0, depth, dim):
            used = min(dim, depth - start)
            if transposed:
                for j in range(count):
                    for k in range(used):
                        b[k, j] = values[codes[first + j, start + k]]
            else:
                for k in range(used):
                    for j in range(count):
                        b[k, j] = values[codes[start + k, first + j]]
            for i in range(rows):
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
                        total[i, first + j] = _round(total[i, first + j] + tile[j], dropped,
                                                     smallest, beyond)
    return total
