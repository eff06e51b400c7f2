"""Forward of a described transformer in fp32 numpy: what 8-bit results are measured against.

Where norms do not normalise (MobileBERT) nothing bounds what the layers give, nor what their
roundings come to: there all is float64 from the embedding to the results.
"""

from dataclasses import dataclass, field

import numpy as np

from compiler.checkpoints.description import (
    Attention,
    Block,
    Convolution,
    FeedForward,
    Linear,
    Norm,
    Patches,
    Tokens,
    Transformer,
)
from compiler.checkpoints.functions import (
    activate,
    capped,
    gelu,
    layer_norm,
    linear,
    normalise,
    polynomial,
    softmax,
)
from compiler.checkpoints.watch import seen

__all__ = ["Cache", "Values", "activate", "attend", "attend_across", "embed", "encode",
           "feed_forward", "finish", "forward", "gelu", "layer_norm", "linear", "normalise",
           "rotate", "run_block", "softmax"]

_SCORES = 1 << 24  # at a time: of a long text all take more memory than all else


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


# Attention

def rotate(attention: Attention, x: np.ndarray, first: int) -> np.ndarray:
    """Rotary embedding of ``x``, S × heads × size; row i is position ``first`` + i."""
    rotary = attention.rotary
    if rotary is None:
        return x
    half = x.shape[-1] // 2
    rate = rotary.of_pairs(x.shape[-1])
    angle = (first + np.arange(x.shape[0]))[:, None, None] * rate
    cosine, sine = ((of(angle) * rotary.factor).astype(np.float32) for of in (np.cos, np.sin))
    pairs = (slice(0, None, 2), slice(1, None, 2)) if rotary.interleaved else (
        slice(0, half), slice(half, None))
    a, b = (x[..., pair] for pair in pairs)
    rotated = np.empty_like(x)
    rotated[..., pairs[0]] = a * cosine - b * sine
    rotated[..., pairs[1]] = a * sine + b * cosine
    return rotated


def _heads(part: Linear, norm: Norm | None, x: np.ndarray, size: int) -> np.ndarray:
    """Queries or keys by head, S × heads × ``size``, normalised by head or all together."""
    y = linear(part, x)
    if norm is not None and len(norm.gain) != size:
        y = normalise(norm, y)
    y = y.reshape(x.shape[0], -1, size)
    return normalise(norm, y) if norm is not None and len(norm.gain) == size else y


