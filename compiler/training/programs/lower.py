"""A training step as programs in one image: ``lower_training``."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from compiler.checkpoints.description import Norm, Pooling, Transformer
from compiler.checkpoints.inputs import Inputs, Step
from compiler.lowering.emit import emit
from compiler.lowering.ends import trace_embedding, trace_final
from compiler.lowering.fuse import fuse
from compiler.lowering.fusion import Fusion
from compiler.lowering.layer import trace_layer
from compiler.lowering.lower import check_model, layer_range
from compiler.lowering.ops import OpList
from compiler.lowering.place import Places, place
from compiler.lowering.saved import Saved
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Form, Use, Value, View
from compiler.program.builder import ProgramBuilder
from compiler.program.image import ProgramImage
from compiler.program.placement import Placement
from compiler.program.scalar import Scalar
from compiler.program.tensor import Tensor
from compiler.training.description import LowRank, Training
from compiler.training.gradients.network import groups_of
from compiler.training.gradients.parameters import block_name, linears, parameters
from compiler.training.layout import Layout
from compiler.training.programs.backward import LayerBackward
from compiler.training.programs.context import EARLIER, Context
from compiler.training.programs.ends import classes_loss, ends_backward
from compiler.training.programs.factors import Factor, Factors, Share
from compiler.training.programs.scales import ScaleTables, emit_scales, emit_shares, place_scales
from compiler.training.programs.update import (
    Merge,
    UpdateTensors,
    emit_start,
    emit_update,
    place_update,
)
from hdl.spec.commands import COMMAND, COMMAND_BYTES, HEADER_BYTES
from hdl.spec.config import AcceleratorConfig

__all__ = ["TrainingProgram", "lower_training"]

_QKV = ("query", "key", "value")


@dataclass(frozen=True)
class BatchTensors:
    """What the host writes for a micro-batch.

    ``inputs``: patches of all sequences, or each sequence's ids; ``labels``. Where sequences may be
    padded: ``masks`` and ``valid``, a row a sequence, ``rows`` of ``ends.pooled_rows``, ``lengths``
    as in ``ScaleTables``, and ``counts``: for each sequence the addresses of FP32 words that hold
    one over its positions, in the commands that pool them.
    """

    inputs: tuple[Tensor, ...]
    labels: Tensor
    lengths: Tensor
    masks: Tensor | None = None
    valid: Tensor | None = None
    rows: Tensor | None = None
    counts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class TrainingProgram:
    """Programs of one memory, by address.

    ``start``: once, and after every change of the masters. ``calibrate``: the scales that follow
    from gradients so far, without an update. ``first`` and ``next``: a micro-batch forward and
    back, the latter adding to the gradients. ``update``: the rest of a step. What the host writes
    and reads are ``batch``, ``logits`` and ``tensors``; ``sites``: the gradient tensors of a
    pass. ``written`` as in ``LoweredProgram``, of ``first`` and ``next``.
    """

    image: ProgramImage
    start: int
    calibrate: int
    first: int
    next: int | None
    update: int
    layout: Layout
    shapes: dict[str, tuple[int, ...]]
    batch: BatchTensors
    pooling: Pooling
    logits: Tensor
    sites: dict[str, Tensor]
    tensors: UpdateTensors
    written: dict[str, tuple[str, ...]] = field(default_factory=dict)
    macs: int = 0


class _Builder(ProgramBuilder):
    """Takes factors that change from step to step from ``tables``."""

    tables: ScaleTables | None = None

    def _command(self, fields, shape, a, operands, out, transposed, epilogue) -> None:
        """As the builder's, each ``Factor`` as a scalar in memory."""
        changed = {name: Scalar(self.tables.table, self.tables.number(value))
                   for name in ("scale", "imm1")
                   if isinstance(value := getattr(epilogue, name), Factor | Share)}
        super()._command(fields, shape, a, operands, out, transposed, replace(epilogue, **changed))

    def take_over(self, other: Placement) -> None:
        super().take_over(other)
        if isinstance(other, _Builder):
            self.tables = other.tables


@dataclass
class _Traced:
    """A training step's ops, and the values that others look for."""

    ops: OpList
    ctx: Context
    logits: Value
    weights: dict[str, View]
    heads: dict[str, Value]


