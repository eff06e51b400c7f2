"""Codes of every result of a transformer, from its description, without a program.

The same fusion levels as the lowering's, written as what each value is: a tensor is ``stored``
(rounded to the format), ``wide`` (rounded to BF16) or a value of the lanes that is not rounded.
"""

from collections.abc import Sequence

import numpy as np

from compiler.checkpoints.description import Attention, Block, FeedForward, Patches, Transformer
from compiler.checkpoints.inputs import Inputs, Step
from compiler.lowering.fusion import Fusion
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING, BFLOAT16
from sim.model import codec
from sim.model.rounding import largest
from sim.verify.arithmetic import Arithmetic, Array

__all__ = ["expected"]

_L2_EPSILON = 1e-24


def expected(config: AcceleratorConfig, model: Transformer, inputs: Inputs, steps: Sequence[Step],
             *, level: Fusion = Fusion.RESIDUAL, layers: range) -> dict[str, Array]:
    """Codes of every tensor that ``compiler.lowering.lower.lower`` may name as a result, of the
    ``steps`` and ``layers`` given, and of all between."""
    run = _Forward(config, model, inputs, level, layers)
    for step in steps:
        run.step(step)
    return run.found


class _Forward:
    """One pass after the other; ``found`` collects the codes by name."""

    def __init__(self, config: AcceleratorConfig, model: Transformer, inputs: Inputs,
                 level: Fusion, layers: range) -> None:
        self.math = Arithmetic(config)
        self.model, self.inputs, self.layers = model, inputs, layers
        self.found: dict[str, Array] = {}
        self.past: dict[tuple[int, str], list[Array]] = {}
        self.eight = {kind: not level.fuses(kind) for kind in Fusion}
        self.label = ""
        self.now: Step

    # What a tensor holds

    def keep(self, name: str, values: Array, rounded: bool) -> Array:
        """``values`` as tensor ``name`` holds them: of the format, or BF16."""
        encoding = self.math.encoding if rounded else BF16_ENCODING
        codes = codec.encode(encoding, values)
        self.found[self.label + name] = codes
        return codec.decode(encoding, codes)

    def keep_both(self, name: str, values: Array) -> Array:
        """BF16, and the format's rounding of that, under names that say so; gives BF16."""
        wide = self.keep(f"{name} bf16", values, False)
        if self.math.encoding != BF16_ENCODING:
            self.keep(f"{name} {self.math.encoding.name}", wide, True)
        return wide

    def rounded_if(self, kind: Fusion, values: Array, name: str) -> Array:
        """The input of an operation of ``kind``, tensor ``name`` where it is rounded."""
        return self.keep(name, values, True) if self.eight[kind] else values

    def as_read(self, kind: Fusion, wide: Array) -> Array:
        """A stream as an operation of ``kind`` reads it."""
        return self.math.stored(wide) if self.eight[kind] else wide

    # The model

    def step(self, step: Step) -> None:
        self.label, self.now = step.label, step
        x = self.embedding(step)
        for index in self.layers:
            x = self.layer(self.model.blocks[index], x, index)
        if self.layers.stop == len(self.model.blocks):
            self.final(x)

    def embedding(self, step: Step) -> Array:
        math, embedding = self.math, self.model.embedding
        values = self.inputs.values[:, step.past:step.total]
        if self.inputs.kind == "states":
            return math.wide(values.reshape(step.rows, -1))
        places = np.tile(np.arange(step.past, step.total), step.sequences)
        if isinstance(embedding, Patches):
            patches = math.stored(values.reshape(step.rows, -1))
            x = math.add(math.linear(patches, embedding.projection),
                         math.weight(embedding.positions)[places])
            return self.keep_both("embedding", x)
        x = math.stored(embedding.table[values.ravel()])
        if embedding.positions is not None:
            x = math.add(x, math.weight(embedding.positions)[places])
        if embedding.segment is not None:
            x = math.add(x, math.weight(embedding.segment)[None])
        if embedding.norm is not None:
            x = self.keep("embedding sum", x, self.eight[Fusion.NORM])
            x = math.norm(x, embedding.norm)
        return self.keep_both("embedding", x)

    def layer(self, block: Block, x: Array, index: int) -> Array:
        name = f"layer {index}"
        middle = self.half(block, block.attention_norm, x, f"{name} attention",
                           lambda given: self.attention(block.attention, given, index),
                           block.attention.output, None)
        return self.half(block, block.feed_forward_norm, middle, f"{name} feed-forward",
                         lambda given: self.hidden(block.feed_forward, given, f"{name} "),
                         block.feed_forward.down, name)

    def half(self, block: Block, norm, x: Array, name: str, inner, linear, result) -> Array:
        """Attention or feed-forward with its norm and its residual addition."""
        math = self.math
        given = math.stored(x)
        if block.pre_norm:
            given = self.keep(f"{name} norm", math.norm(self.as_read(Fusion.NORM, x), norm), True)
        part = math.linear(inner(given), linear)
        part = self.rounded_if(Fusion.RESIDUAL, part, f"{name} output")
        total = math.add(part, self.as_read(Fusion.RESIDUAL, x))
        if block.pre_norm:
            return self.keep_both(result or f"{name} sum", total)
        total = self.as_read(Fusion.NORM, self.keep_both(f"{name} sum", total))
        return self.keep_both(result or f"{name} norm", math.norm(total, norm))

    def hidden(self, ffn: FeedForward, x: Array, label: str) -> Array:
        math = self.math
        up = math.linear(x, ffn.up)
        if ffn.gate is None:
            argument = self.rounded_if(Fusion.ACTIVATION, up, f"{label}up")
            return self.keep(f"{label}hidden", math.activation(ffn.activation, argument), True)
        up = self.keep(f"{label}up", up, False)
        gate = self.rounded_if(Fusion.ACTIVATION, math.linear(x, ffn.gate), f"{label}gate")
        gated = math.multiply(math.activation(ffn.activation, gate), up)
        return self.keep(f"{label}hidden", gated, True)

    # Attention

    def attention(self, attention: Attention, x: Array, index: int) -> Array:
        math, step, name = self.math, self.now, f"layer {index} "
        q, k, v = (math.linear(x, linear)
                   for linear in (attention.query, attention.key, attention.value))
        if attention.rotary is not None:
            q, k = (self.rotate(attention, part, f"{name}{kind}")
                    for part, kind in ((q, "query"), (k, "key")))
        q = self.keep(f"{name}query", q, True)
        k, v = math.stored(k), math.stored(v)
        self.keep(f"{name}projections", np.concatenate([q, k, v], axis=1), True)
        k, v = (self.remember(index, kind, part) for kind, part in (("keys", k), ("values", v)))
        size, shared = attention.head_size, attention.heads // attention.kv_heads
        heads = np.zeros((step.rows, attention.heads * size))
        tables: dict[str, list[Array]] = {}
        for sequence in range(step.sequences):
            rows = slice(sequence * step.length, (sequence + 1) * step.length)
            hidden = self.unseen(attention, sequence)
            for head in range(attention.heads):
                own = slice(head * size, (head + 1) * size)
                read = slice(head // shared * size, (head // shared + 1) * size)
                p = self.probabilities(q[rows, own], k[sequence][:, read], hidden, tables)
                heads[rows, own] = math.stored(math.product(p, v[sequence][:, read]))
        for kind, parts in tables.items():
            self.keep(name + kind, np.concatenate(parts), True)
        return self.keep(f"{name}heads", heads, True)

    def remember(self, index: int, kind: str, new: Array) -> Array:
        """All positions' keys or values so far, sequences × positions × items."""
        new = new.reshape(self.now.sequences, self.now.length, -1)
        parts = self.past.setdefault((index, kind), [])
        parts.append(new)
        every = np.concatenate(parts, axis=1)
        self.found[f"layer {index} {kind}"] = codec.encode(
            self.math.encoding, every.reshape(-1, every.shape[2]))
        return every

    def unseen(self, attention: Attention, sequence: int) -> Array:
        """True where a query of ``sequence`` may not see a key."""
        step = self.now
        hidden = np.zeros((step.length, step.total), bool)
        if attention.causal:
            for row in range(step.length):
                hidden[row, step.past + row + 1:] = True
        if step.valid is not None:
            hidden[:, ~step.valid[sequence][:step.total]] = True
        return hidden

    def probabilities(self, q: Array, k: Array, hidden: Array, tables: dict[str, list[Array]]
                      ) -> Array:
        math = self.math

        def rounded_if(kind: Fusion, values: Array, name: str) -> Array:
            if not self.eight[kind]:
                return values
            tables.setdefault(name, []).append(math.stored(values))
            return tables[name][-1]

        size = q.shape[1]
        scores = rounded_if(Fusion.SCALING, math.product(q, k.T), "unscaled scores")
        scores = math.multiply(scores, math.wide(size ** -0.5))
        if hidden.any():
            scores = math.add(scores, np.where(hidden, -largest(BFLOAT16), 0.0))
        scores = rounded_if(Fusion.ACTIVATION, scores, "scores")
        tables.setdefault("probabilities", []).append(math.stored(math.softmax(scores)))
        return tables["probabilities"][-1]

    def rotate(self, attention: Attention, x: Array, name: str) -> Array:
        """Each pair (a, b) becomes (a c − b s, b c + a s); first items of the pairs come first."""
        math, step, size = self.math, self.now, attention.head_size
        assert attention.rotary is not None
        heads = self.keep(f"{name} unrotated", self.sorted(attention, x), False)
        heads = heads.reshape(step.rows, -1, 2, size // 2)
        pair = np.arange(size // 2)
        position = np.tile(np.arange(step.past, step.total, dtype=np.float64), step.sequences)
        angle = position[:, None] * attention.rotary.base ** (-2.0 * pair / size)
        c, s = math.wide(np.cos(angle))[:, None], math.wide(np.sin(angle))[:, None]
        a, b = heads[:, :, 0], heads[:, :, 1]
        from_a, from_b = math.wide(math.multiply(a, s)), math.wide(math.multiply(b, -s))
        self.keep(f"{name} crossed",
                  np.stack([from_a, from_b], axis=2).reshape(step.rows, -1), False)
        rotated = np.stack([math.add(math.multiply(a, c), from_b),
                           math.add(math.multiply(b, c), from_a)], axis=2)
        return rotated.reshape(step.rows, -1)

    @staticmethod
    def sorted(attention: Attention, x: Array) -> Array:
        """First items of each head's pairs, then the second ones."""
        if attention.rotary is None or not attention.rotary.interleaved:
            return x
        pairs = x.reshape(len(x), -1, attention.head_size // 2, 2)
        return pairs.swapaxes(2, 3).reshape(x.shape)

    # After the last layer

    def final(self, x: Array) -> None:
        math, model, step = self.math, self.model, self.now
        x = x.reshape(step.sequences, step.length, -1)
        if model.pooling == "first":
            x = x[:, :1]
        elif model.pooling == "none" and model.blocks[-1].attention.causal:
            x = x[:, -1:]
        count = x.shape[1]
        x = x.reshape(-1, x.shape[2])
        if model.final_norm is not None:
            x = math.norm(self.as_read(Fusion.NORM, x), model.final_norm)
            x = self.keep_both("final norm", x)
        if model.pooling.startswith("mean"):
            x = np.stack([self.mean(part, sequence)
                          for sequence, part in enumerate(x.reshape(-1, count, x.shape[1]))])
            x = self.keep_both("pooled", x)
        if model.head is not None:
            self.keep("head bf16", math.linear(math.stored(x), model.head), False)

    def mean(self, x: Array, sequence: int) -> Array:
        """Over the valid positions; ``x``: positions × items."""
        math = self.math
        valid = self.now.valid
        seen = np.ones(len(x), bool) if valid is None else valid[sequence]
        transposed = x.T
        counted = transposed if seen.all() else math.multiply(transposed, seen.astype(float)[None])
        nothing = math.multiply(transposed[:, :1], np.zeros((1, 1)))
        mean = math.wide(math.add(nothing, math.mean(counted, int(seen.sum())))).T
        if self.model.pooling == "mean_l2":
            mean = math.multiply(mean, math.inverse_length(mean, 1.0, _L2_EPSILON))
        return mean[0]