def attend(attention: Attention, x: np.ndarray, cache: Cache | None = None, index: int = 0,
           values_of: np.ndarray | None = None) -> np.ndarray:
    """Attention of S × d; with ``cache``, its layer ``index`` grows by S positions.
    ``values_of``: what values read where that is not x."""
    size, group = attention.head_size, attention.heads // attention.kv_heads
    first = cache.keys[index].shape[0] if cache and index < len(cache.keys) else 0
    query = _heads(attention.query, attention.query_norm, x, size)
    key = _heads(attention.key, attention.key_norm, x, size)
    value = _heads(attention.value, None, x if values_of is None else values_of, size)
    query, key = rotate(attention, query, first), rotate(attention, key, first)
    if cache is not None:
        key, value = _extend(cache, index, key, value)
    _attended(attention, query, key, value)
    key, value = (np.repeat(part, group, axis=1) for part in (key, value))
    keys, most = np.arange(len(key)), max(1, _SCORES // (attention.heads * len(key)))
    mixed = [_mixed(attention, query[start:start + most], key, value,
                    first + np.arange(start, min(start + most, len(x))), keys)
             for start in range(0, len(x), most)]
    return linear(attention.output, np.concatenate(mixed).reshape(x.shape[0], -1))


def _mixed(attention: Attention, query: np.ndarray, key: np.ndarray, value: np.ndarray,
           queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Values weighted by softmax, positions × heads × size. ``queries``, ``keys``: positions."""
    scores = np.einsum("ihd,jhd->hij", query, key, optimize=True)
    scores = capped(attention.cap, scores * np.float32(attention.score_scale))
    if attention.position_bias is not None:
        scores = scores + attention.position_bias.matrix(queries, keys)
    weight = _weights(attention, scores, attention.hidden(queries, keys))
    return np.einsum("hij,jhd->ihd", weight, value, optimize=True)


def _attended(attention: Attention, *operands: np.ndarray) -> None:
    for name, own in zip(("queries", "keys", "values"), operands, strict=True):
        seen(attention, name, own)


def _weights(attention: Attention, scores: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """What each key's values count, heads × queries × keys, of scaled scores."""
    if attention.kernel is not None:
        return polynomial(attention.kernel, scores, hidden)
    return softmax(np.where(hidden, np.float32(-np.inf), scores) if hidden.any() else scores)


def attend_across(attention: Attention, x: np.ndarray, encoded: np.ndarray) -> np.ndarray:
    """Attention of S × d on an encoder's results."""
    size = attention.head_size
    query, key, value = (
        linear(part, given).reshape(len(given), -1, size) for part, given in (
            (attention.query, x), (attention.key, encoded), (attention.value, encoded)))
    _attended(attention, query, key, value)
    scores = np.einsum("ihd,jhd->hij", query, key, optimize=True)
    weight = _weights(attention, scores * np.float32(attention.score_scale),
                      np.zeros(scores.shape[1:], bool))
    mixed = np.einsum("hij,jhd->ihd", weight, value, optimize=True)
    return linear(attention.output, mixed.reshape(len(x), -1))


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


# Layers

def feed_forward(layer: FeedForward, x: np.ndarray) -> np.ndarray:
    if layer.gate is None:
        return linear(layer.down, activate(layer.activation, linear(layer.up, x)))
    return linear(layer.down, activate(layer.activation, linear(layer.gate, x))
                  * linear(layer.up, x))


def _by(norm: Norm | None, x: np.ndarray) -> np.ndarray:
    return x if norm is None else normalise(norm, x)


def run_block(block: Block, x: np.ndarray, cache: Cache | None = None, index: int = 0,
              encoded: np.ndarray | None = None) -> np.ndarray:
    """One layer on S × d; ``cache`` and ``index`` as for ``attend``. ``encoded``: what the encoder
    gives, where the layer looks across."""
    if block.bottleneck is not None:
        narrow = block.bottleneck
        x = x.astype(np.float64) if narrow.norm.affine else x
        stream = linear(narrow.enter, x)
        if narrow.shared is None:
            y = attend(block.attention, stream, cache, index)
        else:
            y = attend(block.attention, linear(narrow.shared, x), cache, index, x)
        y = _post_norm(block, stream, y)
        return normalise(narrow.norm, linear(narrow.leave, y) + x)
    if not block.pre_norm:
        return _post_norm(block, x, attend(block.attention, x, cache, index), encoded)
    given = _by(block.attention_norm, x)
    middle = x + _by(block.attention_after, attend(block.attention, given, cache, index))
    if block.across is not None and encoded is not None:
        middle = middle + attend_across(block.across, _by(block.across_norm, middle), encoded)
    given = _by(block.feed_forward_norm, x if block.parallel else middle)
    return middle + _by(block.feed_forward_after, feed_forward(block.feed_forward, given))


def _post_norm(block: Block, x: np.ndarray, attended: np.ndarray,
               encoded: np.ndarray | None = None) -> np.ndarray:
    x = _by(block.attention_norm, x + attended)
    if block.across is not None and encoded is not None:
        x = _by(block.across_norm, x + attend_across(block.across, x, encoded))
    for layer, norm in (*block.stack, (block.feed_forward, block.feed_forward_norm)):
        x = _by(norm, x + feed_forward(layer, x))
    return x


# Ends

def embed(embedding: Tokens | Patches, inputs: np.ndarray, first: int = 0,
          segments: np.ndarray | None = None) -> np.ndarray:
    """The first layer's input, S × d, of S token ids or S flattened patches.

    Row i is position ``first`` + i, of the kind ``segments``[i] if given. ``ValueError`` for inputs
    that the tables do not have.
    """
    inputs = np.asarray(inputs)
    last = first + inputs.shape[0] // embedding.rate
    if embedding.positions is not None and not first < last <= len(embedding.positions):
        raise ValueError(f"positions must be from 1 to {len(embedding.positions)}, not {last}")
    if isinstance(embedding, Patches):
        width = embedding.projection.weight.shape[1]
        if inputs.ndim != 2 or inputs.shape[1] != width:
            raise ValueError(f"patches must be rows of {width} values, not {inputs.shape}")
        x = linear(embedding.projection, inputs.astype(np.float32))
        if embedding.convolution is not None:
            x = _convolved(embedding.convolution, x)
        return _by(embedding.norm, x + embedding.positions[first:last])
    if inputs.ndim != 1 or not len(inputs) or not np.issubdtype(inputs.dtype, np.integer):
        raise ValueError("token ids must be a row of whole numbers, "
                         f"not {inputs.dtype} of shape {inputs.shape}")
    wrong = inputs[(inputs < 0) | (inputs >= len(embedding.table))]
    if len(wrong):
        raise ValueError(f"token ids must be from 0 to {len(embedding.table) - 1}, "
                         f"not {wrong[0]}")
    x = _rows(embedding, inputs)
    if embedding.positions is not None:
        x = x + embedding.positions[first:last]
    if segments is not None and embedding.segments is not None:
        x = x + embedding.segments[segments]
    elif embedding.segment is not None:
        x = x + embedding.segment
    x = _by(embedding.norm, x)
    return x if embedding.norm_projection is None else linear(embedding.norm_projection, x)


def _convolved(convolution: Convolution, x: np.ndarray) -> np.ndarray:
    """Every second row of f(x) between its neighbours, through the linear layer and f."""
    x = activate(convolution.activation, x)
    before = np.concatenate([np.zeros_like(x[:1]), x[1:-1:2]])
    rows = np.concatenate([before, x[::2], x[1::2]], axis=1)
    return activate(convolution.activation, linear(convolution.linear, rows))


def _rows(embedding: Tokens, ids: np.ndarray) -> np.ndarray:
    """What the table gives, before positions."""
    x = embedding.table[ids] * np.float32(embedding.factor)
    if embedding.neighbours:
        x = x.astype(np.float64)  # MobileBERT
        none = np.zeros_like(x[:1])
        x = np.concatenate([np.concatenate([none, x[:-1]]), x, np.concatenate([x[1:], none])],
                           axis=1)
    return x if embedding.row_projection is None else linear(embedding.row_projection, x)


def encode(model: Transformer, source: np.ndarray) -> np.ndarray:
    """What the encoder of ``model`` gives for S token ids or patches, S × d."""
    if model.encoder is None:
        raise ValueError(f"{model.name} has no encoder")
    return forward(model.encoder, source).output


def forward(model: Transformer, inputs: np.ndarray, cache: Cache | None = None,
            segments: np.ndarray | None = None, encoded: np.ndarray | None = None) -> Values:
    """All layers on S token ids or patches, after those of ``cache``, which then grows.

    A step of decoding is a forward of one token with the cache of those before it. ``segments`` as
    for ``embed``. ``encoded``: of a model with an encoder what that gives (``encode``).
    """
    if (encoded is None) != (model.encoder is None):
        raise ValueError(f"{model.name} must be given what its encoder gives, if it has one")
    x = embed(model.embedding, inputs, cache.positions if cache else 0, segments)
    embedded, blocks = x.astype(np.float32), []
    for index, block in enumerate(model.blocks):
        x = run_block(block, x, cache, index, encoded)
        blocks.append(x.astype(np.float32))
    return Values(embedded, tuple(blocks), finish(model, x))


def finish(model: Transformer, x: np.ndarray) -> np.ndarray:
    """Final norm, pooling and head on the last layer's S × d."""
    x = _by(model.final_norm, x)
    if model.pooling in ("first", "first_l2"):
        x = x[:1]
    elif model.pooling == "first_two":
        x = x[:2].reshape(1, -1)
    elif model.pooling == "last":
        x = x[-1:]
    elif model.pooling in ("mean", "mean_l2"):
        x = x.mean(axis=0, keepdims=True)
    if model.pooling.endswith("_l2"):
        x = x / np.linalg.norm(x)
    if model.transform is not None:
        x = linear(model.transform.linear, x)
        if model.transform.activation is not None:
            x = activate(model.transform.activation, x)
        x = _by(model.transform.norm, x)
    if model.head is not None:
        x = capped(model.cap, linear(model.head, x))
    return x.astype(np.float32)
