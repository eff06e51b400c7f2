"""A micro-batch of a training step as ops: forward, loss, backward."""

from collections.abc import Callable
from dataclasses import dataclass, field

from compiler.checkpoints.description import Block, Norm, Transformer
from compiler.checkpoints.inputs import Inputs, Step
from compiler.lowering.attention import CacheRows
from compiler.lowering.ends import trace_embedding, trace_final
from compiler.lowering.layer import trace_layer
from compiler.lowering.ops import OpList
from compiler.lowering.saved import Saved
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Form, Use, Value, View
from compiler.training.description import PARTS_OF, LowRank, Training
from compiler.training.gradients.loss import LossKind
from compiler.training.gradients.network import groups_of
from compiler.training.gradients.parameters import block_name, linears, output_sites
from compiler.training.layout import Layout
from compiler.training.programs.backward import LayerBackward
from compiler.training.programs.beside import BesideTracer
from compiler.training.programs.context import Context
from compiler.training.programs.ends import ends_backward, positions_backward, trace_positions
from compiler.training.programs.factors import Factors
from compiler.training.programs.loss import (
    classes_loss,
    spans_loss,
    tokens_loss,
    vocabulary_loss,
)
from hdl.spec.config import AcceleratorConfig

__all__ = ["Traced", "trace_step"]

_QKV = ("query", "key", "value")
_MATRICES = {"feed_forward": "expand"}  # the matrix of layers that are called otherwise together


@dataclass
class Traced:
    """A training step's ops, and the values that others look for: ``weights`` by layer;
    ``renewed``: by array, what is read of those that are trained themselves; ``beside``: by
    adapter's array, where it lies beside its matrix."""

    ops: OpList
    ctx: Context
    logits: Value
    weights: dict[str, View]
    renewed: dict[str, View]
    beside: dict[str, View]


def trace_step(config: AcceleratorConfig, model: Transformer, training: Training, kind: LossKind,
               batch: Inputs, layout: Layout) -> Traced:
    """The ops of a micro-batch forward and back."""
    tracer = _tracer(model, training)
    step = Step("", batch.sequences, batch.length, 0, batch.valid, renewed=True)
    weights = _weights(tracer, model)
    beside = _adapters(tracer, model, training, weights)
    ctx = Context(config, tracer, training, step, Factors(config.format.storage_bits == 8), layout,
                  most_sites=14 * len(model.blocks) + 8, beside=beside,
                  rooms=_rooms(tracer, model, weights))
    x = trace_embedding(tracer, model, batch, step, "embedding")
    groups = [_Group(tracer, model, step, range(start, stop), bool(training.recompute))
              for start, stop in groups_of(len(model.blocks), 0, training.recompute)]
    for group in groups:
        x = group.forward(x)
    layers, renewed = training.layers(model), {}
    if not isinstance(training.method, LowRank):
        renewed = {f"{layer}.weight": weights[layer] for layer in layers}
    if training.head:
        renewed["head.weight"] = tracer.weight("head weight", model.head.weight).whole
        if model.head.bias is not None:
            renewed["head.bias"] = tracer.bias("head bias", model.head.bias).whole

    def gain(norm: Norm) -> Value:
        return tracer.parameter(norm.gain, Form.STORED, "gain")

    logits, d = _ends(ctx, model, kind, x, config.softmax == "pwl", gain)
    for group in reversed(groups):
        saved = group.saved()
        for index in reversed(group.layers):
            name, block = block_name(index), model.blocks[index]
            below = None if not index or block.pre_norm else (
                f"{block_name(index - 1)} feed-forward", model.blocks[index - 1].feed_forward_norm)
            d = LayerBackward(
                ctx, name, block, saved[index],
                {part: weights[f"{name}.{part}"] for part in ("qkv", "output", "expand", "down")},
                gain, [layer.rpartition(".")[2] for layer in layers
                       if layer.startswith(f"{name}.")]).back(d, below, index > 0)
    ctx.catch_up()
    tracer.output(logits, Use.LANES)
    return Traced(tracer.listed(), ctx, logits, weights, renewed, beside)


def _tracer(model: Transformer, training: Training) -> Tracer:
    method = training.method
    if not training.beside:
        return Tracer(results=False)
    assert isinstance(method, LowRank), "adapters"
    return BesideTracer(method.rank, [linears(block)[PARTS_OF[target]].weight
                                      for block in model.blocks for target in method.targets])


