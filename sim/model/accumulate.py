"""The systolic array and the accumulation buffer, in the accumulator's own arithmetic.

Order (numerics, Accumulators): within a K-tile of ``dim``, k ascending from +0, each step one
fused multiply-add with one rounding; then buffer := buffer + tile, the first tile stored as it
is. The result therefore depends on ``dim``. Rows of the array beyond K add a product of +0, which
turns a partial sum of −0 (FP32 underflow of BF16 operands) into +0.

``exact`` sums are never rounded and depend on neither (``sim.model.exact``).
"""

import numpy as np

from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16, BINARY32, LaneType

from .exact import exact_gemm, round_exact
from .rounding import Array, add, round_to

__all__ = ["accumulator_type", "fused_multiply_add", "gemm", "narrow"]


def accumulator_type(config: AcceleratorConfig) -> LaneType:
    """The float type of partial sums, of an accumulator other than ``exact``."""
    return {"bf16": BFLOAT16, "fp32": BINARY32}[config.acc]


def fused_multiply_add(acc: LaneType, psum: Array, a: Array, b: Array) -> Array:
    """RNE(psum + a · b) in ``acc``; operands of at most 8 significand bits (exact product)."""
    return add(acc, psum, np.multiply(a, b))


def gemm(config: AcceleratorConfig, a: Array, b: Array) -> Array:
    """Accumulators (M×N) of decoded ``a`` (M×K) times ``b`` (K×N): float64, or the integers of
    ``exact_gemm``."""
    a = np.asarray(a, np.float64)
    b = np.asarray(b, np.float64)
    if config.acc == "exact":
        return exact_gemm(config, a, b)
    acc = accumulator_type(config)
    depth = a.shape[1]
    total = None
    for start in range(0, depth, config.dim):
        tile = np.zeros((a.shape[0], b.shape[1]))
        for k in range(start, min(start + config.dim, depth)):
            tile = fused_multiply_add(acc, tile, a[:, k, None], b[None, k, :])
        if start + config.dim > depth:
            tile = add(acc, tile, np.zeros_like(tile))
        total = tile if total is None else add(acc, total, tile)
    return total


def narrow(config: AcceleratorConfig, accumulators: Array) -> Array:
    """Lane values of ``accumulators``: one RNE to the lane's type."""
    if config.acc == "exact":
        return round_exact(config, config.lane, accumulators)
    return round_to(config.lane, accumulators)
