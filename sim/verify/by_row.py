"""The operations of a transformer where products take codes and magnitudes of rows."""

from collections.abc import Callable

import numpy as np

from compiler.checkpoints.description import Attention, Linear, Polynomial
from hdl.spec.timing import row_fits
from sim.model import lanes
from sim.verify.arithmetic import Array
from sim.verify.coded import LARGEST, Coded

__all__ = ["ByRow"]


class ByRow(Coded):
    """Each row as 127ths of its largest magnitude."""

    def codes(self, x: Array) -> tuple[Array, Array]:
        """Integers, and the largest magnitude of each row, rows × 1."""
        top = lanes.row_max(self.lane, np.abs(x))[:, None]
        share = self.multiply(x, lanes.reciprocal_by_table(self.lane, top))
        share = self.multiply(share, np.full((1, 1), LARGEST))
        return self.rounded(share), top

    def weight_codes(self, values: Array) -> tuple[Array, Array]:
        """Integers of a weight, and what each of its rows counts over 127, 1 × rows."""
        codes, scale = self.once(values, self.row_codes)
        return codes, scale.T

    def linear(self, x: Array, linear: Linear) -> Array:
        codes, top = self.codes(x)
        weight, scale = self.weight_codes(linear.weight)
        result = self.multiply(self.multiply(self.product(codes, weight.T), top), scale)
        return result if linear.bias is None else self.add(self.wide(result),
                                                           self.wide(linear.bias))

    def scores(self, attention: Attention, q: Array, k: Array) -> Array:
        (q, q_top), (k, k_top) = self.codes(q), self.codes(k)
        result = self.multiply(self.multiply(self.product(q, k.T), q_top), k_top.T)
        return self.multiply(result, self.wide(np.full((1, 1), LARGEST ** -2)))

    def defers(self, attention: Attention, positions: int, masked: Callable[[], bool]) -> bool:
        """Where no cache keeps values, and nothing bends or hides scores."""
        plain = attention.cap is None and attention.position_bias is None and not attention.causal
        return plain and row_fits(self.config, positions) and not masked()

    def attended(self, q: Array, k: Array, v: tuple[Array, Array], scale: float,
                 kernel: Polynomial | None = None, head: int = 0) -> Array:
        """The result of a ``head``; ``v``: codes of its values, what they count over 127."""
        (q, q_top), (k, k_top), (values, v_top) = self.codes(q), self.codes(k), v
        z = self.multiply(self.multiply(self.product(q, k.T), q_top), k_top.T)
        if kernel is not None:
            unit = LARGEST ** 2 / scale
            e, divisor = self.raised(z, kernel.degree, kernel.bias[head] * unit,
                                     abs(kernel.delta[head]) * unit ** kernel.degree)
            return self.summed(e, divisor, values, v_top)
        z = self.multiply(z, self.wide(np.full((1, 1), LARGEST ** -2 * scale)))
        top = lanes.row_max(self.lane, z)[:, None]
        e = lanes.exp(self.config, lanes.subtract(self.lane, z, np.broadcast_to(top, z.shape)))
        e = self.multiply(e, np.full((1, 1), LARGEST))
        total = lanes.row_sum(self.config, e)
        return self.summed(e, lanes.reciprocal(self.config, total), values, v_top)

    def summed(self, e: Array, divisor: Array, values: Array, v_top: Array) -> Array:
        """Codes of ``e`` times codes of values, each row × its ``divisor``."""
        heads = self.multiply(self.product(self.rounded(e), values), divisor[:, None])
        return self.multiply(self.multiply(heads, v_top),
                             self.wide(np.full((1, 1), 1 / LARGEST)))

    def tensor_codes(self, x: Array) -> tuple[Array, Array]:
        """Integers, and the largest magnitude of all, 1 × 1."""
        top = np.abs(x).max(keepdims=True)
        share = self.multiply(x, lanes.reciprocal_by_table(self.lane, top))
        return self.rounded(self.multiply(share, np.full((1, 1), LARGEST))), top

    def sums(self, attention: Attention, p: Array, v: Array) -> Array:
        v, v_top = self.codes(v)
        p, p_top = self.codes(self.multiply(p, v_top.T))
        result = self.multiply(self.product(p, v), p_top)
        return self.multiply(result, self.wide(np.full((1, 1), LARGEST ** -2)))
