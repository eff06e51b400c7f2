"""Parts of a transformer out of a checkpoint, by a family's names and a plan: ``Parts``."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compiler.checkpoints.checkpoint import Checkpoint, CheckpointError, LazyBlocks, Take
from compiler.checkpoints.description import (
    Attention,
    Block,
    FeedForward,
    Linear,
    Norm,
    Patches,
    Rotary,
    Tokens,
)
from compiler.checkpoints.family import Names, Packed, Plan

__all__ = ["Parts"]


class Parts:
    """Each part is taken by ``take(name, shape)``: ``Checkpoint.check``, which reads nothing, or
    ``Checkpoint.read``. ``prefix`` stands before all names."""

    def __init__(self, plan: Plan, names: Names, checkpoint: Checkpoint, prefix: str) -> None:
        self.plan, self.names, self.checkpoint, self.prefix = plan, names, checkpoint, prefix
        query, keys = plan.heads * plan.size, plan.shared_heads * plan.size
        self.rows = {"query": query, "key": keys, "value": keys, "output": plan.width,
                     "gate": plan.hidden, "up": plan.hidden, "down": plan.width}
        self.columns = {part: plan.width for part in self.rows} | {
            "output": query, "down": plan.hidden}

    # Of a layer

    def linear(self, take: Take, part: str, label: str) -> Linear:
        """A linear layer of the layer ``label``, by its part."""
        name, biased = self.names[part], part in self.plan.biased
        if isinstance(name, Packed):
            return self._unpacked(take, name, part, label, biased)
        return self.dense(take, self.prefix + name.format(label), self.rows[part],
                          self.columns[part], biased)

    def dense(self, take: Take, name: str, outputs: int, inputs: int, bias: bool = True) -> Linear:
        """A linear layer by its whole name."""
        return Linear(self._matrix(take, name, outputs, inputs),
                      take(f"{name}.bias", (outputs,)) if bias else None)

    def _matrix(self, take: Take, name: str, outputs: int, inputs: int) -> np.ndarray:
        if self.plan.transposed:
            return _copy(take(f"{name}.weight", (inputs, outputs)).T, (outputs, inputs))
        return take(f"{name}.weight", (outputs, inputs))

    def _unpacked(self, take: Take, packed: Packed, part: str, label: str, biased: bool) -> Linear:
        """The rows of ``part`` in a tensor of several."""
        name = self.prefix + packed.name.format(label)
        sizes = [self.rows[other] for other in packed.parts]
        weight = self._matrix(take, name, sum(sizes), self.columns[part])
        bias = take(f"{name}.bias", (sum(sizes),)) if biased else None
        at = packed.parts.index(part)

        def rows(whole: np.ndarray) -> np.ndarray:
            if packed.by_head:
                split = whole.reshape(self.plan.heads, len(sizes), -1, *whole.shape[1:])
                return _copy(split[:, at], (sizes[at], *whole.shape[1:]))
            return _copy(whole[sum(sizes[:at]):sum(sizes[:at + 1])], (sizes[at], *whole.shape[1:]))

        return Linear(rows(weight), None if bias is None else rows(bias))

    def norm(self, take: Take, part: str, label: str = "", width: int = 0) -> Norm | None:
        """A norm by its part; ``None`` where the family or this layer has none."""
        name = self.names.get(part)
        if not isinstance(name, str) or name.format(label) in self.plan.absent:
            return None
        return self.norm_named(take, self.prefix + name.format(label), width or self.plan.width)

    def norm_named(self, take: Take, name: str, width: int) -> Norm:
        kind = self.plan.norm
        old = f"{name}.gamma" in self.checkpoint
        gain = take(f"{name}.{'gamma' if old else 'weight'}", (width,))
        if kind == "rms + 1":
            return Norm(gain + np.float32(1), None, self.plan.eps)
        if kind == "rms":
            return Norm(gain, None, self.plan.eps)
        shift = (np.zeros(width, np.float32) if kind == "layer without shift"
                 else take(f"{name}.{'beta' if old else 'bias'}", (width,)))
        return Norm(gain, shift, self.plan.eps, affine=kind == "affine")

    def attention(self, take: Take, label: str, index: int) -> Attention:
        plan = self.plan
        query, key, value, output = (self.linear(take, part, label)
                                     for part in ("query", "key", "value", "output"))
        query_norm, key_norm = (self._head_norm(take, f"{part}_norm", label)
                                for part in ("query", "key"))
        rotary = plan.rotary[index] if plan.rotary else None
        window = plan.windows[index] if plan.windows else None
        return _halved(Attention(
            query, key, value, _times(output, plan.residual_factor), plan.heads, plan.shared_heads,
            rotary, plan.causal, window, plan.scale, plan.cap, query_norm, key_norm), plan.rotated)

    def _head_norm(self, take: Take, part: str, label: str) -> Norm | None:
        """The norm of each query or key, or of those of all heads, by the shape of its gain."""
        name = self.names.get(part)
        if not isinstance(name, str):
            return None
        whole = self.rows[part.removesuffix("_norm")]
        found = self.checkpoint.store.shapes.get(f"{self.prefix}{name.format(label)}.weight")
        return self.norm(take, part, label, whole if found == (whole,) else self.plan.size)

    def feed_forward(self, take: Take, label: str) -> FeedForward:
        gate = self.linear(take, "gate", label) if "gate" in self.names else None
        return FeedForward(self.linear(take, "up", label),
                           _times(self.linear(take, "down", label), self.plan.residual_factor),
                           self.plan.activation, gate)

    def block(self, take: Take, index: int) -> Block:
        label, once = self.plan.layer_labels[index], _once(take)
        norm = self.norm(once, "attention_norm", label)
        second = self.norm(once, "feed_forward_norm", label)
        if self.plan.parallel and "feed_forward_norm" not in self.names:
            second = norm
        return Block(self.attention(once, label, index), norm, self.feed_forward(once, label),
                     second, self.plan.pre_norm, self.norm(once, "attention_after", label),
                     self.norm(once, "feed_forward_after", label), self.plan.parallel)

    def blocks(self) -> Sequence[Block]:
        """Every layer, read when it is asked for; those of one label are one."""
        labels = self.plan.layer_labels
        for index in range(len(labels)):
            self.block(self.checkpoint.check, index)
        first = [labels.index(label) for label in labels]
        return LazyBlocks(len(labels), lambda index: self.block(self.checkpoint.read, index), first)

    # Of the ends

    def tokens(self, take: Take) -> Tokens:
        plan = self.plan
        width = plan.table_width or plan.width

        def table(part: str, rows: int, columns: int = width) -> np.ndarray | None:
            if not rows:
                return None
            return take(f"{self.prefix}{self.names[part]}.weight", (rows, columns))

        words = table("table", plan.vocabulary)
        assert words is not None, "settings hold counts of at least 1"
        positions = table("positions", plan.positions)
        if positions is not None and plan.offset >= plan.positions:
            raise CheckpointError(f"{self.checkpoint.store.path}: positions must be more than the "
                                  f"{plan.offset} that pad, not {plan.positions}")
        segments = table("segments", plan.segments)
        projection = None
        if "norm_projection" in self.names and width != plan.width:
            projection = self.dense(take, f"{self.prefix}{self.names['norm_projection']}",
                                    plan.width, width)
        return Tokens(words, None if positions is None else positions[plan.offset:],
                      None if segments is None else segments[0],
                      self.norm(take, "embedding_norm", width=width), segments, plan.factor,
                      norm_projection=projection)

    def ends(self, take: Take) -> tuple[Tokens | Patches, Norm | None]:
        """The embedding and the norm after the last layer."""
        return self.tokens(take), self.norm(take, "final_norm")


def _once(take: Take) -> Take:
    """``take`` that reads each tensor once: several parts may lie in one."""
    found: dict[str, np.ndarray] = {}

    def taken(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in found:
            found[name] = take(name, shape)
        return found[name]

    return taken


def _copy(view: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """``view`` as an array of its own; zeros that take no memory stay so."""
    if not any(view.strides):
        return np.broadcast_to(np.float32(0), shape)
    return np.ascontiguousarray(view).reshape(shape)


def _times(linear: Linear, factor: float) -> Linear:
    if factor == 1:
        return linear
    bias = None if linear.bias is None else linear.bias * np.float32(factor)
    return Linear(linear.weight * np.float32(factor), bias)


def _halved(attention: Attention, rotated: int) -> Attention:
    """With what is rotated of each head in both its halves, the rest beside it as pairs of rate 0;
    scores are sums over the same items in another order."""
    rotary, size = attention.rotary, attention.head_size
    if not rotated or rotated == size:
        return attention
    order = _order(size, rotated, rotary is not None and rotary.interleaved)

    def rows(values: np.ndarray) -> np.ndarray:
        if not any(values.strides):
            return values
        return values.reshape(-1, size, *values.shape[1:])[:, order].reshape(values.shape)

    def linear(own: Linear) -> Linear:
        return Linear(rows(own.weight), None if own.bias is None else rows(own.bias))

    def norm(own: Norm | None) -> Norm | None:
        return own and replace(own, gain=rows(own.gain),
                               shift=None if own.shift is None else rows(own.shift))

    if rotary is not None:
        rates = (*rotary.of_pairs(rotated).tolist(), *[0.0] * ((size - rotated) // 2))
        rotary = Rotary(rotary.base, False, rates, rotary.factor)
    return replace(attention, query=linear(attention.query), key=linear(attention.key),
                   rotary=rotary, query_norm=norm(attention.query_norm),
                   key_norm=norm(attention.key_norm))


def _order(size: int, rotated: int, interleaved: bool) -> np.ndarray:
    items, half = np.arange(size), rotated // 2
    first, second = ((items[:rotated:2], items[1:rotated:2]) if interleaved
                     else (items[:half], items[half:rotated]))
    rest = items[rotated:]
    middle = len(rest) // 2
    return np.concatenate([first, rest[:middle], second, rest[middle:]])
