"""``Exact`` with the accelerator's roundings: the formats' codecs and the lanes' functions.

Every value is rounded where a build of ``config`` rounds it; sums of products alone are those of
``dtype``, in any order, and so stand for accumulators that are wide enough. Formats of 8 bits have
BF16 lanes, whose functions and codes are tables over all 65,536 words, filled by ``sim.model``.
"""

from functools import cache, cached_property

import numpy as np

from compiler.lowering.backward_lists import RELU_STEEP, SIGMOID_RATE
from compiler.training.gradients import compiled, numerics
from compiler.training.gradients.numerics import Array, Exact
from compiler.training.gradients.scaling import Scaling
from hdl.spec.commands import Function
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING, BFLOAT16, BINARY32, Encoding
from sim.model import codec, lanes
from sim.model.rounding import flush, from_words, round_to

__all__ = ["EightBit"]


class EightBit(Exact):
    """Rounds as the build ``config`` does; of ``fmt`` bf16 the lanes are FP32, whatever the name
    says.

    ``scaling``: gradient tensors are scaled by powers of two before they are stored (``Scaling``,
    with its ``target``); call ``end_step`` after each update. ``backward``: one of
    ``softmax.STUDIED``. ``saturated`` counts gradients that were clipped. float32 is fast; float64
    sums of products are exact for posit8 and fp8 as long as they hold 53 bits.
    """

    def __init__(self, config: AcceleratorConfig, *, backward: str = "ordinary",
                 scaling: bool = True, dtype: type = np.float32,
                 target: int | None = None) -> None:
        super().__init__(dtype, backward)
        self.config = config
        encodings = config.format.encodings
        self._forward, self._back = encodings[0], encodings[-1]
        self._lane_is_bf16 = config.lane == BFLOAT16
        self.scaling = Scaling(config.format, scaling and config.format.storage_bits == 8, target)
        self.saturated = 0

    def end_step(self) -> None:
        """The scales of the next step follow from the gradients so far."""
        self.scaling.end_step()

    def histories(self) -> dict[str, list[float]]:
        return self.scaling.histories()

    def resume(self, histories: dict[str, list[float]]) -> None:
        self.scaling.resume(histories)

    # Where values are rounded

    def lane(self, x: Array) -> Array:
        if self._lane_is_bf16:
            return self.wide(x)
        return round_to(BINARY32, x) if self.dtype == np.float64 else x

    def wide(self, x: Array) -> Array:
        if self.dtype == np.float64:
            return round_to(BFLOAT16, x)
        words, out = _room(x)
        compiled.round_words(words, out.view(np.uint32))
        return out.reshape(x.shape)

    def stored(self, x: Array) -> Array:
        return self._by_code(self._forward, x)

    def constant(self, x: Array) -> Array:
        if self.dtype == np.float64 or x.dtype != np.float32 or self._forward == BF16_ENCODING:
            return codec.decode(self._forward, codec.encode(self._forward, x)).astype(self.dtype)
        words, out = _room(x)
        compiled.look_up_any(words, _table(self._forward), out)
        return out.reshape(x.shape)

    def wide_constant(self, x: Array) -> Array:
        x = np.asarray(x)
        if x.ndim == 0:
            return self.dtype(_scalar(float(x)))
        if self.dtype == np.float32 and x.dtype == np.float32:
            return self.wide(x)
        values = codec.decode(BF16_ENCODING, codec.encode(BF16_ENCODING, np.float64(x)))
        return values.astype(self.dtype)

    def gradient(self, site: str, g: Array) -> Array:
        scale = self.scaling.scale(site)
        limit = codec.max_finite(self._back)
        if self.dtype == np.float64 or self._back == BF16_ENCODING:
            magnitude = np.abs(g)
            self.saturated += int((magnitude * scale > limit).sum())
            self.scaling.note(site, float(magnitude.max(initial=0.0)))
            return self._by_code(self._back, g * self.dtype(scale)) / self.dtype(scale)
        values = np.ascontiguousarray(g, np.float32)
        out = np.empty_like(values)
        largest, beyond = compiled.store_scaled(
            values.reshape(-1), np.float32(scale), _table(self._back), np.float32(limit),
            np.empty(1, np.uint32), out.reshape(-1))
        self.scaling.note(site, float(largest))
        self.saturated += beyond
        return out

    def _by_code(self, encoding: Encoding, x: Array) -> Array:
        """Lane values as ``encoding`` stores them."""
        if encoding == BF16_ENCODING:
            return self.wide(x)
        if self.dtype == np.float64:
            return codec.decode(encoding, codec.encode(encoding, x))
        return self._of_words(_table(encoding), x)

    def _of_words(self, table: Array, x: Array) -> Array:
        """``table`` of BF16 values."""
        words, out = _room(x)
        if self.dtype == np.float64:
            out = np.empty(x.size)
        compiled.look_up(words, table, out)
        return out.reshape(x.shape)

    # Functions of the lanes

    def exp(self, x: Array) -> Array:
        return self._of_words(self._exp, self.wide(x))

    def reciprocal(self, x: Array) -> Array:
        if self._lane_is_bf16:
            return self._of_words(self._reciprocal, x)
        return lanes.reciprocal(self.config, x).astype(self.dtype)

    def product(self, a: Array, b: Array) -> Array:
        return self.lane(a @ b)

    def mean(self, x: Array, count: Array | None = None) -> Array:
        return self.lane(self._mean(x, count).astype(self.dtype))

    def total(self, x: Array) -> Array:
        return self.lane(self.row_sums(x).astype(self.dtype))

    def inverse_root(self, x: Array, eps: float, count: Array | None = None) -> Array:
        given = round_to(BINARY32, self._mean(x, count) + np.float32(eps))
        return lanes.inverse_root(self.config.lane, given).astype(self.dtype)

    def row_sums(self, x: Array) -> Array:
        """FP32 sums of the rows: of float64's, in any order."""
        return round_to(BINARY32, x.sum(axis=-1, keepdims=True, dtype=np.float64))

    def _mean(self, x: Array, count: Array | None) -> Array:
        """The sum of each row times the FP32 word next to one over their number."""
        part = np.float32(1 / np.asarray(x.shape[-1] if count is None else count, np.float64))
        return round_to(BINARY32, self.row_sums(x) * np.float64(part))

    def inverse_sqrt(self, x: Array) -> Array:
        return lanes.inverse_sqrt(self.config.lane, x).astype(self.dtype)

    def activation(self, name: str, x: Array) -> Array:
        if name == "relu":
            return np.maximum(x, 0)
        table = _activation(Function[name.upper()], self.config.lane, self.dtype)
        return self._of_words(table, self.wide(x))

    def slope(self, name: str, x: Array) -> Array:
        """Of a build that trains by its lists (``backward_lists.activation_slope``)."""
        if self.config.functions == "training" and name in ("gelu", "gelu_sigmoid", "relu", "silu"):
            x = self.wide(x)
            if name == "relu":
                steep = self.lane(x * self.dtype(RELU_STEEP))
                return self.stored(np.maximum(self.activation("tanh", steep), 0))
            if name == "gelu_sigmoid":
                x = self.lane(x * self.wide_constant(np.asarray(SIGMOID_RATE)))
            function = Function.GELU_SLOPE if name == "gelu" else Function.SILU_SLOPE
            table = _activation(function, self.config.lane, self.dtype)
            return self.stored(self._of_words(table, self.wide(x)))
        return self.stored(self._of_words(_slope(name, self.dtype), self.wide(x)))

    def loss_softmax(self, logits: Array) -> Array:
        """By the build's own exp and reciprocal where they are accurate, else through the sigmoid
        and the inverse square root: e^x = 1 / (1 / σ(x) − 1), 1 / y = (1 / √y)²."""
        below = self.lane(logits - logits.max(axis=-1, keepdims=True))
        if self.config.softmax == "pwl":
            e = self.exp(below)
            return self.lane(e * self.reciprocal(self.total(e)))
        inverse = self._inverse_by_root(self.activation("sigmoid", below))
        e = self._inverse_by_root(self.lane(inverse - 1))
        root: Array = lanes.inverse_root(self.config.lane, self.row_sums(e)).astype(self.dtype)
        return self.lane(self.lane(e * root) * root)

    def _inverse_by_root(self, x: Array) -> Array:
        root = self.inverse_sqrt(x)
        with np.errstate(over="ignore"):  # of 0, as the lanes have it
            return self.lane(root * root)

    @cached_property
    def _exp(self) -> Array:
        return lanes.exp(self.config, _all_words()).astype(self.dtype)

    @cached_property
    def _reciprocal(self) -> Array:
        return lanes.reciprocal(self.config, _all_words()).astype(self.dtype)


