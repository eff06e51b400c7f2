"""The same model with its values where formats of few digits are precise: ``balanced``.

A linear layer after a norm, after another linear layer or after the product of a gate may take
powers of two from what it reads, column by column, and give them to what it is multiplied by:

=================== ============================================================================
norm before layers  its gain becomes a power of two, in every channel; its readers take the rest
gated feed-forward  rows of ``up`` × s, columns of ``down`` / s (of ReLU without a gate alike)
attention           rows of ``value`` × s, columns of ``output`` / s
final norm, head    as a norm before layers; a head that is the embedding's table gets its own
=================== ============================================================================

What is computed in fp32 stays the same, but for the rounding of gains that their readers take. s is
such that a channel of activations and the column of weights that it meets are about as large:
what a channel reaches is measured on examples. Gains are then exact in any format, channels of
thousands, as gated feed-forwards of decoders have, come into the range of E4M3, and small ones to
where posits are precise. After "SmoothQuant" (Xiao et al., 2023), whose factors are no powers of
two and go into gains alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from compiler.checkpoints import reference
from compiler.checkpoints.description import (
    Attention,
    Block,
    FeedForward,
    Linear,
    Norm,
    Transformer,
)
from compiler.checkpoints.watch import watching
from compiler.examples import Example

__all__ = ["balanced"]

Array = np.ndarray
_LINEAR_POOLINGS = ("none", "first", "last", "mean")


class _Sizes:
    """How large every channel that a product reads becomes: the geometric mean of its root mean
    square and its largest magnitude."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], tuple[int, Array, Array]] = {}

    def note(self, part: Linear | Attention, what: str, values: Array) -> None:
        weight = part.weight if isinstance(part, Linear) else part.query.weight
        rows = np.float64(values).reshape(len(values), -1)
        count, squares, largest = self._found.get(
            (id(weight), what), (0, np.zeros(1), np.zeros(1)))
        self._found[id(weight), what] = (
            count + len(rows), squares + np.square(rows).sum(axis=0),
            np.maximum(largest, np.abs(rows).max(axis=0)))

    def of(self, linear: Linear, what: str = "input") -> Array:
        count, squares, largest = self._found[id(linear.weight), what]
        return np.sqrt(np.sqrt(squares / count) * largest)


def balanced(model: Transformer, examples: Sequence[Example],
             tell: Callable[[float], None] = lambda share: None) -> Transformer:
    """``model`` with powers of two moved between its layers, by what its channels reach on
    ``examples``; parts of other forms stay as they are. ``ValueError`` for models that read what
    another one gives."""
    if model.encoder is not None:
        raise ValueError(f"{model.name} cannot be balanced: what its layers read depends on what "
                         "its encoder gives")
    model, sizes = replace(model, blocks=tuple(model.blocks)), _Sizes()
    with watching(sizes.note):
        for number, example in enumerate(examples, 1):
            reference.forward(model, example.values, segments=example.segments)
            tell(number / len(examples))
    made = {own: _block(block, sizes) for own, block in {
        id(block): block for block in model.blocks}.items()}  # ALBERT's layers are one
    norm, head = model.final_norm, model.head
    if (norm is not None and head is not None and model.transform is None
            and model.pooling in _LINEAR_POOLINGS):
        norm, (head,) = _after_norm(norm, [head], sizes.of(head))
    return replace(model, final_norm=norm, head=head,
                   blocks=tuple(made[id(block)] for block in model.blocks))


def _powers(weights: Array, channels: Array) -> Array:
    """By what ``channels`` are multiplied, so that they are about as large as the ``weights`` that
    they meet are then."""
    known = (weights > 0) & (channels > 0)
    ratio = np.where(known, weights, 1.0) / np.where(known, channels, 1.0)
    return np.exp2(np.rint(np.log2(ratio) / 2)).astype(np.float32)


def _columns(linears: Sequence[Linear]) -> Array:
    """How large the columns of layers that read the same are, as ``_Sizes`` has channels."""
    every = np.float64(np.concatenate([own.weight for own in linears]))
    return np.sqrt(np.sqrt(np.square(every).mean(axis=0)) * np.abs(every).max(axis=0))


def _block(block: Block, sizes: _Sizes) -> Block:
    attention, ffn = block.attention, block.feed_forward
    read, given = sizes.of(attention.query), sizes.of(ffn.up)
    attention, ffn = _attention(attention, sizes), _feed_forward(ffn, sizes)
    first, second = block.attention_norm, block.feed_forward_norm
    if not block.pre_norm or block.parallel or block.bottleneck is not None:
        return replace(block, attention=attention, feed_forward=ffn)
    if first is not None:
        first, (query, key, value) = _after_norm(
            first, [attention.query, attention.key, attention.value], read)
        attention = replace(attention, query=query, key=key, value=value)
    if second is not None:
        own = [ffn.up] if ffn.gate is None else [ffn.up, ffn.gate]
        second, (up, *gate) = _after_norm(second, own, given)
        ffn = replace(ffn, up=up, gate=gate[0] if gate else None)
    return replace(block, attention=attention, feed_forward=ffn, attention_norm=first,
                   feed_forward_norm=second)


def _after_norm(norm: Norm, linears: Sequence[Linear], channels: Array
                ) -> tuple[Norm, list[Linear]]:
    """A norm whose gains are powers of two, and the layers that read its ``channels``."""
    gain = np.float64(norm.gain)
    if norm.affine or not gain.all():
        return norm, list(linears)
    powers = _powers(_columns(linears) * np.abs(gain), channels / np.abs(gain))
    rest = (gain / powers).astype(np.float32)
    shift = None if norm.shift is None else norm.shift / rest
    return (replace(norm, gain=powers, shift=shift),
            [Linear(own.weight * rest, own.bias) for own in linears])


def _rows(linear: Linear, factors: Array) -> Linear:
    """Results × ``factors``."""
    return Linear(linear.weight * factors[:, None],
                  None if linear.bias is None else linear.bias * factors)


def _feed_forward(ffn: FeedForward, sizes: _Sizes) -> FeedForward:
    if ffn.gate is None and ffn.activation != "relu":
        return ffn  # f(s · x) is not s · f(x)
    powers = _powers(_columns([ffn.down]), sizes.of(ffn.down))
    return replace(ffn, up=_rows(ffn.up, powers),
                   down=Linear(ffn.down.weight / powers, ffn.down.bias))


def _attention(own: Attention, sizes: _Sizes) -> Attention:
    """Heads that share values read the same channels."""
    shape = own.kv_heads, own.heads // own.kv_heads, own.head_size
    columns = _columns([own.output]).reshape(shape).max(axis=1)
    powers = _powers(columns.ravel(), sizes.of(own.query, "values"))
    every = np.broadcast_to(powers.reshape(shape[0], 1, shape[2]), shape).ravel()
    return replace(own, value=_rows(own.value, powers),
                   output=Linear(own.output.weight / every, own.output.bias))
