"""What a pass through a network rounds, and where: ``Exact`` rounds nothing.

Every function of ``compiler.training.gradients`` calls these hooks at the places where the
accelerator rounds: ``lane`` after each operation of the vector unit, ``wide`` and ``stored`` where
a forward tensor goes to memory, ``gradient`` where one of the backward pass does. With ``Exact``
they all give back what they get, and what is left is the mathematics.
"""

import math

import numpy as np

from compiler.checkpoints.functions import erf
from hdl.spec.formats import BFLOAT16
from sim.model.rounding import largest

__all__ = ["Array", "Exact", "gelu_cdf", "slope"]

Array = np.ndarray
_GELU_SIGMOID = 1.702


class Exact:
    """Arithmetic of ``dtype`` alone, float64 unless said otherwise.

    ``backward``: the form of the softmax's backward pass, ``ordinary`` or ``centred``; they are the
    same but for rounding. Forms that the lanes do not compute stand in ``softmax.BACKWARD``.
    """

    masked = -largest(BFLOAT16)

    def __init__(self, dtype: type = np.float64, backward: str = "ordinary") -> None:
        self.dtype = dtype
        self.backward = backward

    # Where values are rounded

    def lane(self, x: Array) -> Array:
        """What an operation of the lanes gives."""
        return x

    def wide(self, x: Array) -> Array:
        """``x`` as a BF16 tensor holds it."""
        return x

    def stored(self, x: Array) -> Array:
        """Lane values as a tensor of the format holds them."""
        return x

    def constant(self, x: Array) -> Array:
        """Weights and inputs of any precision, as a tensor of the format holds them."""
        return np.asarray(x, self.dtype)

    def wide_constant(self, x: Array) -> Array:
        """The same as BF16: biases, factors."""
        return np.asarray(x, self.dtype)

    def gradient(self, site: str, g: Array) -> Array:
        """Gradient tensor ``site`` as it is stored."""
        return g

    def beside(self, site: str, g: Array) -> Array:
        """A gradient that is stored beside tensor ``site``, in its scale."""
        return self.gradient(site, g)

    def end_step(self) -> None:
        """A step's gradients are complete."""

    def histories(self) -> dict[str, list[float]]:
        """What the scales of gradients follow from, by site."""
        return {}

    def resume(self, histories: dict[str, list[float]]) -> None:
        """Take ``histories`` of another run."""

    # Functions of the lanes

    def exp(self, x: Array) -> Array:
        """e^x for x <= 0."""
        return np.exp(x)

    def reciprocal(self, x: Array) -> Array:
        """1/x; of 0 it is 0."""
        return np.divide(1, x, out=np.zeros_like(x), where=x != 0)

    def product(self, a: Array, b: Array) -> Array:
        """Lane values of the matrix product, over the last two axes."""
        return a @ b

    def mean(self, x: Array, count: Array | None = None) -> Array:
        """The mean of each row, or its sum over ``count``, as a row register holds it."""
        return self._mean(x, count)

    def total(self, x: Array) -> Array:
        """The sum of each row, as a row register holds it."""
        return self.lane(x.sum(axis=-1, keepdims=True))

    def inverse_root(self, x: Array, eps: float, count: Array | None = None) -> Array:
        """1/√(``mean`` + ``eps``), as a row register holds it."""
        return 1 / np.sqrt(self._mean(x, count) + self.dtype(eps))

    def _mean(self, x: Array, count: Array | None) -> Array:
        if count is None:
            return x.mean(axis=-1, keepdims=True)
        return x.sum(axis=-1, keepdims=True) / count.astype(x.dtype)

    def inverse_sqrt(self, x: Array) -> Array:
        """1/√x of each item."""
        return 1 / np.sqrt(x)

    def activation(self, name: str, x: Array) -> Array:
        """The ``description.Activation`` of that name, or ``tanh`` or ``sigmoid``."""
        if name == "relu":
            return np.maximum(x, 0)
        if name == "tanh":
            return np.tanh(x)
        if name == "sigmoid":
            return sigmoid(x)
        if name == "gelu":
            return x * gelu_cdf(x)
        return x * sigmoid(x * self.dtype(_GELU_SIGMOID if name == "gelu_sigmoid" else 1))

    def slope(self, name: str, x: Array) -> Array:
        """The derivative of ``activation`` as it is stored."""
        return slope(name, x)

    def loss_softmax(self, logits: Array) -> Array:
        """Probabilities of the loss, over each row."""
        e = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)


def sigmoid(x: Array) -> Array:
    # Below −80 the value is 0 in fp32 either way, but exp would overflow.
    return 1 / (1 + np.exp(np.minimum(-x, 80)))


def gelu_cdf(x: Array) -> Array:
    """Φ(x): by the error function in float64, else within 10⁻⁷ (Abramowitz and Stegun, 7.1.26)."""
    if x.dtype == np.float64:
        return (1 + erf(x * math.sqrt(0.5))) / 2
    t = 1 / (1 + np.float32(0.3275911 * math.sqrt(0.5)) * np.abs(x))
    series = t * (0.254829592 + t * (-0.284496736 + t * (
        1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = series * np.exp(-np.square(x) / 2) / 2
    return np.where(x < 0, tail, 1 - tail)


def slope(name: str, x: Array) -> Array:
    """The derivative of the activation ``name`` at ``x``; of ReLU 0 at 0."""
    if name == "relu":
        return (x > 0).astype(x.dtype)
    if name == "tanh":
        return 1 - np.square(np.tanh(x))
    if name == "sigmoid":
        return sigmoid(x) * sigmoid(-x)
    if name == "gelu":
        density = np.exp(-np.square(x) / 2) * x.dtype.type(1 / math.sqrt(2 * math.pi))
        return gelu_cdf(x) + x * density
    if name in ("silu", "gelu_sigmoid"):
        rate = x.dtype.type(_GELU_SIGMOID if name == "gelu_sigmoid" else 1)
        s = sigmoid(x * rate)
        return s * (1 + x * rate * sigmoid(-x * rate))
    raise ValueError(
        f"activation must be gelu, gelu_sigmoid, relu, silu, tanh or sigmoid, not {name!r}")