def lower_training(config: AcceleratorConfig, model: Transformer, training: Training,
                   batch: Inputs, *, seed: int | None = 0, base: int = 0, keep: bool = False
                   ) -> TrainingProgram:
    """Programs of ``training`` of ``model`` on micro-batches like ``batch``, whose values stand in
    the image at first. ``keep``: every tensor has memory of its own. ``ValueError`` in one line for
    what cannot be lowered."""
    _check(config, model, training, batch)
    arrays = parameters(model)
    shapes = trained_shapes(model, training, arrays)
    traced = _trace(config, model, training, batch, Layout.of(shapes, config))
    fused = fuse(traced.ops, config, Fusion.RESIDUAL)
    builder = _Builder(config, base)
    places = place(fused, builder, keep)
    ctx, layout = traced.ctx, traced.ctx.layout
    tensors = _place_rest(builder, traced, places, fused, training, arrays)
    builder.tables = tensors.tables
    addresses: dict[str, int | None] = {}
    written, macs, counts = {}, 0, []
    for name, adding in (("first", False), ("next", True)):
        addresses[name] = None
        if adding and training.micro == training.batch:
            continue
        ctx.adding = adding
        if ctx.share is not None:
            emit_shares(builder, tensors.tables, ctx.share)
        emitted = emit(_variant(fused, adding), places, builder)
        written[name], macs = emitted.written, emitted.macs
        offsets = _pooling(builder)
        addresses[name], builder = builder.followed(f"program {name}")
        counts.append([addresses[name] + offset for offset in offsets])
    emit_start(builder, training, layout, tensors)
    addresses["start"], builder = builder.followed("program start")
    emit_scales(builder, tensors.tables, tensors.largest)
    addresses["calibrate"], builder = builder.followed("program calibrate")
    emit_update(builder, training, layout, tensors)
    results = [places[value, form] for value in fused.values for form in fused.forms[value]]
    image = ProgramImage.of(builder, tuple(dict.fromkeys(results)), seed=seed)
    found = {value.name: places[value, fused.forms[value][0]] for value in fused.values}
    return TrainingProgram(
        image, addresses["start"], addresses["calibrate"], addresses["first"], addresses["next"],
        image.address, layout, shapes, _batch(fused, places, tensors.tables, batch, counts),
        model.pooling, found[traced.logits.name],
        {name: found[value.name] for name, value in ctx.sites.items()}, tensors, written, macs)


def _batch(fused: OpList, places: Places, tables: ScaleTables, batch: Inputs,
           counts: list[list[int]]) -> BatchTensors:
    """What the host writes, out of everything."""
    found: dict[str, list[Tensor]] = {}
    for value in fused.values:
        found.setdefault(value.name, []).append(places[value, fused.forms[value][0]])
    inputs = tuple(found["patches" if batch.kind == "patches" else "ids"])
    if batch.valid is None:
        return BatchTensors(inputs, found["labels"][0], tables.lengths)
    return BatchTensors(
        inputs, found["labels"][0], tables.lengths, found["masks"][0],
        found["valid positions"][0] if "valid positions" in found else None,
        found["rows of the pooled gradient"][0], tuple(zip(*counts, strict=True)))


def _pooling(builder: ProgramBuilder) -> list[int]:
    """The offsets in the program of the FP32 words 1/n of its means of sequences, in their order:
    they alone leave one item per row."""
    word = 4 * COMMAND["inverse_n"].word
    return [HEADER_BYTES + COMMAND_BYTES * index + word
            for index, fields in enumerate(builder.commands) if fields.get("row_result")]


def _variant(fused: OpList, adding: bool) -> OpList:
    """The ops of a step's first micro-batch, or of a later one."""
    if adding:
        return fused
    return replace(fused, ops=tuple(op for op in fused.ops if not any(
        str(lane_op) == EARLIER for lane_op in op.then)))


def trained_shapes(model: Transformer, training: Training, arrays: Mapping[str, np.ndarray]
                   ) -> dict[str, tuple[int, ...]]:
    """The shape of everything that is trained, by name."""
    shapes = {}
    layers = training.layers(model)
    for block in dict.fromkeys(layer.rpartition(".")[0] for layer in layers):
        own = [layer for layer in layers if layer.startswith(f"{block}.")]
        # A of those that read the same lie below one another: one product serves all.
        for layer in own:
            shapes[training.method.names(layer)[0]] = (
                training.method.rank, arrays[f"{layer}.weight"].shape[1])
        for layer in own:
            shapes[training.method.names(layer)[1]] = (
                len(arrays[f"{layer}.weight"]), training.method.rank)
    return shapes | {name: arrays[name].shape for name in training.trained(model)
                     if name not in shapes}


def _check(config: AcceleratorConfig, model: Transformer, training: Training, batch: Inputs
           ) -> None:
    check_model(model, layer_range(model, None))
    batch.check(model)
    if config.functions != "training":
        raise ValueError(f"functions must be training in a build that trains, "
                         f"not {config.functions}")
    if model.pooling == "none" or (model.pooling == "first" and model.final_norm is not None):
        raise ValueError(f"pooling of {model.name} must be mean, mean_l2, or first without a final "
                         f"norm, to be trained on the accelerator, not {model.pooling}")
    if not isinstance(training.method, LowRank):
        raise ValueError("method must be LowRank on the accelerator: whole matrices are trained in "
                         "numpy alone")
    share = training.batch // training.micro
    if share & (share - 1):
        raise ValueError(f"batch over micro must be a power of two on the accelerator, not {share}")
    if batch.sequences != training.micro:
        raise ValueError(f"a micro-batch must have {training.micro} sequences, "
                         f"not {batch.sequences}")
    if config.acc == "exact" and batch.sequences * batch.length > config.k_max:
        raise ValueError(f"micro must be at most {config.k_max // batch.length} with the exact "
                         f"accumulator: K of gradients is micro times {batch.length} positions, at "
                         f"most k_max = {config.k_max}")


