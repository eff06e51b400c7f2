"""Compiled loops (``sim.model.loops``), for what array operations would take most of a run's time.

Compiled code is kept (``sim.model.kept``). Loading it takes some hundredths of a second: callers
import this module when they need it.
"""

import numpy as np

from sim.model.kept import Kept

__all__ = ["accumulate", "add_all", "encode_float", "encode_table", "erf_all", "flush_all",
           "multiply_all", "round_all", "total_rows"]

Array = np.ndarray
_WIDTH = 128  # columns at a time: a tile of them stays in the processor's cache
_ACCUMULATE, _ROUND, _FLUSH = Kept("accumulate"), Kept("round_all"), Kept("flush_all")
_MULTIPLY, _ADD, _TOTAL = Kept("multiply_all"), Kept("add_all"), Kept("total_rows")
_ERF = Kept("erf_all")
_ENCODE_TABLE, _ENCODE_FLOAT = Kept("encode_table"), Kept("encode_float")


def accumulate(a: Array, b: Array, dim: int, dropped: int, smallest: float, beyond: float,
               transposed: bool = False, values: Array | None = None,
               odd: bool | None = None) -> Array:
    """Psums (M×N) of ``a`` (M×K) times ``b`` (K×N, or N×K where ``transposed``), in K-tiles of
    ``dim``; of the type of ``a``, C order. ``values``: those of the codes that ``b`` then holds,
    decoded a tile at a time, so that no matrix of floats is made of them.

    A psum keeps 52 − ``dropped`` fraction bits; its magnitude is 0 below ``smallest`` and Inf from
    ``beyond`` on. NaNs of the operands must be canonical. Every addition is one of float64, which
    ``sim.model.accumulate`` shows to suffice, and one rounding; or, where ``odd`` is given, of
    float32: then no psum may be that small or large, and 0 or 16 bits are ``dropped`` of that;
    ``odd``: products may have more than 8 bits.
    """
    total = np.empty((a.shape[0], b.shape[0] if transposed else b.shape[1]), a.dtype)
    own, tile = np.empty((dim, _WIDTH), a.dtype), np.empty(_WIDTH, a.dtype)
    _ACCUMULATE(total, own, tile, a, b, dim, dropped, smallest, beyond, transposed, values, odd)
    return total


# ``sim.model.rounding`` of many values: arrays of one dimension, C order. What a lane's type is
# stands in ``dropped``, ``smallest`` and ``beyond``, as for ``accumulate``.

def round_all(values: Array, dropped: int, smallest: float, beyond: float) -> Array:
    """``rounding.round_to``."""
    result = np.empty(values.size)
    _ROUND(result, values, dropped, smallest, beyond)
    return result


def flush_all(values: Array, smallest: float) -> Array:
    """``rounding.flush``."""
    result = np.empty(values.size)
    _FLUSH(result, values, smallest)
    return result


def multiply_all(a: Array, b: Array, dropped: int, smallest: float, beyond: float, least: float
                 ) -> Array:
    """``rounding.multiply``, of factors below ``least`` as zeros."""
    result = np.empty(a.size)
    _MULTIPLY(result, a, b, dropped, smallest, beyond, least)
    return result


def add_all(a: Array, b: Array, dropped: int, smallest: float, beyond: float, least: float
            ) -> Array:
    """``rounding.add``, of addends below ``least`` as zeros."""
    result = np.empty(a.size)
    _ADD(result, a, b, dropped, smallest, beyond, least)
    return result


def total_rows(x: Array, lanes: int, ways: int, dropped: int, smallest: float, beyond: float,
               least: float) -> Array:
    """Of each row of ``x`` its sum as ``lanes.row_total`` takes it, items below ``least`` as
    zeros."""
    result = np.empty(len(x))
    _TOTAL(result, np.empty(lanes), np.empty(ways), x, dropped, smallest, beyond, least)
    return result


def erf_all(values: Array) -> Array:
    """The error function of float64 values, by the C library as ``math.erf``."""
    result = np.empty(values.size)
    _ERF(result, values)
    return result


# ``sim.model.codec`` of many values.

def encode_table(values: Array, table: Array, first: int, posit: bool, nar: int) -> Array:
    """``codec._encode_by_table``: codes of 8 bits; ``first``: what entries are counted from."""
    result = np.empty(values.size, np.uint8)
    _ENCODE_TABLE(result, values, table, first, posit, nar)
    return result


def encode_float(values: Array, fraction_bits: int, bias: int, most: float, sign: int, nar: int
                 ) -> Array:
    """``codec._encode_float``: codes of 16 bits."""
    result = np.empty(values.size, np.uint16)
    _ENCODE_FLOAT(result, values, fraction_bits, bias, float(most), sign, nar)
    return result
