"""A training step as programs in one image: ``lower_training``."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from compiler.checkpoints.description import Pooling, Transformer
from compiler.checkpoints.inputs import Inputs, Step
from compiler.lowering.capacity import check_capacity, check_steps
from compiler.lowering.emit import emit
from compiler.lowering.fuse import fuse
from compiler.lowering.fusion import Fusion
from compiler.lowering.ops import OpList
from compiler.lowering.place import Places, Tell, least_bytes, part_of, place, silent
from compiler.lowering.values import Value, View
from compiler.program.builder import ProgramBuilder
from compiler.program.image import ProgramImage
from compiler.program.placement import Placement
from compiler.program.scalar import Scalar
from compiler.program.tensor import Tensor
from compiler.training.description import LowRank, Training
from compiler.training.gradients.loss import LossKind
from compiler.training.gradients.parameters import parameters
from compiler.training.gradients.weights import lora_names
from compiler.training.layout import Layout
from compiler.training.programs.check import check
from compiler.training.programs.context import EARLIER, Context
from compiler.training.programs.factors import Factor, Share
from compiler.training.programs.loss import COUNTED
from compiler.training.programs.scales import ScaleTables, emit_scales, emit_shares, place_scales
from compiler.training.programs.trace import Traced, trace_step
from compiler.training.programs.update import (
    Merge,
    Placed,
    UpdateTensors,
    emit_start,
    emit_update,
    place_update,
)
from hdl.spec.commands import COMMAND, COMMAND_BYTES, HEADER_BYTES
from hdl.spec.config import AcceleratorConfig

__all__ = ["TrainingProgram", "lower_training"]

_TRACED, _PLACED = 0.2, 0.5  # shares of lowering


@dataclass(frozen=True)
class BatchTensors:
    """What the host writes for a micro-batch.

    ``inputs``: patches of all sequences, or each sequence's ids; ``labels`` (``loss``);
    ``segments``: the kind of each position of all sequences, where there are several. Where
    sequences may be padded: ``length``, the positions of each; ``masks`` and ``valid``, a row a
    sequence, ``rows`` of ``ends.pooled_rows``, ``counted`` of ``loss.COUNTED``, ``lengths``
    as in ``ScaleTables``, and ``counts``: for each sequence the addresses of FP32 words that hold
    one over its positions, in the commands that pool them.
    """

    inputs: tuple[Tensor, ...]
    labels: Tensor
    lengths: Tensor
    segments: Tensor | None = None
    length: int | None = None
    masks: Tensor | None = None
    valid: Tensor | None = None
    rows: Tensor | None = None
    counted: Tensor | None = None
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


def lower_training(config: AcceleratorConfig, model: Transformer, training: Training,
                   batch: Inputs, *, kind: LossKind = "classes", seed: int | None = 0,
                   base: int = 0, keep: bool = False, tell: Tell = silent) -> TrainingProgram:
    """Programs of ``training`` of ``model`` on micro-batches like ``batch``, whose values stand in
    the image at first. ``keep``: every tensor has memory of its own. ``tell`` hears how far it is.
    ``ValueError`` in one line for what cannot be lowered."""
    # Layers may be read each time that they are asked for: here they are one and the same.
    model = replace(model, blocks=tuple(model.blocks))
    check(config, model, training, kind, batch)
    check_steps([Step("", batch.sequences, batch.length, 0, batch.valid)],
                max(block.attention.heads for block in model.blocks))
    arrays = parameters(model)
    shapes = trained_shapes(model, training, arrays)
    traced = trace_step(config, model, training, kind, batch, Layout.of(shapes, config))
    tell(_TRACED, "traced")
    fused = fuse(traced.ops, config, Fusion.RESIDUAL)
    builder = _Builder(config, base)
    if seed is not None:  # else nobody reads the weights, whose pages take no memory
        check_capacity(least_bytes(fused, builder), None)
    places = place(fused, builder, keep, tell=part_of(tell, _TRACED, _PLACED))
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
        emitted = emit(_variant(fused, adding), places, builder,
                       part_of(tell, *((1 + _PLACED) / 2, 1) if adding else
                               (_PLACED, (1 + _PLACED) / 2)))
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
        _sites(ctx, fused, places), tensors, written, macs)


def _sites(ctx: Context, fused: OpList, places: Places) -> dict[str, Tensor]:
    """Gradient tensors by site, and ``U`` of those that lie beside one."""
    found = {}
    for name, value in ctx.sites.items():
        form = fused.forms[value][0]
        found[name] = places[value, form]
        if value.room:
            found[f"{name} U"] = places.tensor(replace(value.beside, form=form))
    return found


def _batch(fused: OpList, places: Places, tables: ScaleTables, batch: Inputs,
           counts: list[list[int]]) -> BatchTensors:
    """What the host writes, out of everything."""
    found: dict[str, list[Tensor]] = {}
    for value in fused.values:
        found.setdefault(value.name, []).append(places[value, fused.forms[value][0]])
    inputs = tuple(found["patches" if batch.kind == "patches" else "ids"])
    segments = found["segment numbers"][0] if batch.segments is not None else None
    if batch.valid is None:
        return BatchTensors(inputs, found["labels"][0], tables.lengths, segments)
    masks, valid, rows, counted = (found[name][0] if name in found else None for name in (
        "masks", "valid positions", "rows of the pooled gradient", COUNTED))
    return BatchTensors(inputs, found["labels"][0], tables.lengths, segments, batch.length, masks,
                        valid, rows, counted, tuple(zip(*counts, strict=True)))


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
    method, shapes = training.method, {}
    layers = training.layers(model) if isinstance(method, LowRank) else []
    for block in dict.fromkeys(layer.rpartition(".")[0] for layer in layers):
        own = [layer for layer in layers if layer.startswith(f"{block}.")]
        # A of those that read the same lie below one another: one product serves all.
        for layer in own:
            shapes[method.names(layer)[0]] = method.rank, arrays[f"{layer}.weight"].shape[1]
        for layer in own:
            shapes[method.names(layer)[1]] = len(arrays[f"{layer}.weight"]), method.rank
    return shapes | {name: arrays[name].shape for name in training.trained(model)
                     if name not in shapes}


def _place_rest(builder: _Builder, traced: Traced, places: Places, fused: OpList,
                training: Training, arrays: Mapping[str, np.ndarray]) -> UpdateTensors:
    """Memory of what no op of a forward or backward pass touches."""
    def tensor(view: View | Value) -> Tensor:
        view = view.whole if isinstance(view, Value) else view
        return places.tensor(replace(view, form=fused.forms[view.value][0]))

    ctx = traced.ctx
    placed, merges = [], []
    for layer in (name.removesuffix(".lora_a") for name in ctx.layout.places
                  if name.endswith(".lora_a")):
        if traced.beside:
            placed.append(Placed(layer, *(tensor(traced.beside[name])
                                          for name in lora_names(layer))))
        else:
            plain = builder.constant(arrays[f"{layer}.weight"], name=f"{layer} plain")
            merges.append(Merge(layer, plain, tensor(traced.weights[layer])))
    _number(fused, ctx, builder, places)
    valid = ctx.step.valid
    lengths = [ctx.step.length] * ctx.step.sequences if valid is None else valid.sum(axis=1)
    tables = place_scales(builder, ctx.factors, lengths, training.scale_log2)
    return place_update(
        builder, training, ctx.layout, tensor(ctx.gradients),
        tensor(ctx.trained) if merges else None, tuple(merges), tuple(placed),
        {name: tensor(view) for name, view in traced.renewed.items()}, tables,
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
