"""Models that are trained here (``tools.train``): their layers, and the files of the integer ones.

The Integer Transformer (Lin et al., "Towards Fully 8-bit Integer Inference for the Transformer
Model", IJCAI 2020) has polynomial attention, norms by magnitudes and ReLU.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.checkpoints.checkpoint import Safetensors
from compiler.checkpoints.description import (
    Attention,
    Block,
    FeedForward,
    Linear,
    Norm,
    Polynomial,
)

__all__ = ["Shape", "Weights", "layers", "linear", "norm", "read_weights", "write_weights"]

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shape:
    """Sizes of a model of pre-norm layers. ``eps``: of its norms. ``degree``: of polynomial
    attention, with which go L1 norms and ReLU; ``None``: softmax, LayerNorm and GELU."""

    layers: int
    width: int
    heads: int
    hidden: int
    eps: float
    causal: bool = False
    degree: int | None = None


def linear(weights: Weights, part: str) -> Linear:
    return Linear(weights[f"{part}.weight"], weights[f"{part}.bias"])


def norm(weights: Weights, part: str, shape: Shape) -> Norm:
    return Norm(weights[f"{part}.gain"], weights[f"{part}.shift"], shape.eps,
                kind="l2" if shape.degree is None else "l1")


def layers(weights: Weights, shape: Shape) -> tuple[Block, ...]:
    """The layers that weights of training make."""
    return tuple(_layer(weights, index, shape) for index in range(shape.layers))


def _layer(weights: Weights, index: int, shape: Shape) -> Block:
    query, key, value, output, up, down = (
        linear(weights, f"{index}.{part}")
        for part in ("query", "key", "value", "output", "up", "down"))
    attention = Attention(query, key, value, output, shape.heads, shape.heads, causal=shape.causal,
                          kernel=_kernel(weights, index, shape))
    return Block(attention, norm(weights, f"{index}.attention_norm", shape),
                 FeedForward(up, down, "gelu" if shape.degree is None else "relu"),
                 norm(weights, f"{index}.feed_forward_norm", shape), pre_norm=True)


def _kernel(weights: Weights, index: int, shape: Shape) -> Polynomial | None:
    if shape.degree is None:
        return None
    bias, delta = (tuple(weights[f"{index}.attention_{part}"].tolist())
                   for part in ("bias", "delta"))
    return Polynomial(shape.degree, bias, delta)


def read_weights(path: Path) -> tuple[Weights, dict[str, str]]:
    """All tensors of a file as fp32, and what it says besides."""
    store = Safetensors(path)
    return {name: store.load(name) for name in store.shapes}, store.metadata()


def write_weights(path: Path, weights: Weights, metadata: dict[str, str]) -> None:
    """A file for ``read_weights``, in FP16."""
    from safetensors.numpy import save_file

    save_file({name: np.ascontiguousarray(values, np.float16) for name, values in weights.items()},
              path, metadata)