# Tracing

def _trace(config: AcceleratorConfig, model: Transformer, training: Training, batch: Inputs,
           layout: Layout) -> _Traced:
    tracer = Tracer(results=False)
    step = Step("", batch.sequences, batch.length, 0, batch.valid, renewed=True)
    ctx = Context(tracer, training, step, Factors(config.format.storage_bits == 8), layout,
                  most_sites=14 * len(model.blocks) + 8)
    x = trace_embedding(tracer, model, batch, step, "embedding")
    groups = [_Group(tracer, model, step, range(start, stop), bool(training.recompute))
              for start, stop in groups_of(len(model.blocks), 0, training.recompute)]
    for group in groups:
        x = group.forward(x)
    trace_final(tracer, model, x, step)
    named = {value.name: value for value in tracer.listed().values}
    logits = named["head"]
    pooled = x.whole.every(step.length, 0) if model.pooling == "first" else named["pooled"].whole
    weights, heads = _weights(tracer, model), {}
    if training.head:
        heads = {"head.weight": tracer.weight("head weight", model.head.weight)}
        if model.head.bias is not None:
            heads["head.bias"] = tracer.bias("head bias", model.head.bias)

    def gain(norm: Norm) -> Value:
        return tracer.parameter(norm.gain, Form.STORED, "gain")

    d = classes_loss(ctx, logits, config.softmax == "pwl")
    d = ends_backward(ctx, model, d, pooled, x, tracer.weight("", model.head.weight).whole, gain,
                      named.get("pooling mean"))
    layers = training.layers(model)
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
    return _Traced(tracer.listed(), ctx, logits, weights, heads)


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

    def _layers(self, x: Value, label: str) -> Value:
        for index in self.layers:
            self.kept[index] = Saved()
            x = trace_layer(self.tracer, self.model.blocks[index], x, None, self.step,
                            f"layer {index}{label}", self.kept[index])
        return x


def _weights(tracer: Tracer, model: Transformer) -> dict[str, View]:
    """The matrices as the forward pass reads them: by part, and q, k, v and the feed-forward's
    first as one."""
    found = {}
    for index, block in enumerate(model.blocks):
        name, own = block_name(index), linears(block)
        joined = tracer.weight("", *(own[part].weight for part in _QKV)).whole
        found[f"{name}.qkv"] = joined
        row = 0
        for part in _QKV:
            found[f"{name}.{part}"] = joined.row_block(row, len(own[part].weight))
            row += len(own[part].weight)
        for part in ("output", "up", "down"):
            found[f"{name}.{part}"] = tracer.weight("", own[part].weight).whole
        found[f"{name}.expand"] = found[f"{name}.up"]
    return found


def _place_rest(builder: _Builder, traced: _Traced, places: Places, fused: OpList,
                training: Training, arrays: Mapping[str, np.ndarray]) -> UpdateTensors:
    """Memory of what no op of a forward or backward pass touches."""
    def tensor(view: View | Value) -> Tensor:
        view = view.whole if isinstance(view, Value) else view
        return places.tensor(replace(view, form=fused.forms[view.value][0]))

    ctx = traced.ctx
    merges = []
    for layer in dict.fromkeys(name.rpartition(".")[0] for name in ctx.layout.places
                               if name.endswith(".lora_a")):
        plain = builder.constant(arrays[f"{layer}.weight"], name=f"{layer} plain")
        merges.append(Merge(layer, plain, tensor(traced.weights[layer])))
    _number(fused, ctx, builder, places)
    valid = ctx.step.valid
    lengths = [ctx.step.length] * ctx.step.sequences if valid is None else valid.sum(axis=1)
    tables = place_scales(builder, ctx.factors, lengths)
    return place_update(
        builder, training, ctx.layout, tensor(ctx.gradients), tensor(ctx.trained), tuple(merges),
        {name: tensor(value) for name, value in traced.heads.items()}, tables,
        tensor(ctx.largest) if ctx.factors.scaled else None)


def _number(fused: OpList, ctx: Context, builder: _Builder, places: Places) -> None:
    """Give every factor its place, by emitting once to nowhere."""
    class Counting(_Builder):
        def _command(self, fields, shape, a, operands, out, transposed, epilogue) -> None:
            for value in (epilogue.scale, epilogue.imm1):
                if isinstance(value, Factor):
                    ctx.factors.number(value)

    ctx.adding = True
    if isinstance(ctx.share, Factor):
        ctx.factors.number(ctx.share)
    counting = Counting(builder.config, builder.base)
    counting.take_over(builder)
    emit(fused, places, counting)
