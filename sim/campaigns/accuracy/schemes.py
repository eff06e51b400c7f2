"""What else makes 8 bits enough: scales, and prior work. Lanes are BF16 as in an 8-bit build; sums
of products are float64's.

=============== ==================================================================================
``posit8``      as it is, for comparison: embeddings and gains, which a build rounds too, stay BF16
``posit8, …``   ``weights 2^n``: each matrix times a power of two that brings its root mean square
                to [½, 1), which an epilogue's scale undoes; ``2^n``: activations too
``int8``        each tensor over its largest magnitude, 127 steps to a side
``llm.int8``    each row of activations and column of weights over its own; columns of activations
                that exceed 6 anywhere in a text stay in 16 bits (Dettmers et al., 2022)
``smoothquant`` columns of activations divided, rows of weights multiplied by what calibration on
                training examples says (α = ½), then ``int8`` (Xiao et al., 2023)
``e4m3``        each tensor times what brings its largest magnitude to 448 (Micikevicius et al.,
                2022)
``e4m3 2^n``    the same with powers of two, which an exponent takes
``nf4``         weights alone, 64 at a time over their largest magnitude, to quantiles of a normal
                distribution (Dettmers et al., 2023); activations stay BF16
=============== ==================================================================================
"""

from collections.abc import Callable

import numpy as np

from compiler.training.gradients.eight_bit import EightBit
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import format_named
from sim.model import codec

__all__ = ["SCHEMES", "Scheme"]

Array = np.ndarray
_OUTLIER = 6.0
_BLOCK = 64
# The 16 values of NF4, from Table 7 of "QLoRA" as far as float32 goes.
_NF4 = np.array([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0])


def _largest(x: Array) -> Array:
    """Of each text's tensor, or of a matrix of weights."""
    axes = tuple(range(1, x.ndim)) if x.ndim > 2 else None
    return np.abs(x).max(axis=axes, keepdims=True)


def _integers(x: Array, largest: Array) -> Array:
    scale = np.where(largest == 0, 1, largest) / 127
    return np.rint(x / scale) * scale


def _int8(x: Array) -> Array:
    return _integers(x, _largest(x))


def _coded(fmt: str, x: Array, scale: Array) -> Array:
    encoding = format_named(fmt).encodings[0]
    return codec.decode(encoding, codec.encode(encoding, x * scale)) / scale


def _e4m3(x: Array) -> Array:
    largest = _largest(x)
    return _coded("e4m3", x, 448 / np.where(largest == 0, 448, largest))


def _e4m3_by_powers(x: Array) -> Array:
    largest = _largest(x)
    return _coded("e4m3", x, np.exp2(np.floor(np.log2(448 / np.where(largest == 0, 448, largest)))))


def _posit8_by_powers(x: Array) -> Array:
    axes = tuple(range(1, x.ndim)) if x.ndim > 2 else None
    size = np.sqrt(np.mean(x ** 2, axis=axes, keepdims=True))
    return _coded("posit8", x, np.exp2(-np.floor(np.log2(np.where(size == 0, 0.5, size))) - 1))


def _nf4(weight: Array) -> Array:
    blocks = weight.T.reshape(-1, _BLOCK)  # as they lie: outputs × inputs
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    part = blocks / np.where(largest == 0, 1, largest)
    nearest = np.abs(part[:, :, None] - _NF4).argmin(axis=2)
    return (_NF4[nearest] * largest).reshape(weight.T.shape).T


def _posit8(x: Array) -> Array:
    return _coded("posit8", x, np.ones(1))


# Activations and weights.
_TENSORS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "posit8": (_posit8, _posit8), "posit8, weights 2^n": (_posit8, _posit8_by_powers),
    "posit8 2^n": (_posit8_by_powers, _posit8_by_powers), "e4m3": (_e4m3, _e4m3),
    "e4m3 2^n": (_e4m3_by_powers, _e4m3_by_powers), "int8": (_int8, _int8)}
SCHEMES = (*_TENSORS, "llm.int8", "smoothquant", "nf4")


class Scheme(EightBit):
    """Rounds operands of products alone; what tensors hold besides is BF16. ``calibrating``: rounds
    nothing, and notes the largest magnitude of every column that meets a matrix."""

    def __init__(self, name: str) -> None:
        super().__init__(AcceleratorConfig("posit8", softmax="pwl"), dtype=np.float64)
        self.name, self.calibrating = name, False
        self._columns: dict[int, Array] = {}
        self._kept: dict[int, tuple[Array, Array]] = {}

    def stored(self, x: Array) -> Array:
        return self.wide(x)

    def constant(self, x: Array) -> Array:
        return self.wide_constant(x)

    def product(self, a: Array, b: Array) -> Array:
        if self.calibrating:
            if a.ndim > 1 and b.ndim == 2:
                columns = np.abs(a.reshape(-1, a.shape[-1])).max(axis=0)
                self._columns[_key(b)] = np.maximum(columns, self._columns.get(_key(b), 0.0))
            return self.lane(a @ b)
        if b.ndim > 2:
            return self.lane(self._pairs(a) @ self._pairs(b))
        return self.lane(self._linear(a, b))

    def _pairs(self, x: Array) -> Array:
        """An operand of a product of activations."""
        if self.name in _TENSORS:
            return _TENSORS[self.name][0](x)
        return _int8(x) if self.name == "smoothquant" else x

    def _linear(self, a: Array, b: Array) -> Array:
        if self.name in _TENSORS:
            activations, weights = _TENSORS[self.name]
            return activations(_texts(a)).reshape(a.shape) @ self._weight(b, weights)
        if self.name == "nf4":
            return a @ self._weight(b, _nf4)
        if self.name == "smoothquant":
            share = self._share(b)
            smooth = _int8(_texts(a / share)).reshape(a.shape)
            return smooth @ self._weight(b, lambda weight: _int8(weight * share[:, None]))
        return self._by_rows(a, b)

    def _by_rows(self, a: Array, b: Array) -> Array:
        """LLM.int8(): rows and columns each over their largest, outliers apart."""
        texts = _texts(a)
        over = (np.abs(texts) > _OUTLIER).any(axis=1, keepdims=True)
        apart = np.where(over, texts, 0.0)
        rest = texts - apart
        rows = _integers(rest, np.abs(rest).max(axis=2, keepdims=True))
        columns = self._weight(b, lambda weight: _integers(
            weight, np.abs(weight).max(axis=0, keepdims=True)))
        return (rows @ columns + apart @ b).reshape(*a.shape[:-1], b.shape[1])

    def _weight(self, weight: Array, rounded: Callable[[Array], Array]) -> Array:
        """Each matrix once."""
        key = _key(weight)
        if key not in self._kept:
            self._kept[key] = weight, rounded(weight)
        return self._kept[key][1]

    def _share(self, b: Array) -> Array:
        """By what columns of activations are divided: √(their largest / the weights' largest)."""
        columns, weights = self._columns[_key(b)], np.abs(b).max(axis=1)
        both = np.where((columns == 0) | (weights == 0), 1.0, columns / np.where(
            weights == 0, 1.0, weights))
        return np.sqrt(np.maximum(both, 1e-10))


def _texts(a: Array) -> Array:
    """Texts × positions × items, of rows too, which are a text each."""
    return a if a.ndim == 3 else a.reshape(len(a), 1, -1)


def _key(b: Array) -> int:
    """A matrix of weights, which is kept, or a view of it."""
    return id(b if b.base is None else b.base)
