"""Partial sums of a build's accumulator, floats or integers, as the benches compare them."""

import numpy as np

from hdl.spec.config import AcceleratorConfig
from sim.model.accumulate import accumulator_type, fused_multiply_add
from sim.model.rounding import Array, to_words

__all__ = ["multiply_add", "words"]


def multiply_add(config: AcceleratorConfig, psum: Array, a: Array, b: Array) -> Array:
    """Values of psum + a · b in the accumulator; of ``int32`` whole numbers that fit it."""
    if config.acc == "int32":
        return psum + a * b
    return fused_multiply_add(accumulator_type(config), psum, a, b)


def words(config: AcceleratorConfig, values: Array, bits: int | None = None) -> Array:
    """Words of ``values``; of ``int32`` in two's complement of ``bits`` bits, by default its
    own."""
    if config.acc == "int32":
        mask = (1 << (config.acc_bits if bits is None else bits)) - 1
        return np.asarray(values).astype(np.int64) & mask
    return to_words(accumulator_type(config), values)
