"""The systolic array and the accumulation buffer, in the accumulator's own arithmetic.

Order (numerics, Accumulators): within a K-tile of ``dim``, k ascending from +0, each step one
fused multiply-add with one rounding; then buffer := buffer + tile, the first tile stored as it
is. The result therefore depends on ``dim``. Rows of the array beyond K add a product of +0, which
turns a partial sum of −0 (FP32 underflow of BF16 operands) into +0.

``exact`` and ``int32`` sums are never rounded and depend on neither (``sim.model.exact``).
``fused`` sums are exact within a K-tile and rounded once, to FP32, which the buffer then adds up
in; they depend on ``dim`` alone.

Sums are taken in float64 and rounded to the accumulator's p bits, which gives the bits of one
rounding of the exact sum: float64's own rounding could only harm where it ends on a tie of p bits.

- Both addends have at most p bits: innocuous, as 53 ≥ 2p + 2 (Figueroa 1995). So it is for FP32
  (products have 16 bits), for BF16 with floats and posit8es2 (8), and for tiles and buffer.
- BF16 with posit8 and posit8es0, whose products have 10 and 12 bits. Such a product can be a tie
  itself, and the smaller psum has to decide. But all products and psums are multiples of 2^-24,
  and products at most 2^24, so that the sum is exact. Under a psum that is larger a product of
  12 bits cannot reach from the tie's bit to the 53rd.

Where no product overflows and no psum can become subnormal, float32 does as well: FP32 sums need
no more, and 24 ≥ 2 · 8 + 2. Of posit8 and posit8es0 a tie of its sum is decided by the sum's error
where that is not 0. What is taken for it is the error where the product is the larger. Where the
psum is and the sum is not exact, the product lies beyond the 14th bit of the sum: no tie of 8 bits
is near.
"""

from functools import cache

import numpy as np

from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16, BINARY32, Encoding, LaneType
from sim.model.codec import decode
from sim.model.exact import exact_gemm, round_exact, rounded_sums
from sim.model.rounding import Array, add, round_to, smallest

__all__ = ["accumulator_type", "fused_multiply_add", "gemm", "narrow", "product",
           "product_stored"]

# Products of BF16 from here on are multiples of the smallest normal FP32 number, 2^-126: one in
# [2^e, 2^(e+2)) is one of 2^(e-14).
_LEAST = 2.0 ** -111
_BEYOND = 2.0 ** 128  # FP32


def accumulator_type(config: AcceleratorConfig) -> LaneType:
    """The float type of partial sums, of an accumulator that rounds them."""
    return {"bf16": BFLOAT16, "fp32": BINARY32, "fused": BINARY32}[config.acc]


def fused_multiply_add(acc: LaneType, psum: Array, a: Array, b: Array) -> Array:
    """RNE(psum + a · b) in ``acc``; operands of at most 8 significand bits (exact product)."""
    return add(acc, psum, np.multiply(a, b))


def gemm(config: AcceleratorConfig, a: Array, b: Array) -> Array:
    """Accumulators (M×N) of decoded ``a`` (M×K) times ``b`` (K×N): float64, or the integers of
    ``exact_gemm``."""
    a = np.asarray(a, np.float64)
    b = np.asarray(b, np.float64)
    if config.exact_sums:
        return exact_gemm(config, a, b)
    if config.exact_columns:
        return _gemm_of_exact_tiles(config, a, b)
    transposed = b.T.flags.c_contiguous and not b.flags.c_contiguous
    b = np.ascontiguousarray(_canonical(b.T if transposed else b))
    single = config.format.storage_bits == 8 or _in_range(a, b)
    return _accumulated(config, a, b.astype(np.float32) if single else b, transposed, None, single)


def _accumulated(config: AcceleratorConfig, a: Array, b: Array, transposed: bool,
                 values: Array | None, single: bool) -> Array:
    """Psums of ``a`` and of ``b``, or of the ``values`` of its codes; ``single``: by float32."""
    from sim.model.compiled import accumulate  # loads compiled code

    acc = accumulator_type(config)
    a = np.ascontiguousarray(_canonical(a))
    bounds = smallest(acc), 2.0 ** (acc.bias + 1), transposed
    if not single:
        return accumulate(a, b, config.dim, 52 - acc.fraction_bits, *bounds, values)
    odd = acc == BFLOAT16 and config.format.significand_bits > 4  # products of more than 8 bits
    sums = accumulate(a.astype(np.float32), b, config.dim, 23 - acc.fraction_bits, *bounds,
                      None if values is None else values.astype(np.float32), odd)
    return sums.astype(np.float64)


def _in_range(a: Array, b: Array) -> bool:
    """Whether every product but 0 and NaN is from ``_LEAST`` to below ``_BEYOND``."""
    (least, most), (other, others) = map(_extremes, (a, b))
    return least * other >= _LEAST and most * others < _BEYOND


def _extremes(x: Array) -> tuple[float, float]:
    """The smallest magnitude and the largest, of all but 0 and NaN."""
    magnitudes = np.abs(x)
    counts = magnitudes > 0
    return (float(magnitudes.min(initial=np.inf, where=counts)),
            float(magnitudes.max(initial=0.0, where=counts)))


def _gemm_of_exact_tiles(config: AcceleratorConfig, a: Array, b: Array) -> Array:
    """Sums of K-tiles, each rounded once from its exact value."""
    acc = accumulator_type(config)
    total: Array | None = None
    for start in range(0, a.shape[1], config.dim):
        part = slice(start, start + config.dim)
        tile = rounded_sums(config, acc, a[:, part], b[part])
        total = tile if total is None else add(acc, total, tile)
    assert total is not None, "K must be at least 1"
    return total


def _canonical(values: Array) -> Array:
    """The same with NaNs of one kind."""
    nan = np.isnan(values)
    return np.where(nan, np.nan, values) if nan.any() else values


def narrow(config: AcceleratorConfig, accumulators: Array) -> Array:
    """Lane values of ``accumulators``: one RNE to the lane's type; fixed lanes take them as they
    are."""
    if config.fixed:
        return accumulators.astype(np.float64)
    if config.exact_sums:
        return round_exact(config, config.lane, accumulators)
    return round_to(config.lane, accumulators)


def product_stored(config: AcceleratorConfig, a: Array, encoding: Encoding, codes: Array,
                   transposed: bool) -> Array:
    """``product`` of ``a`` and of B as it is stored: ``codes`` of ``encoding``, K×N, or N×K where
    ``transposed``."""
    if config.exact_columns:
        b = decode(encoding, codes)
        return product(config, a, b.T if transposed else b)
    return narrow(config, _accumulated(
        config, np.asarray(a, np.float64), np.ascontiguousarray(codes), transposed,
        _values(encoding), config.format.storage_bits == 8))


@cache
def _values(encoding: Encoding) -> Array:
    """The value of every code, NaNs canonical."""
    values = decode(encoding, np.arange(1 << encoding.bits))
    return np.where(np.isnan(values), np.nan, values)


def product(config: AcceleratorConfig, a: Array, b: Array) -> Array:
    """``narrow`` of ``gemm``, without a Python integer for each exact sum."""
    if config.fixed:  # 32 bits, which float64 holds in any order
        return np.asarray(a, np.float64) @ np.asarray(b, np.float64) + 0.0
    if config.exact_sums:
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        return rounded_sums(config, config.lane, a, b)
    return narrow(config, gemm(config, a, b))
