"""Forward of a described transformer in fp32 numpy: what 8-bit results are measured against."""

import math
from dataclasses import dataclass, field

import numpy as np

from compiler.checkpoints.description import (
    Attention,
    Block,
    FeedForward,
    Linear,
    Norm,
    Patches,
    Tokens,
    Transformer,
)

__all__ = ["Cache", "Values", "activate", "attend", "embed", "feed_forward", "finish", "forward",
           "gelu", "layer_norm", "linear", "normalise", "rotate", "run_block", "softmax"]

# GELU's sigmoid form is x σ(1.702 x).
_GELU_SIGMOID = np.float32(1.702)
_erf = np.frompyfunc(math.erf, 1, 1)


@dataclass
class Cache:
    """Keys (rotated) and values of the positions so far, one pair per layer, each
    positions × (kv heads · size). ``forward`` appends to them."""

    keys: list[np.ndarray] = field(default_factory=list)
    values: list[np.ndarray] = field(default_factory=list)

    @property
    def positions(self) -> int:
        return self.keys[0].shape[0] if self.keys else 0


@dataclass(frozen=True)
class Values:
    """The embedding and each layer's output, S × d; ``output`` after norm, pooling and head."""

    embedding: np.ndarray
    blocks: tuple[np.ndarray, ...]
    output: np.ndarray


def linear(layer: Linear, x: np.ndarray) -> np.ndarray:
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


def normalise(norm: Norm, x: np.ndarray) -> np.ndarray:
    """LayerNorm, or RMSNorm where there is no shift."""
    if norm.shift is not None:
        return layer_norm(x, norm.gain, norm.shift, np.float32(norm.eps))
    mean = np.square(x).mean(axis=-1, keepdims=True)
    return x / np.sqrt(mean + np.float32(norm.eps)) * norm.gain


def gelu(x: np.ndarray) -> np.ndarray:
    """x Φ(x), by the error function in float64."""
    cdf = (1 + np.asarray(_erf(np.asarray(x, np.float64) * math.sqrt(0.5)), np.float64)) / 2
    return (x * cdf).astype(np.float32)


def activate(name: str, x: np.ndarray) -> np.ndarray:
    """The ``Activation`` of that name."""
    if name == "gelu":
        return gelu(x)
    if name == "relu":
        return np.maximum(x, 0)
    if name in ("silu", "gelu_sigmoid"):
        slope = _GELU_SIGMOID if name == "gelu_sigmoid" else np.float32(1)
        # Below −80 the value is 0 in fp32 either way, but exp would overflow.
        return x / (1 + np.exp(np.minimum(-x * slope, np.float32(80))))
    raise ValueError(f"activation must be gelu, gelu_sigmoid, relu or silu, not {name!r}")


def rotate(attention: Attention, x: np.ndarray, first: int) -> np.ndarray:
    """Rotary embedding of ``x``, S × heads × size; row i is position ``first`` + i."""
    rotary = attention.rotary
    if rotary is None:
        return x
    half = x.shape[-1] // 2
    rate = rotary.base ** (-np.arange(half) / half)
    angle = (first + np.arange(x.shape[0]))[:, None, None] * rate
    cosine, sine = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    pairs = (slice(0, None, 2), slice(1, None, 2)) if rotary.interleaved else (
        slice(0, half), slice(half, None))
    a, b = (x[..., pair] for pair in pairs)
    rotated = np.empty_like(x)
    rotated[..., pairs[0]] = a * cosine - b * sine
    rotated[..., pairs[1]] = a * sine + b * cosine
    return rotated


def attend(attention: Attention, x: np.ndarray, cache: Cache | None = None,
           index: int = 0) -> np.ndarray:
    """Attention of S × d; with ``cache``, its layer ``index`` grows by S positions."""
    size, group = attention.head_size, attention.heads // attention.kv_heads
    first = cache.keys[index].shape[0] if cache and index < len(cache.keys) else 0
    query, key, value = (
        linear(part, x).reshape(x.shape[0], -1, size)
        for part in (attention.query, attention.key, attention.value))
    query, key = rotate(attention, query, first), rotate(attention, key, first)
    if cache is not None:
        key, value = _extend(cache, index, key, value)
    key, value = (np.repeat(part, group, axis=1) for part in (key, value))
    scores = np.einsum("ihd,jhd->hij", query, key, optimize=True) * np.float32(size ** -0.5)
    if attention.causal:
        seen = np.arange(key.shape[0]) <= first + np.arange(x.shape[0])[:, None]
        scores = np.where(seen, scores, np.float32(-np.inf))
    mixed = np.einsum("hij,jhd->ihd", softmax(scores), value, optimize=True)
    return linear(attention.output, mixed.reshape(x.shape[0], -1))


