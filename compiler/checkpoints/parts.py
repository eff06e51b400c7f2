"""Parts of a transformer out of a checkpoint, by a family's names and a plan: ``Parts``."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compiler.checkpoints.arrange import bucket, copied, halved, sinusoids, times
from compiler.checkpoints.checkpoint import Checkpoint, CheckpointError, LazyBlocks, Take
from compiler.checkpoints.description import (
    Attention,
    Block,
    Convolution,
    FeedForward,
    Linear,
    Norm,
    Patches,
    PositionBias,
    Tokens,
)
from compiler.checkpoints.family import ATTENTION, Head, Names, Packed, Plan, Vision

__all__ = ["Parts"]


class Parts:
    """Each part is taken by ``take(name, shape)``: ``Checkpoint.check``, which reads nothing, or
    ``Checkpoint.read``. ``prefix`` stands before all names."""

    def __init__(self, plan: Plan, names: Names, checkpoint: Checkpoint, prefix: str) -> None:
        self.plan, self.names, self.checkpoint, self.prefix = plan, names, checkpoint, prefix
        self.encoder: Parts | None = None
        query, keys = plan.heads * plan.size, plan.shared_heads * plan.size
        self._bias: PositionBias | None = None
        self.rows = {"query": query, "key": keys, "value": keys, "output": plan.width,
                     "gate": plan.hidden, "up": plan.hidden, "down": plan.width}
        self.columns = {part: plan.width for part in self.rows} | {
            "output": query, "down": plan.hidden}
        for part in ATTENTION:
            self.rows[f"across_{part}"] = self.rows[part]
            self.columns[f"across_{part}"] = self.columns[part]

    # Of a layer

    def linear(self, take: Take, part: str, label: str) -> Linear:
        """A linear layer of the layer ``label``, by its part."""
        name, biased = self.names[part], part in self.plan.biased
        if isinstance(name, Packed):
            return self._unpacked(take, name, part, label, biased)
        name, outputs = self.prefix + name.format(label), self.rows[part]
        return Linear(self._matrix(take, name, outputs, self.columns[part]),
                      take(f"{name}.bias", (outputs,)) if biased else None)

    def dense(self, take: Take, name: str, outputs: int, inputs: int, bias: bool = True) -> Linear:
        """A linear layer by its whole name, stored as outputs × inputs."""
        return Linear(take(f"{name}.weight", (outputs, inputs)),
                      take(f"{name}.bias", (outputs,)) if bias else None)

    def _matrix(self, take: Take, name: str, outputs: int, inputs: int) -> np.ndarray:
        if self.plan.transposed:
            return copied(take(f"{name}.weight", (inputs, outputs)).T, (outputs, inputs))
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
                return copied(split[:, at], (sizes[at], *whole.shape[1:]))
            return copied(whole[sum(sizes[:at]):sum(sizes[:at + 1])], (sizes[at], *whole.shape[1:]))

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
        if kind == "layer + 1":
            gain = gain + np.float32(1)
        return Norm(gain, shift, self.plan.eps, affine=kind == "affine")

    def projections(self, take: Take, label: str, start: str = ""
                    ) -> tuple[Linear, Linear, Linear, Linear]:
        """Query, key, value and output; a key without the bias that queries have gets zeros."""
        query, key, value, output = (self.linear(take, f"{start}{part}", label)
                                     for part in ("query", "key", "value", "output"))
        if query.bias is not None and key.bias is None:
            key = replace(key, bias=np.zeros(len(key.weight), np.float32))
        return query, key, value, output

    def across(self, take: Take, label: str) -> Attention | None:
        """Attention on an encoder's results."""
        if "across_query" not in self.names:
            return None
        return Attention(*self.projections(take, label, "across_"), self.plan.heads,
                         self.plan.shared_heads, scale=self.plan.scale)

    def attention(self, take: Take, label: str, index: int) -> Attention:
        plan = self.plan
        query, key, value, output = self.projections(take, label)
        query_norm, key_norm = (self._head_norm(take, f"{part}_norm", label)
                                for part in ("query", "key"))
        rotary = plan.rotary[index] if plan.rotary else None
        window = plan.windows[index] if plan.windows else None
        return halved(Attention(
            query, key, value, times(output, plan.residual_factor), plan.heads, plan.shared_heads,
            rotary, plan.causal, window, plan.scale, plan.cap, query_norm, key_norm,
            self.position_bias(take)), plan.rotated)

    def _head_norm(self, take: Take, part: str, label: str) -> Norm | None:
        """The norm of each query or key, or of those of all heads, by the shape of its gain."""
        name = self.names.get(part)
        if not isinstance(name, str):
            return None
        whole = self.rows[part.removesuffix("_norm")]
        found = self.checkpoint.store.shapes.get(f"{self.prefix}{name.format(label)}.weight")
        return self.norm(take, part, label, whole if found == (whole,) else self.plan.size)

    def position_bias(self, take: Take) -> PositionBias | None:
        """The biases of scores, the same in all layers: one object."""
        if self.plan.buckets is None:
            return None
        if self._bias is not None:
            return self._bias
        buckets, furthest = self.plan.buckets
        table = take(f"{self.prefix}{self.names['position_bias']}.weight",
                     (buckets, self.plan.heads))
        distance = np.arange(-furthest, furthest + 1)
        own = bucket(distance, buckets, furthest, both=not self.plan.causal)
        found = PositionBias(np.ascontiguousarray(table[own].T))
        if any(table.strides):  # read, not checked alone
            self._bias = found
        return found

    def feed_forward(self, take: Take, label: str) -> FeedForward:
        gate = self.linear(take, "gate", label) if "gate" in self.names else None
        return FeedForward(self.linear(take, "up", label),
                           times(self.linear(take, "down", label), self.plan.residual_factor),
                           self.plan.activation, gate)

    def block(self, take: Take, index: int) -> Block:
        label, once = self.plan.layer_labels[index], _once(take)
        norm = self.norm(once, "attention_norm", label)
        second = self.norm(once, "feed_forward_norm", label)
        if self.plan.parallel and "feed_forward_norm" not in self.names:
            second = norm
        return Block(self.attention(once, label, index), norm, self.feed_forward(once, label),
                     second, self.plan.pre_norm, self.norm(once, "attention_after", label),
                     self.norm(once, "feed_forward_after", label), self.plan.parallel,
                     across=self.across(once, label),
                     across_norm=self.norm(once, "across_norm", label))

    def blocks(self) -> Sequence[Block]:
        """Every layer, read when it is asked for; those of one label are one."""
        labels = self.plan.layer_labels
        for index in range(len(labels)):
            self.block(self.checkpoint.check, index)
        first = [labels.index(label) for label in labels]
        return LazyBlocks(len(labels), lambda index: self.block(self.checkpoint.read, index), first)

    # Of the ends

    def head_norm(self, take: Take, name: str, width: int) -> Norm:
        """The norm between the two linear layers of a head."""
        return self.norm_named(take, name, width)

    def last_weight(self, take: Take, head: Head, table: np.ndarray, shape: tuple[int, int]
                    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """The matrix of a head's last linear layer, and notes on it: the embedding's ``table``
        (empty while shapes are checked) where the two are one, unless the file holds another."""
        name = f"{head.last}.weight"
        if not (head.tied and self.plan.tied):
            return take(name, shape), ()
        if name not in self.checkpoint:
            return (table if table.size else np.broadcast_to(np.float32(0), shape)), ()
        own = take(name, shape)
        if not table.size or np.array_equal(own, table):
            return (table if table.size else own), ()
        return own, (f"{name} in the file is not the embedding's table, though the settings tie "
                     "the two: the file's is used",)

    def tokens(self, take: Take) -> Tokens:
        plan = self.plan
        width = plan.table_width or plan.width
        added = plan.width if "row_projection" in self.names else width

        def table(part: str, rows: int, columns: int = added) -> np.ndarray | None:
            if not rows:
                return None
            return take(f"{self.prefix}{self.names[part]}.weight", (rows, columns))

        words = table("table", plan.vocabulary, width)
        assert words is not None, "settings hold counts of at least 1"
        positions = (sinusoids(plan.positions, plan.width) if plan.sinusoids
                     else table("positions", plan.positions))
        if positions is not None and plan.offset >= plan.positions:
            raise CheckpointError(f"{self.checkpoint.store.path}: positions must be more than the "
                                  f"{plan.offset} that pad, not {plan.positions}")
        segments = table("segments", plan.segments)
        projection = None
        rows = None
        if "row_projection" in self.names and width != plan.width:
            rows = self.dense(take, f"{self.prefix}{self.names['row_projection']}", plan.width,
                              width, bias=False)
        name = f"{self.prefix}{self.names.get('norm_projection')}"
        if "norm_projection" in self.names and (
                width != plan.width or f"{name}.weight" in self.checkpoint):
            projection = self.dense(take, name, plan.width, width)
        return Tokens(words, None if positions is None else positions[plan.offset:],
                      None if segments is None else segments[0],
                      self.norm(take, "embedding_norm", width=width), segments, plan.factor,
                      row_projection=rows, norm_projection=projection)

    def patches(self, take: Take, vision: Vision) -> Patches:
        """With the projection's bias among the positions, and tokens of the model's own there."""
        plan, lead = self.plan, len(vision.tokens)
        name = f"{self.prefix}{self.names['patches']}"
        side = vision.patch
        projection = take(f"{name}.weight", (plan.width, vision.channels, side, side))
        bias = take(f"{name}.bias", (plan.width,)) if vision.bias else np.float32(0)
        rows = (vision.image // side) ** 2 + lead
        tokens = [take(f"{self.prefix}{token}", (*vision.shape, plan.width)).reshape(1, -1)
                  for token in vision.tokens]
        shape = (*vision.shape[1:], rows, plan.width)
        positions = take(f"{self.prefix}{vision.positions}", shape).reshape(rows, -1)
        positions = positions + np.concatenate(
            [*tokens, np.broadcast_to(bias, (rows - lead, plan.width))])
        weight = copied(projection, (plan.width, vision.channels * side * side))
        return Patches(Linear(weight), positions, self.norm(take, "embedding_norm"), lead, side)

    def ends(self, take: Take) -> tuple[Tokens | Patches, Norm | None]:
        """The embedding and the norm after the last layer."""
        vision = self.plan.vision
        embedding: Tokens | Patches
        if vision is not None:
            embedding = self.patches(take, vision)
        else:
            embedding = self.frames(take) if self.plan.bands else self.tokens(take)
        return embedding, self.norm(take, "final_norm")

    def frames(self, take: Take) -> Patches:
        """Frames of sound, through two convolutions over three of them."""
        plan, linears = self.plan, []
        for part, inputs in (("first", plan.bands), ("second", plan.width)):
            name = f"{self.prefix}{self.names[part]}"
            weight = take(f"{name}.weight", (plan.width, inputs, 3)).transpose(0, 2, 1)
            linears.append(Linear(copied(weight, (plan.width, 3 * inputs)),
                                  take(f"{name}.bias", (plan.width,))))
        positions = take(f"{self.prefix}{self.names['positions']}.weight",
                         (plan.positions, plan.width))
        return Patches(linears[0], positions,
                       convolution=Convolution(linears[1], plan.activation))


def _once(take: Take) -> Take:
    """``take`` that reads each tensor once: several parts may lie in one."""
    found: dict[str, np.ndarray] = {}

    def taken(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name not in found:
            found[name] = take(name, shape)
        return found[name]

    return taken