def _all_words() -> Array:
    """The values of all BF16 words, subnormal ones as zeros."""
    return flush(BFLOAT16, from_words(BFLOAT16, np.arange(1 << 16)))


@cache
def _scalar(value: float) -> float:
    """Rounded to BF16."""
    return float(codec.decode(BF16_ENCODING, codec.encode(BF16_ENCODING, np.array([value])))[0])


@cache
def _table(encoding: Encoding) -> Array:
    """The value that each BF16 word is stored as."""
    return codec.decode(encoding, codec.encode(encoding, _all_words())).astype(np.float32)


@cache
def _activation(function: Function, lane, dtype: type) -> Array:
    return lanes.activation(lane, function, _all_words()).astype(dtype)


@cache
def _slope(name: str, dtype: type) -> Array:
    """The slope at each BF16 word, rounded to BF16."""
    words = _all_words()
    regular = np.isfinite(words)
    slope = round_to(BFLOAT16, numerics.slope(name, np.where(regular, words, 0.0)))
    ends = np.where(np.isnan(words), np.nan, (words > 0).astype(np.float64))
    return np.where(regular, slope, ends).astype(dtype)


def _room(x: Array) -> tuple[Array, Array]:
    """The words of float32 ``x``, and memory for as many results, both flat."""
    x = np.ascontiguousarray(x, np.float32).reshape(-1)
    return x.view(np.uint32), np.empty_like(x)