def _adapters(tracer: Tracer, model: Transformer, training: Training, weights: dict[str, View]
              ) -> dict[str, View]:
    """Where adapters lie beside their matrices, by array."""
    found: dict[str, View] = {}
    if not isinstance(tracer, BesideTracer):
        return found
    for layer in training.layers(model):
        _, index, part = layer.split(".")
        weight = linears(model.blocks[int(index)])[part].weight
        own = tracer.extended(weights[layer])
        assert own is not None, "a matrix with an adapter"
        a, b = training.method.names(layer)
        found |= {a: own.a(weight), b: own.b(weight)}
    return found


def _rooms(tracer: Tracer, model: Transformer, weights: dict[str, View]) -> dict[str, int]:
    """By site, how many columns of U lie beside it."""
    if not isinstance(tracer, BesideTracer):
        return {}
    found = {}
    for called, site in output_sites(model).items():
        block, _, parts = called.rpartition(".")
        own = tracer.extended(weights[f"{block}.{_MATRICES.get(parts, parts)}"])
        if own is not None:
            found[site] = own.ranks
    return found


def _ends(ctx: Context, model: Transformer, kind: LossKind, x: Value, accurate: bool,
          gain: Callable[[Norm], Value]) -> tuple[Value, Value]:
    """The logits, and the gradient of the last layer's result ``x``."""
    trace = ctx.trace
    weight = trace.weight("head weight", model.head.weight).whole
    if kind != "classes":
        logits, read = trace_positions(ctx, model, x)
        loss = {"vocabulary": vocabulary_loss, "spans": spans_loss, "tokens": tokens_loss}[kind]
        d = loss(ctx, logits, accurate)
        return logits, positions_backward(ctx, model, d, read, weight, gain, kind == "spans")
    trace_final(trace, model, x, ctx.step)
    named = {value.name: value for value in trace.listed().values}
    logits = named["head"]
    if model.pooling != "first":
        pooled = named["pooled"].whole
    else:
        pooled = (x.whole.every(ctx.step.length, 0) if model.final_norm is None
                  else named["final norm"].whole)
    d = classes_loss(ctx, logits, accurate)
    return logits, ends_backward(ctx, model, d, pooled, x, weight, gain,
                                 named.get("pooling mean"))


@dataclass
class _Group:
    """Neighbouring layers whose backward passes read what one pass forward left: the first, or
    ``again`` another from the kept input of the first layer."""

    tracer: Tracer
    model: Transformer
    step: Step
    layers: range
    again: bool
    x: Value | None = None
    kept: dict[int, Saved] = field(default_factory=dict)

    def forward(self, x: Value) -> Value:
        self.x = x
        return self._layers(x, "")

    def saved(self) -> dict[int, Saved]:
        if self.again:
            self._layers(self.x, " again")
        return self.kept

    def _keys(self, block: Block, index: int) -> CacheRows | None:
        """Room for keys and values where they are made apart from the queries."""
        attention = block.attention
        if attention.rotary is None and not attention.causal:
            return None
        return CacheRows(*(self.tracer.value(
            f"layer {index} {name}", self.step.rows, len(linear.weight), forms=(Form.STORED,))
            for name, linear in (("keys", attention.key), ("values", attention.value))))

    def _layers(self, x: Value, label: str) -> Value:
        for index in self.layers:
            self.kept[index] = Saved()
            block = self.model.blocks[index]
            x = trace_layer(self.tracer, block, x, self._keys(block, index), self.step,
                            f"layer {index}{label}", self.kept[index])
        return x


def _weights(tracer: Tracer, model: Transformer) -> dict[str, View]:
    """The matrices as the forward pass reads them: by part, and q, k, v and the feed-forward's
    first as one."""
    found = {}
    for index, block in enumerate(model.blocks):
        name, own = block_name(index), linears(block)
        joined = tracer.together(f"{name} projections weight", *(own[part].weight for part in _QKV))
        found[f"{name}.qkv"] = joined
        row = 0
        for part in _QKV:
            found[f"{name}.{part}"] = joined.row_block(row, len(own[part].weight))
            row += len(own[part].weight)
        inward = [part for part in ("gate", "up") if part in own]
        found[f"{name}.expand"] = tracer.together(
            f"{name} {' and '.join(inward)} weight", *(own[part].weight for part in inward))
        for part in (*inward, "output", "down"):
            found[f"{name}.{part}"] = tracer.matrix(f"{name} {part} weight", own[part].weight)
    return found
