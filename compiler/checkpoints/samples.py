"""Small random transformers of each family, for tests and trials."""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from compiler.checkpoints.description import (
    Activation,
    Attention,
    Block,
    FeedForward,
    Linear,
    Norm,
    Patches,
    Polynomial,
    Pooling,
    Rotary,
    Tokens,
    Transform,
    Transformer,
)
from compiler.checkpoints.inputs import Inputs

__all__ = ["SAMPLES", "bert", "inputs_for", "integer", "llama", "masked", "vit"]


class _Maker:
    """Random parts of a model of ``width``."""

    def __init__(self, seed: int, width: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.width = width

    def array(self, *shape: int, scale: float = 1.0) -> np.ndarray:
        return self.rng.normal(0, scale, shape).astype(np.float32)

    def linear(self, outputs: int, inputs: int, bias: bool = True) -> Linear:
        return Linear(self.array(outputs, inputs, scale=inputs ** -0.5),
                      self.array(outputs, scale=0.2) if bias else None)

    def norm(self, shift: bool = True, kind: Literal["l1", "l2"] = "l2") -> Norm:
        return Norm(1 + self.array(self.width, scale=0.2),
                    self.array(self.width, scale=0.2) if shift else None, 1e-5, kind=kind)

    def attention(self, heads: int, kv_heads: int, size: int, bias: bool = True,
                  rotary: Rotary | None = None, causal: bool = False) -> Attention:
        query, key, value = (self.linear(count * size, self.width, bias)
                             for count in (heads, kv_heads, kv_heads))
        return Attention(query, key, value, self.linear(self.width, heads * size, bias), heads,
                         kv_heads, rotary, causal)

    def feed_forward(self, hidden: int, activation: Activation, gated: bool = False,
                     bias: bool = True) -> FeedForward:
        gate = self.linear(hidden, self.width, bias) if gated else None
        return FeedForward(self.linear(hidden, self.width, bias),
                           self.linear(self.width, hidden, bias), activation, gate)

    def blocks(self, count: int, attention: Callable[[], Attention],
               feed_forward: Callable[[], FeedForward], *, pre_norm: bool, shift: bool = True,
               kind: Literal["l1", "l2"] = "l2") -> tuple[Block, ...]:
        return tuple(Block(attention(), self.norm(shift, kind), feed_forward(),
                           self.norm(shift, kind), pre_norm) for _ in range(count))


def bert(seed: int = 0, *, layers: int = 2, width: int = 12, heads: int = 3, hidden: int = 20,
         words: int = 50, positions: int = 32, pooling: Pooling = "none") -> Transformer:
    """Post-norm with biases and GELU, LayerNorm after the embeddings."""
    make = _Maker(seed, width)
    embedding = Tokens(make.array(words, width), make.array(positions, width, scale=0.5),
                       make.array(width, scale=0.3), make.norm())
    blocks = make.blocks(layers, lambda: make.attention(heads, heads, width // heads),
                         lambda: make.feed_forward(hidden, "gelu"), pre_norm=False)
    return Transformer("random BERT", embedding, blocks, pooling=pooling)


def masked(model: Transformer, activation: Activation = "gelu", seed: int = 0) -> Transformer:
    """``model`` with a head for masked words: of two layers, the last the embedding's table."""
    make = _Maker(seed, model.width)
    assert isinstance(model.embedding, Tokens), "a model of words"
    table = model.embedding.table
    transform = Transform(make.linear(model.width, model.width), activation, make.norm())
    return replace(model, transform=transform, head=Linear(table, make.array(len(table))),
                   task="masked language model")


def vit(seed: int = 0, *, layers: int = 2, width: int = 12, heads: int = 2, hidden: int = 24,
        items: int = 7, positions: int = 9, classes: int = 5, pooling: Pooling = "mean"
        ) -> Transformer:
    """Pre-norm with biases and GELU by the sigmoid, final norm, pooling and head."""
    make = _Maker(seed, width)
    embedding = Patches(make.linear(width, items), make.array(positions, width, scale=0.5))
    blocks = make.blocks(layers, lambda: make.attention(heads, heads, width // heads),
                         lambda: make.feed_forward(hidden, "gelu_sigmoid"), pre_norm=True)
    return Transformer("random ViT", embedding, blocks, make.norm(), make.linear(classes, width),
                       pooling)


def llama(seed: int = 0, *, layers: int = 2, width: int = 16, heads: int = 4, kv_heads: int = 2,
          hidden: int = 24, words: int = 40, interleaved: bool = True) -> Transformer:
    """Causal, grouped queries, rotary embedding, SwiGLU, RMSNorm, no biases, tied head."""
    make = _Maker(seed, width)
    table = make.array(words, width)
    blocks = make.blocks(
        layers, lambda: make.attention(heads, kv_heads, width // heads, bias=False, causal=True,
                                       rotary=Rotary(10000.0, interleaved)),
        lambda: make.feed_forward(hidden, "silu", gated=True, bias=False), pre_norm=True,
        shift=False)
    return Transformer("random Llama", Tokens(table), blocks, make.norm(False), Linear(table))


def integer(seed: int = 0, *, layers: int = 2, width: int = 12, heads: int = 3, hidden: int = 20,
            words: int = 40, positions: int = 32, degree: int = 2, causal: bool = True
            ) -> Transformer:
    """Polynomial attention, L1 norms and ReLU, biases and deltas of each head its own."""
    make = _Maker(seed, width)
    embedding = Tokens(make.array(words, width), make.array(positions, width, scale=0.5))

    def attention() -> Attention:
        bias, delta = (tuple(own.tolist()) for own in (1 + make.array(heads, scale=0.5),
                                                       make.array(heads, scale=0.3)))
        return replace(make.attention(heads, heads, width // heads, causal=causal),
                       kernel=Polynomial(degree, bias, delta))

    blocks = make.blocks(layers, attention, lambda: make.feed_forward(hidden, "relu"),
                         pre_norm=True, kind="l1")
    return Transformer("random Integer Transformer", embedding, blocks, make.norm(kind="l1"),
                       make.linear(words, width))


SAMPLES: dict[str, Callable[..., Transformer]] = {
    "random-bert": bert, "random-integer": integer, "random-llama": llama, "random-vit": vit}


def inputs_for(model: Transformer, length: int, sequences: int = 1, seed: int = 0) -> Inputs:
    """Random ids, or patches, for ``model``."""
    rng = np.random.default_rng(seed)
    if isinstance(model.embedding, Tokens):
        ids = rng.integers(0, len(model.embedding.table), (sequences, length))
        return Inputs("ids", ids)
    items = model.embedding.projection.weight.shape[1]
    return Inputs("patches", rng.normal(0, 1, (sequences, length, items)))