def _extend(cache: Cache, index: int, key: np.ndarray, value: np.ndarray
            ) -> tuple[np.ndarray, np.ndarray]:
    """Append to the cache; all keys and values so far, positions × kv heads × size."""
    shape = (-1, *key.shape[1:])
    pair = []
    for kept, new in ((cache.keys, key), (cache.values, value)):
        flat = new.reshape(new.shape[0], -1)
        if index < len(kept):
            kept[index] = np.concatenate([kept[index], flat])
        else:
            kept.append(flat)
        pair.append(kept[index].reshape(shape))
    return pair[0], pair[1]


def feed_forward(layer: FeedForward, x: np.ndarray) -> np.ndarray:
    if layer.gate is None:
        return linear(layer.down, activate(layer.activation, linear(layer.up, x)))
    return linear(layer.down, activate(layer.activation, linear(layer.gate, x))
                  * linear(layer.up, x))


def run_block(block: Block, x: np.ndarray, cache: Cache | None = None, index: int = 0
              ) -> np.ndarray:
    """One layer on S × d; ``cache`` and ``index`` as for ``attend``."""
    if block.pre_norm:
        x = x + attend(block.attention, normalise(block.attention_norm, x), cache, index)
        return x + feed_forward(block.feed_forward, normalise(block.feed_forward_norm, x))
    x = normalise(block.attention_norm, x + attend(block.attention, x, cache, index))
    return normalise(block.feed_forward_norm, x + feed_forward(block.feed_forward, x))


def embed(embedding: Tokens | Patches, inputs: np.ndarray, first: int = 0) -> np.ndarray:
    """The first layer's input, S × d, of S token ids or S flattened patches.

    Row i is position ``first`` + i. ``ValueError`` for inputs that the tables do not have.
    """
    inputs = np.asarray(inputs)
    last = first + inputs.shape[0]
    if embedding.positions is not None and not first < last <= len(embedding.positions):
        raise ValueError(f"positions must be from 1 to {len(embedding.positions)}, not {last}")
    if isinstance(embedding, Patches):
        width = embedding.projection.weight.shape[1]
        if inputs.ndim != 2 or inputs.shape[1] != width:
            raise ValueError(f"patches must be rows of {width} values, not {inputs.shape}")
        x = linear(embedding.projection, inputs.astype(np.float32))
        return x + embedding.positions[first:last]
    if inputs.ndim != 1 or not len(inputs) or not np.issubdtype(inputs.dtype, np.integer):
        raise ValueError("token ids must be a row of whole numbers, "
                         f"not {inputs.dtype} of shape {inputs.shape}")
    wrong = inputs[(inputs < 0) | (inputs >= len(embedding.table))]
    if len(wrong):
        raise ValueError(f"token ids must be from 0 to {len(embedding.table) - 1}, "
                         f"not {wrong[0]}")
    x = embedding.table[inputs]
    if embedding.positions is not None:
        x = x + embedding.positions[first:last]
    if embedding.segment is not None:
        x = x + embedding.segment
    return x if embedding.norm is None else normalise(embedding.norm, x)


def forward(model: Transformer, inputs: np.ndarray, cache: Cache | None = None) -> Values:
    """All layers on S token ids or patches, after those of ``cache``, which then grows.

    A step of decoding is a forward of one token with the cache of those before it.
    """
    x = embedded = embed(model.embedding, inputs, cache.positions if cache else 0)
    blocks = []
    for index, block in enumerate(model.blocks):
        x = run_block(block, x, cache, index)
        blocks.append(x)
    return Values(embedded, tuple(blocks), finish(model, x))


def finish(model: Transformer, x: np.ndarray) -> np.ndarray:
    """Final norm, pooling and head on the last layer's S × d."""
    if model.final_norm is not None:
        x = normalise(model.final_norm, x)
    if model.pooling == "first":
        x = x[:1]
    elif model.pooling in ("mean", "mean_l2"):
        x = x.mean(axis=0, keepdims=True)
        if model.pooling == "mean_l2":
            x = x / np.linalg.norm(x)
    return x if model.head is None else linear(model.head, x)
