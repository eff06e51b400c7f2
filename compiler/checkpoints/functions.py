"""Functions of transformers in fp32 numpy, each as its formula says."""

import math

import numpy as np

from compiler.checkpoints.description import Linear, Norm, Polynomial
from compiler.checkpoints.watch import seen

__all__ = ["activate", "capped", "erf", "gelu", "layer_norm", "linear", "normalise",
           "polynomial", "softmax"]

# GELU's sigmoid form is x σ(1.702 x), its other one x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.
_GELU_SIGMOID = np.float32(1.702)
_GELU_CUBE, _GELU_TANH = np.float32(0.044715), np.float32(math.sqrt(2 / math.pi))
_MANY = 1 << 11  # values: more go through a compiled loop


def erf(x: np.ndarray) -> np.ndarray:
    """The error function in float64."""
    if x.size >= _MANY:
        from sim.model.compiled import erf_all  # loads compiled code

        return erf_all(np.ascontiguousarray(x).reshape(-1)).reshape(x.shape)
    return np.array([math.erf(item) for item in x.ravel().tolist()]).reshape(x.shape)


def linear(layer: Linear, x: np.ndarray) -> np.ndarray:
    seen(layer, "input", x)
    y = x @ layer.weight.T
    return y if layer.bias is None else y + layer.bias


def layer_norm(x: np.ndarray, weight: np.ndarray | float, bias: np.ndarray | float,
               eps: float | np.floating) -> np.ndarray:
    """LayerNorm over the last axis in the input's type."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + eps) * weight + bias


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis in the input's type."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def polynomial(kernel: Polynomial, z: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """The kernel of scores z, heads × queries × keys, over its rows' sums; a row that is ``hidden``
    whole gives zeros."""
    bias, delta = (np.array(own, z.dtype)[:, None, None] for own in (kernel.bias, kernel.delta))
    e = np.maximum(z + bias, 0) ** kernel.degree + np.abs(delta)
    e = np.where(hidden, np.zeros_like(e), e)
    total = e.sum(axis=-1, keepdims=True)
    return e / np.where(total > 0, total, np.ones_like(total))


def normalise(norm: Norm, x: np.ndarray) -> np.ndarray:
    """LayerNorm, RMSNorm where there is no shift, or gain and shift alone; L1 norms by
    magnitudes."""
    if norm.affine:
        return x * norm.gain + (0 if norm.shift is None else norm.shift)
    if norm.kind == "l1":
        centred = x - x.mean(axis=-1, keepdims=True)
        size = np.abs(centred).mean(axis=-1, keepdims=True) + np.float32(norm.eps)
        return centred / size * norm.gain + norm.shift
    if norm.shift is not None:
        return layer_norm(x, norm.gain, norm.shift, np.float32(norm.eps))
    mean = np.square(x).mean(axis=-1, keepdims=True)
    return x / np.sqrt(mean + np.float32(norm.eps)) * norm.gain


def capped(cap: float | None, x: np.ndarray) -> np.ndarray:
    """cap · tanh(x / cap)."""
    return x if cap is None else np.tanh(x / np.float32(cap)) * np.float32(cap)


def gelu(x: np.ndarray) -> np.ndarray:
    """x Φ(x), by the error function in float64."""
    cdf = (1 + erf(np.asarray(x, np.float64) * math.sqrt(0.5))) / 2
    return (x * cdf).astype(np.float32)


def activate(name: str, x: np.ndarray) -> np.ndarray:
    """The ``Activation`` of that name."""
    if name == "gelu":
        return gelu(x)
    if name == "gelu_tanh":
        return x * (1 + np.tanh(_GELU_TANH * (x + _GELU_CUBE * x * x * x))) / 2
    if name == "relu":
        return np.maximum(x, 0)
    if name == "relu_squared":
        return np.square(np.maximum(x, 0))
    if name == "tanh":
        return np.tanh(x)
    if name in ("silu", "gelu_sigmoid"):
        slope = _GELU_SIGMOID if name == "gelu_sigmoid" else np.float32(1)
        # Below −80 the value is 0 in fp32 either way, but exp would overflow.
        return x / (1 + np.exp(np.minimum(-x * slope, np.float32(80))))
    raise ValueError("activation must be gelu, gelu_sigmoid, gelu_tanh, relu, relu_squared, silu "
                     f"or tanh, not {name!r}")
