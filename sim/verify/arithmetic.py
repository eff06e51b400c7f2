"""The operations of a transformer in the models' arithmetic, on values, without any command."""

from collections.abc import Callable

import numpy as np

from compiler.checkpoints.description import Attention, Linear, Norm
from hdl.spec.commands import Function
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING, BFLOAT16, BINARY32, Encoding
from sim.model import accumulate, codec, lanes
from sim.model.rounding import largest, round_to

__all__ = ["KEPT", "Arithmetic"]

Array = np.ndarray
KEPT = 1 << 30  # bytes of weights
_AT_ONCE = 1 << 27  # bytes of what is not kept


class Arithmetic:
    """Values are float64 arrays of the lane's type; what rounds them otherwise says so. ``kept``:
    bytes of weights, rounded and float64, that are not rounded again."""

    def __init__(self, config: AcceleratorConfig, kept: int = KEPT) -> None:
        self.config = config
        self.lane = config.lane
        self.encoding = config.format.encodings[0]
        self._weights: dict[int, tuple[Array, Array]] = {}
        self._room = kept

    @property
    def storage(self) -> Encoding:
        """Of what is rounded when it is stored: the format's."""
        return self.encoding

    def stored(self, values: Array) -> Array:
        """Rounded as it is stored."""
        return codec.decode(self.storage, codec.encode(self.storage, values))

    def given(self, values: Array) -> Array:
        """An input as it is placed."""
        return self.stored(values)

    def kept(self, encoding: Encoding, rounded: bool, values: Array) -> Array:
        """What those who read a tensor of ``encoding`` get of ``values``; ``rounded``: it is of the
        format where that is what reads it."""
        return codec.decode(encoding, codec.encode(encoding, values))

    def wide(self, values: Array | float) -> Array:
        """Rounded to BF16."""
        return codec.decode(BF16_ENCODING, codec.encode(BF16_ENCODING, np.float64(values)))

    def weight(self, values: Array) -> Array:
        """``stored``, each array once as long as there is room for them."""
        if id(values) in self._weights:
            return self._weights[id(values)][1]
        stored = self.stored(values)
        if stored.nbytes <= self._room:
            self._room -= stored.nbytes
            self._weights[id(values)] = values, stored
        return stored

    def table_rows(self, table: Array, ids: Array, factor: float = 1.0) -> Array:
        """Rows of a table of constants by number, × ``factor``: of the shape of ``ids``, and a
        row each."""
        rows = self.stored(table[ids])
        return rows if factor == 1 else self.multiply(rows, self.wide(factor))

    def gain(self, values: Array) -> Array:
        """A norm's."""
        return self.weight(values)

    def product(self, a: Array, b: Array) -> Array:
        """Lane values of a · b, whose items are values of the format."""
        return accumulate.product(self.config, a, b)

    def scores(self, attention: Attention, q: Array, k: Array) -> Array:
        """q · kᵀ of a head."""
        return self.product(q, k.T)

    def score_factor(self, attention: Attention, factor: float) -> Array:
        """By what ``scores`` are multiplied that are to be × ``factor``."""
        return self.wide(factor)

    def shares(self, x: Array) -> Array:
        """What is stored of the softmax of each row."""
        return self.stored(self.softmax(x))

    def sums(self, attention: Attention, p: Array, v: Array) -> Array:
        """p · v of a head, p being ``shares``."""
        return self.product(p, v)

    def defers(self, attention: Attention, positions: int, masked: Callable[[], bool]) -> bool:
        """Whether heads divide by the sums of their softmax at last: no build of this arithmetic
        does."""
        return False

    def linear(self, x: Array, linear: Linear) -> Array:
        """x Wᵀ + b, x of the format."""
        weight = linear.weight
        if id(weight) not in self._weights and (
                8 * weight.size > max(self._room, _AT_ONCE)):  # of float64; columns know no others
            rows = max(_AT_ONCE // (8 * weight.shape[1]), 1)
            result = np.concatenate([
                self.product(x, self.stored(weight[first:first + rows]).T)
                for first in range(0, len(weight), rows)], axis=1)
        else:
            result = self.product(x, self.weight(weight).T)
        return result if linear.bias is None else self.add(result, self.wide(linear.bias))

    def add(self, x: Array, y: Array) -> Array:
        return lanes.add(self.lane, x, np.broadcast_to(y, x.shape))

    def subtract(self, x: Array, y: Array) -> Array:
        return lanes.subtract(self.lane, x, np.broadcast_to(y, x.shape))

    def multiply(self, x: Array, y: Array) -> Array:
        return lanes.multiply(self.lane, x, np.broadcast_to(y, x.shape))

    def relu(self, x: Array) -> Array:
        return lanes.relu(self.lane, x)

    def activation(self, name: str, x: Array) -> Array:
        if name.startswith("relu"):
            x = self.relu(x)
            return self.multiply(x, x) if name == "relu_squared" else x
        # The lanes have one GELU, which is near enough to its tanh form.
        name = "gelu" if name == "gelu_tanh" else name
        return lanes.apply(self.config, Function[name.upper()], x)

    def exponentials(self, x: Array) -> Array:
        """e to the power of what is left of each row without its largest; a row that is hidden
        whole gives zeros."""
        top = lanes.row_max(self.lane, x)[:, None]
        e = lanes.exp(self.config, lanes.subtract(self.lane, x, np.broadcast_to(top, x.shape)))
        return np.where(top <= -largest(BFLOAT16), 0.0, e)

    def softmax(self, x: Array) -> Array:
        """Over each row."""
        e = self.exponentials(x)
        total = lanes.row_sum(self.config, e)
        return self.multiply(e, self.reciprocal(total)[:, None])

    def score_unit(self, attention: Attention) -> float:
        """What a score counts before anything is scaled."""
        return 1.0

    def polynomial_shares(self, x: Array, degree: int, bias: float, delta: float, seen: Array
                          ) -> Array:
        """What is stored of ``polynomial``."""
        return self.stored(self.polynomial(x, degree, bias, delta, seen))

    def polynomial(self, x: Array, degree: int, bias: float, delta: float, seen: Array) -> Array:
        """[max(x + ``bias``, 0)] ^ ``degree`` + ``delta`` where ``seen``, else 0, over its sum in
        each row."""
        e = self.powers(x, degree, bias, delta)
        if not seen.all():
            e = self.multiply(e, np.where(seen, 1.0, 0.0))
        if self.config.scales:
            total = lanes.row_sum(self.config, e)
            return self.multiply(e, lanes.reciprocal_by_table(self.lane, total)[:, None])
        root = self._reduced(e, 1.0, lambda total: lanes.inverse_sqrt(BINARY32, total))
        root = np.where(e.any(axis=1, keepdims=True), root, largest(self.lane))
        return self.multiply(self.multiply(e, root), root)

    def powers(self, x: Array, degree: int, bias: float, delta: float) -> Array:
        """[max(x + ``bias``, 0)] ^ ``degree`` + ``delta``."""
        e = self.relu(self.add(x, self.wide(bias)))
        for _ in range({1: 0, 2: 1, 4: 2}[degree]):
            e = self.multiply(e, e)
        return self.add(e, self.wide(delta))

    def reciprocal(self, x: Array) -> Array:
        return lanes.reciprocal(self.config, x)

    def _reduced(self, x: Array, factor: float,
                 then: Callable[[Array], Array] = lambda total: total) -> Array:
        """``then``(sum of each row · ``factor``) in FP32, rounded once to the lane; rows × 1."""
        total = lanes.row_total(self.lane, self.config.lanes, self.config.sum_ways, x)
        scaled = lanes.multiply(BINARY32, total, np.full_like(total, np.float32(factor)))
        return round_to(self.lane, then(scaled))[:, None]

    def mean(self, x: Array, count: int) -> Array:
        """Sum of each row over ``count``, rows × 1."""
        return self._reduced(x, 1 / count)

    def inverse_length(self, x: Array, factor: float, eps: float) -> Array:
        """1/√(Σ x² · ``factor`` + ``eps``) of each row, rows × 1."""
        def inverse_root(total: Array) -> Array:
            total = lanes.add(BINARY32, total, np.full_like(total, np.float32(eps)))
            return lanes.inverse_sqrt(BINARY32, total)

        return self._reduced(self.multiply(x, x), factor, inverse_root)

    def norm(self, x: Array, norm: Norm) -> Array:
        """LayerNorm, RMSNorm where there is no shift, or gain and shift alone."""
        items = x.shape[1]
        gain = self.gain(norm.gain)
        if norm.affine:
            scaled = self.multiply(x, gain)
            return scaled if norm.shift is None else self.add(scaled, self.wide(norm.shift))
        if norm.shift is None:
            scaled = self.multiply(x, self.inverse_length(x, 1 / items, norm.eps))
            return self.multiply(scaled, gain)
        centred = self.subtract(x, self.mean(x, items))
        if norm.centred_twice:
            centred = self.subtract(centred, self.mean(centred, items))
        weighed = self.multiply(centred, gain)
        if norm.kind == "l1":
            return self.add(self._by_magnitude(centred, weighed, norm.eps), self.wide(norm.shift))
        inverse = self.inverse_length(centred, 1 / items, norm.eps)
        return self.add(self.multiply(weighed, inverse), self.wide(norm.shift))

    def _by_magnitude(self, centred: Array, weighed: Array, eps: float) -> Array:
        """``weighed`` over the mean of the magnitudes of ``centred`` rows + ``eps``. Without scales
        that is twice the mean of what is above zero, and two factors of 1/√."""
        def raised(total: Array) -> Array:
            return lanes.add(BINARY32, total, np.full_like(total, np.float32(eps)))

        factor = 1 / centred.shape[1]
        if self.config.scales:
            size = self._reduced(np.abs(centred), factor, raised)
            return self.multiply(weighed, lanes.reciprocal_by_table(self.lane, size))
        above = lanes.relu(self.lane, self.multiply(centred, np.full((1, 1), 2.0)))
        root = self._reduced(above, factor, lambda total: lanes.inverse_sqrt(
            BINARY32, raised(total)))
        return self.multiply(self.multiply(weighed, root), root)
