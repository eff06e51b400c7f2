"""Codes of every result of a transformer, from its description, without a program.

The same fusion levels as the lowering's, written as what each value is: a tensor is ``stored``
(rounded to the format), ``wide`` (rounded to BF16) or a value of the lanes that is not rounded.
"""

from collections.abc import Callable, Sequence

import numpy as np

from compiler.checkpoints.description import (
    Block,
    Bottleneck,
    Convolution,
    FeedForward,
    Linear,
    Norm,
    Patches,
    Tokens,
    Transform,
    Transformer,
)
from compiler.checkpoints.inputs import Inputs, Step
from compiler.checkpoints.scales import Scales, modules
from compiler.lowering.fusion import Fusion
from compiler.lowering.place import Tell, part_of, silent
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING
from sim.model import codec
from sim.verify.arithmetic import KEPT, Arithmetic, Array
from sim.verify.attention import AttentionCodes
from sim.verify.by_row import ByRow
from sim.verify.fixed import Fixed
from sim.verify.static import Static
from sim.verify.tensors import Tensors

__all__ = ["arithmetic", "expected", "outputs"]

_L2_EPSILON = 1e-24


def expected(config: AcceleratorConfig, model: Transformer, inputs: Inputs, steps: Sequence[Step],
             *, level: Fusion = Fusion.RESIDUAL, layers: range, kept: int = KEPT,
             scales: str | Scales = "unit", tell: Tell = silent) -> dict[str, Array]:
    """Codes of every tensor that ``compiler.lowering.lower.lower`` may name as a result, of the
    ``steps`` and ``layers`` given, and of all between. ``kept``: as for ``Arithmetic``; ``tell``
    hears after each layer how far it is."""
    math = arithmetic(config, model, layers, kept, scales)
    run = _Forward(math, model, inputs, level, layers)
    rows, every = 0, sum(step.rows for step in steps)
    for step in steps:
        run.step(step, part_of(tell, rows / every, (rows + step.rows) / every))
        rows += step.rows
    return run.found


def arithmetic(config: AcceleratorConfig, model: Transformer, layers: range, kept: int = KEPT,
               scales: str | Scales = "unit") -> Arithmetic:
    """That of operands with such ``scales``, for those ``layers`` of the model."""
    if isinstance(scales, Scales):
        places = modules(model, {index: model.blocks[index] for index in layers})
        return (Fixed if config.fixed else Static)(config, scales, places, kept)
    return ByRow(config, kept) if scales == "row" else Arithmetic(config, kept)


