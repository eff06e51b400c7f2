"""The operations of a transformer on lanes of integers, with scales known beforehand."""

from fractions import Fraction

import numpy as np

from compiler.checkpoints.description import Attention
from hdl.spec.commands import Post
from hdl.spec.formats import BF16_ENCODING, FIXED32, Encoding
from sim.model import codec, fixed
from sim.verify.arithmetic import Array
from sim.verify.coded import LARGEST
from sim.verify.static import Static

__all__ = ["Fixed"]

_ROOM = Fraction(FIXED32.most, 1 << FIXED32.fraction_bits)
_FARTHEST = 128 ** 2
"""The largest product of two codes."""


class Fixed(Static):
    """What is stored as codes alone is not rounded before it is made these; products are whole
    numbers."""

    def stored(self, values: Array) -> Array:
        return values

    def given(self, values: Array) -> Array:
        return self.wide(values)

    def weight(self, values: Array) -> Array:
        return self.wide(values)

    def kept(self, encoding: Encoding, rounded: bool, values: Array) -> Array:
        return values if rounded else codec.decode(BF16_ENCODING, codec.encode(
            BF16_ENCODING, values))

    def table_rows(self, table: Array, ids: Array, factor: float = 1.0) -> Array:
        codes, scale = self.row_codes(table[ids].reshape(-1, table.shape[1]))
        raised = self.wide(fixed.enter(scale * 2.0 ** 14))
        rows = self.multiply(self.multiply(codes, raised),
                             self.wide(LARGEST * factor * 2.0 ** -14))
        return rows.reshape(*ids.shape, -1)

    # Of lanes

    def add(self, x: Array, y: Array) -> Array:
        return fixed.enter(fixed.add(x, np.broadcast_to(y, x.shape)))

    def subtract(self, x: Array, y: Array) -> Array:
        return fixed.enter(fixed.add(x, np.broadcast_to(y, x.shape), True))

    def multiply(self, x: Array, y: Array) -> Array:
        return fixed.enter(fixed.multiply(x, np.broadcast_to(y, x.shape)))

    def activation(self, name: str, x: Array) -> Array:
        if name != "relu":
            raise ValueError(f"lanes of integers have no {name}")
        return self.relu(x)

    def relu(self, x: Array) -> Array:
        return np.maximum(x, 0.0)

    def _post(self, x: Array, post: Post, factor: float = 0.0, eps: float = 0.0,
              largest: bool = False) -> Array:
        """Of each row, rows × 1."""
        return np.array([[fixed.post(post, total, float(np.float32(factor)),
                                     float(np.float32(eps)))[0]]
                         for total in fixed.reduced(x, largest)])

    def mean(self, x: Array, count: int) -> Array:
        return self._post(x, Post.MEAN, 1 / count)

    def _by_magnitude(self, centred: Array, weighed: Array, eps: float) -> Array:
        return self.multiply(weighed, self._post(
            np.abs(centred), Post.RECIPROCAL_MEAN, 1 / centred.shape[1], eps))

    # Attention

    def polynomial_shares(self, x: Array, degree: int, bias: float, delta: float, seen: Array
                          ) -> Array:
        """Of scores as the power of two of them that no square of can be beyond a word."""
        shift = self._shift
        e = self.powers(self.multiply(x, np.full((1, 1), 2.0 ** -shift)), degree,
                        bias * 2.0 ** -shift, delta * 2.0 ** (-shift * degree))
        if not seen.all():
            e = self.multiply(e, np.where(seen, 1.0, 0.0))
        e = self.multiply(e, self._post(e, Post.RECIPROCAL_MEAN, 1 / LARGEST, largest=True))
        divisors = self._post(e, Post.RECIPROCAL_MEAN, 1 / LARGEST)
        return np.concatenate([self.rounded(e), self.wide(fixed.enter(divisors))], axis=1)

    def score_unit(self, attention: Attention) -> float:
        kernel, unit = attention.kernel, super().score_unit(attention)
        assert kernel is not None, "lanes of integers have no softmax"
        scale = attention.head_size ** -0.5 if attention.scale is None else attention.scale
        pairs = [(Fraction(bias / scale / unit), Fraction(
            abs(delta) / scale ** kernel.degree / unit ** kernel.degree))
            for bias, delta in zip(kernel.bias, kernel.delta, strict=True)]
        self._shift = next(shift for shift in range(64) if all(
            ((attention.head_size * _FARTHEST + max(bias, Fraction(0))) / 2 ** shift
             ) ** kernel.degree + delta / 2 ** (shift * kernel.degree) <= _ROOM
            for bias, delta in pairs))
        return unit

    def sums(self, attention: Attention, p: Array, v: Array) -> Array:
        inverse, _ = self._operand(f"{self._place(attention)}.values")
        result = self.product(p[:, :len(v)], self.codes(v, inverse))
        return self.multiply(self.multiply(result, p[:, len(v):]),
                             self.wide(1 / (LARGEST * inverse)))
