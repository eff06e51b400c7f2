"""The operations of a transformer whose operands of products count scales known beforehand."""

from collections.abc import Mapping

import numpy as np

from compiler.checkpoints.description import Attention, Linear
from compiler.checkpoints.scales import Scales
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16
from hdl.spec.timing import row_fits
from sim.model import lanes
from sim.model.rounding import round_to
from sim.verify.arithmetic import KEPT, Array
from sim.verify.coded import LARGEST, Coded

__all__ = ["Static"]


class Static(Coded):
    """``scales`` by the place in the model, which ``places`` has by the id of weights."""

    def __init__(self, config: AcceleratorConfig, scales: Scales, places: Mapping[int, str],
                 kept: int = KEPT) -> None:
        super().__init__(config, kept)
        self._scales, self._places = scales, places

    def _operand(self, name: str) -> tuple[float, float]:
        """By what an operand is multiplied to be codes, and what a code then counts."""
        inverse = float(self.wide(1 / self._scales.of(name)))
        return inverse, 1 / inverse

    def codes(self, x: Array, inverse: float) -> Array:
        return self.rounded(self.multiply(x, np.full((1, 1), inverse)))

    def linear(self, x: Array, linear: Linear) -> Array:
        place = self._places[id(linear.weight)]
        inverse, step = self._operand(f"{place}.input")
        weight, factors = self.weight_codes(linear.weight, place, step)
        result = self.multiply(self.product(self.codes(x, inverse), weight.T), factors)
        return result if linear.bias is None else self.add(result, self.wide(linear.bias))

    def weight_codes(self, values: Array, place: str, step: float) -> tuple[Array, Array]:
        """Codes of a weight, and what its sums are multiplied by, 1 × rows."""
        def make(values: Array) -> tuple[Array, Array]:
            told = self._scales.of_weights(place, len(values))
            own = np.abs(np.float64(values)).max(axis=1) / LARGEST if told is None else (
                np.broadcast_to(np.float64(told), len(values)))
            factors = round_to(BFLOAT16, step * own[:, None])
            scale = factors / step
            return self.rounded(np.float64(values) / np.where(scale > 0, scale, 1.0)), factors.T

        return self.once(values, make)

    def _place(self, attention: Attention) -> str:
        return self._places[id(attention.query.weight)].rpartition(".")[0]

    def scores(self, attention: Attention, q: Array, k: Array) -> Array:
        """Sums of products of codes."""
        place = self._place(attention)
        q, k = (self.codes(x, self._operand(f"{place}.{name}")[0])
                for x, name in ((q, "queries"), (k, "keys")))
        return self.product(q, k.T)

    def score_factor(self, attention: Attention, factor: float) -> Array:
        place = self._place(attention)
        inverse = self._operand(f"{place}.queries")[0] * self._operand(f"{place}.keys")[0]
        return self.wide(factor / inverse)

    def shares(self, x: Array) -> Array:
        """Codes of exponentials, and in a column more 1 over their sums; of rows that do not fit a
        bank codes of probabilities."""
        if not row_fits(self.config, x.shape[1]):
            return self.codes(self.stored(self.softmax(x)), LARGEST)
        e = self.multiply(self.exponentials(x), np.full((1, 1), LARGEST))
        total = lanes.row_sum(self.config, e)
        return np.concatenate([self.rounded(e), self.reciprocal(total)[:, None]], axis=1)

    def score_unit(self, attention: Attention) -> float:
        place = self._place(attention)
        return 1 / (self._operand(f"{place}.queries")[0] * self._operand(f"{place}.keys")[0])

    def polynomial_shares(self, x: Array, degree: int, bias: float, delta: float, seen: Array
                          ) -> Array:
        e, divisor = self.raised(x, degree, bias, delta, seen)
        return np.concatenate([self.rounded(e), divisor[:, None]], axis=1)

    def sums(self, attention: Attention, p: Array, v: Array) -> Array:
        inverse, _ = self._operand(f"{self._place(attention)}.values")
        codes, divisors = p[:, :len(v)], p[:, len(v):]
        result = self.product(codes, self.codes(v, inverse))
        if not divisors.size:
            return self.multiply(result, self.wide(1 / (LARGEST * inverse)))
        return self.multiply(self.multiply(result, divisors), self.wide(1 / inverse))