def outputs(math: Arithmetic, model: Transformer, inputs: Inputs, *,
            level: Fusion = Fusion.RESIDUAL, every: bool = False) -> Array:
    """What the model gives, values of a BF16 tensor: of the head, else of the pooling, else of the
    last norm or layer. A row a sequence of a causal model, or with ``every`` a row a position.
    ``math`` keeps its weights from one call to the next."""
    layers = range(len(model.blocks))
    run = _Forward(math, model, inputs, level, layers)
    rate = model.embedding.rate if inputs.kind == "patches" else 1
    run.step(Step("", inputs.sequences, inputs.length // rate, 0, inputs.valid, every=every))
    names = ("head", "pooled", "final norm", f"layer {layers.stop - 1}")
    found = next(run.found[f"{name} bf16"] for name in names if f"{name} bf16" in run.found)
    return codec.decode(BF16_ENCODING, found)


class _Forward(Tensors):
    """One pass after the other."""

    def __init__(self, math: Arithmetic, model: Transformer, inputs: Inputs, level: Fusion,
                 layers: range) -> None:
        super().__init__(math, level)
        self.model, self.inputs, self.layers = model, inputs, layers
        self.attention = AttentionCodes(self)
        self.encoded: Array | None = None
        if model.encoder is not None and inputs.source is not None:
            self.encoded = self.encode(model.encoder, inputs.source, level)

    def encode(self, encoder: Transformer, source: Inputs, level: Fusion) -> Array:
        """What the encoder gives, of the format."""
        run = _Forward(self.math, encoder, source, level, range(len(encoder.blocks)))
        run.label = "encoder "
        run.now = Step(run.label, source.sequences, source.length // encoder.embedding.rate, 0,
                       source.valid)
        x = run.embedding(run.now)
        for index in run.layers:
            x = run.layer(encoder.blocks[index], x, index)
        if encoder.final_norm is not None:
            x = run.math.norm(run.as_read(Fusion.NORM, x), encoder.final_norm)
            x = run.keep_both("final norm", x)
        self.found |= run.found
        self.attention.source = run.now
        return self.math.stored(x)

    # The model

    def step(self, step: Step, tell: Tell = silent) -> None:
        self.label, self.now = step.label, step
        x = self.embedding(step)
        for index in self.layers:
            x = self.layer(self.model.blocks[index], x, index)
            tell((index + 1 - self.layers.start) / len(self.layers), f"layer {index}")
        if self.layers.stop == len(self.model.blocks):
            self.final(x)

    def embedding(self, step: Step) -> Array:
        math, embedding = self.math, self.model.embedding
        rate = embedding.rate
        values = self.inputs.values[:, rate * step.past:rate * step.total]
        if self.inputs.kind == "states":
            return math.wide(values.reshape(step.rows, -1))
        places = np.tile(np.arange(step.past, step.total), step.sequences)
        if isinstance(embedding, Patches):
            patches = math.given(values.reshape(-1, values.shape[2]))
            x = math.linear(patches, embedding.projection)
            if embedding.convolution is not None:
                x = self.convolved(embedding.convolution, x)
            x = math.add(x, math.weight(embedding.positions)[places])
        else:
            x = self.rows(embedding, values)
            if embedding.positions is not None:
                x = math.add(x, math.weight(embedding.positions)[places])
            if self.inputs.segments is not None and embedding.segments is not None:
                kinds = self.inputs.segments[:, step.past:step.total].ravel()
                x = math.add(x, self.keep("segment rows", math.table_rows(
                    embedding.segments, kinds), False))
            elif embedding.segment is not None:
                x = math.add(x, math.weight(embedding.segment)[None])
        if embedding.norm is not None:
            x = self.keep("embedding sum", x, self.eight[Fusion.NORM])
            x = math.norm(x, embedding.norm)
        if isinstance(embedding, Tokens) and embedding.norm_projection is not None:
            x = math.linear(self.keep("embedding norm", x, True), embedding.norm_projection)
        return self.keep_both("embedding", x)

    def convolved(self, convolution: Convolution, x: Array) -> Array:
        """Every second row of f(x) between its neighbours, through the linear layer and f."""
        math, kind, sequences = self.math, convolution.activation, self.now.sequences
        x = self.rounded_if(Fusion.ACTIVATION, x, "embedding projection")
        x = self.keep("embedding frames", math.activation(kind, x), False)
        x = x.reshape(sequences, -1, x.shape[1])
        rows = np.zeros((sequences, x.shape[1] // 2, 3 * x.shape[2]))
        for place in range(rows.shape[1]):
            for side, frame in enumerate((2 * place - 1, 2 * place, 2 * place + 1)):
                if frame >= 0:
                    rows[:, place, side * x.shape[2]:(side + 1) * x.shape[2]] = x[:, frame]
        rows = self.keep("embedding frames and neighbours", rows.reshape(-1, rows.shape[2]), True)
        x = self.rounded_if(Fusion.ACTIVATION, math.linear(rows, convolution.linear),
                            "embedding convolution")
        return math.activation(kind, x)

    def rows(self, embedding: Tokens, ids: Array) -> Array:
        """What the table gives for ``ids``, sequences × positions: rows below one another."""
        math = self.math
        x = math.table_rows(embedding.table, ids, embedding.factor)
        if embedding.neighbours:
            none = np.zeros_like(x[:, :1])
            x = np.concatenate([np.concatenate([none, x[:, :-1]], axis=1), x,
                                np.concatenate([x[:, 1:], none], axis=1)], axis=2)
        x = x.reshape(ids.size, -1)
        if embedding.row_projection is None:
            return x
        x = self.keep("narrow rows", x, True)
        return math.linear(x, embedding.row_projection)

    def layer(self, block: Block, x: Array, index: int) -> Array:
        name = f"layer {index}"
        if block.bottleneck is not None:
            return self.narrow(block, block.bottleneck, x, index)
        norms = block.attention_norm, block.feed_forward_norm
        middle = self.half(block, norms[0], x, x, f"{name} attention",
                           lambda given: self.attention.heads(block.attention, given, index, None),
                           block.attention.output, None, block.attention_after)
        if block.across is not None and self.encoded is not None:
            across, encoded = block.across, self.encoded
            middle = self.half(block, block.across_norm, middle, middle, f"{name} across",
                               lambda given: self.attention.across(across, given, encoded, name),
                               across.output, None, None)
        return self.half(block, norms[1], x if block.parallel else middle, middle,
                         f"{name} feed-forward",
                         lambda given: self.hidden(block.feed_forward, given, f"{name} "),
                         block.feed_forward.down, name, block.feed_forward_after)

    def narrow(self, block: Block, around: Bottleneck, x: Array, index: int) -> Array:
        """A layer between the linear layers of its bottleneck."""
        math, name = self.math, f"layer {index}"
        wide = math.stored(x)
        stream = self.keep_both(f"{name} narrow input", math.linear(wide, around.enter))
        if around.shared is None:
            heads = self.attention.heads(block.attention, math.stored(stream), index, None)
        else:
            shared = self.keep(f"{name} shared input", math.linear(wide, around.shared), True)
            heads = self.attention.heads(block.attention, shared, index, wide)

        def joined(norm: Norm | None, x: Array, name: str, part: Array, result: str | None = None
                   ) -> Array:
            part = self.rounded_if(Fusion.RESIDUAL, part, f"{name} output")
            return self.joined(block, norm, x, name, part, result)

        y = joined(block.attention_norm, stream, f"{name} attention",
                   math.linear(heads, block.attention.output))
        for number, (ffn, norm) in enumerate((*block.stack, (block.feed_forward,
                                                             block.feed_forward_norm))):
            part = f"{name} feed-forward {number}"
            hidden = self.hidden(ffn, math.stored(y), f"{part} ")
            y = joined(norm, y, part, math.linear(hidden, ffn.down))
        return joined(around.norm, x, f"{name} wide", math.linear(math.stored(y), around.leave),
                      name)

    def half(self, block: Block, norm: Norm | None, x: Array, stream: Array, name: str,
             inner: Callable[[Array], Array], linear: Linear, result: str | None,
             after: Norm | None) -> Array:
        """Attention or feed-forward on ``x`` with its norms, added to ``stream``."""
        math = self.math
        given = math.stored(x)
        if block.pre_norm and norm is not None:
            given = self.keep(f"{name} norm", math.norm(self.as_read(Fusion.NORM, x), norm), True)
        part = math.linear(inner(given), linear)
        if after is not None:
            part = self.keep(f"{name} output", part, self.eight[Fusion.NORM])
            part = self.keep(f"{name} output norm", math.norm(part, after),
                             self.eight[Fusion.RESIDUAL])
        else:
            part = self.rounded_if(Fusion.RESIDUAL, part, f"{name} output")
        return self.joined(block, norm, stream, name, part, result)

    def joined(self, block: Block, norm: Norm | None, x: Array, name: str, part: Array,
               result: str | None) -> Array:
        """The residual addition, and of post-norm layers the norm."""
        math = self.math
        total = math.add(part, self.as_read(Fusion.RESIDUAL, x))
        if block.pre_norm:
            return self.keep_both(result or f"{name} sum", total)
        assert norm is not None
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

    # After the last layer

    def final(self, x: Array) -> None:
        math, model, step = self.math, self.model, self.now
        x = x.reshape(step.sequences, step.length, -1)
        seen = (np.ones(x.shape[:2], bool) if step.valid is None
                else step.valid[:, step.past:step.total])
        causal = model.blocks[-1].attention.causal
        if model.pooling in ("first", "first_l2"):
            x = np.stack([part[own.argmax()] for part, own in zip(x, seen, strict=True)])[:, None]
        elif model.pooling == "last" or (
                model.pooling == "none" and causal and not step.every):
            x = np.stack([part[len(own) - 1 - own[::-1].argmax()] for part, own
                          in zip(x, seen, strict=True)])[:, None]
        count = x.shape[1]
        x = x.reshape(-1, x.shape[2])
        if model.final_norm is not None:
            x = math.norm(self.as_read(Fusion.NORM, x), model.final_norm)
            x = self.keep_both("final norm", x)
        if model.pooling.startswith("mean"):
            x = np.stack([self.mean(part, sequence)
                          for sequence, part in enumerate(x.reshape(-1, count, x.shape[1]))])
            x = self.keep_both("pooled", x)
        elif model.pooling == "first_two":
            x = x.reshape(-1, count * x.shape[1])[:, :2 * x.shape[1]]
        elif model.pooling == "first_l2":
            x = math.multiply(x, math.inverse_length(x, 1.0, _L2_EPSILON))
            x = self.keep_both("pooled", x)
        if model.transform is not None:
            x = self.transformed(model.transform, math.stored(x))
        if model.head is not None:
            y = math.linear(math.stored(x), model.head)
            if model.cap is not None:
                bent = math.multiply(y, math.wide(1 / model.cap))
                bent = self.rounded_if(Fusion.ACTIVATION, bent, "head over cap")
                y = math.multiply(math.activation("tanh", bent), math.wide(model.cap))
            self.keep("head bf16", y, False)

    def transformed(self, transform: Transform, x: Array) -> Array:
        """The first part of a head."""
        math = self.math
        y, name = math.linear(x, transform.linear), "head dense"
        if transform.activation is not None:
            y = self.rounded_if(Fusion.ACTIVATION, y, name)
            y, name = math.activation(transform.activation, y), "head activated"
        if transform.norm is None:
            return self.keep(name, y, True)
        y = self.keep(name, y, self.eight[Fusion.NORM])
        return self.keep("head norm", math.norm(y, transform.norm), True)

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
