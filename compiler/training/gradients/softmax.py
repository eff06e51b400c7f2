"""Softmax over rows of scores, and the forms of its backward pass.

With σ the probabilities, g their gradient, R = Σ σ ⊙ g, S the row's sum of exponentials e and f(S)
the reciprocal that the lanes have:

========== ======================================================================================
ordinary   σ ⊙ (g − R): exact where σ = e / S
centred    d = g − R, then σ ⊙ (d − Σ σ ⊙ d): the same, but the row's sum of score gradients is
           R (1 − Σσ)² where rounding and reciprocal leave Σσ ≠ 1, not R (1 − Σσ)
eq5        σ ⊙ (g − κ R), κ = −f′(S) / f(S)², f′(S) = −2^(−2⌊log₂S⌋ − 1): equation 5 of
           "8-bit Transformer Inference and Fine-tuning for Edge Accelerators" (ASPLOS 2024)
eq5_max    the same, and what it leaves of the row's sum taken from the row's maximum, from which
           the exponents were counted; equal maxima share it
========== ======================================================================================

The last two are no lists of the lanes: they are there to be compared.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from compiler.training.gradients.numerics import Array, Exact
from hdl.spec.config import SOFTMAX_TRICKS

__all__ = ["BACKWARD", "STUDIED", "kappa", "softmax", "usual_backward"]

BACKWARD = ("ordinary", "centred")
STUDIED = (*BACKWARD, "eq5", "eq5_max")


def usual_backward(mode: str) -> Literal["ordinary", "centred"]:
    """The form for a softmax mode: its reciprocal by bit trick makes no row's sum 1."""
    return "centred" if mode in SOFTMAX_TRICKS else "ordinary"


def softmax(numerics: Exact, z: Array) -> tuple[Array, Callable[[Array, Array], Array]]:
    """Lane values of σ over the last axis of ``z``, and ``back(sigma, g)``: lane values of the
    gradient of z, of the stored probabilities and the lane values of their gradient."""
    n = numerics
    top = z.max(axis=-1, keepdims=True)
    e = n.exp(n.lane(z - top))
    # A row that is hidden whole has no maximum to speak of: its probabilities are zeros.
    e = np.where(top <= n.masked, 0, e).astype(z.dtype, copy=False)
    total = n.total(e)
    inverse = n.reciprocal(total)

    def back(sigma: Array, g: Array) -> Array:
        common = n.total(n.lane(g * sigma))
        if n.backward.startswith("eq5"):
            common = n.lane(kappa(total, inverse) * common)
        d = n.lane(g - common)
        if n.backward == "centred":
            d = n.lane(d - n.total(n.lane(d * sigma)))
        d = n.lane(d * sigma)
        if n.backward == "eq5_max":
            first = z == top
            share = d.sum(axis=-1, keepdims=True) / first.sum(axis=-1, keepdims=True)
            d = n.lane(d - np.where(first, share, 0).astype(d.dtype))
        return d

    return n.lane(e * inverse), back


def kappa(total: Array, inverse: Array) -> Array:
    """−f′(S) / f(S)² with the slope of equation 5; S of 0 counts as 1, its row is zeros."""
    _, exponent = np.frexp(np.where(total > 0, total, 1))
    slope = np.ldexp(np.ones_like(total), -2 * (exponent - 1) - 1)
    return slope / np.square(np.where(total > 0, inverse, 1))
