"""Encoders in ONNX files: ``load_onnx``."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError, LazyBlocks
from compiler.checkpoints.description import Linear, Task, Tokens, Transform, Transformer
from compiler.checkpoints.onnx.ends import Embedded, Ending, embedded, ending
from compiler.checkpoints.onnx.expressions import Lookup, Row, function_of
from compiler.checkpoints.onnx.format import Model, read_model
from compiler.checkpoints.onnx.layers import Layers, activation_of, layers_of
from compiler.checkpoints.onnx.parts import Parts, floats
from compiler.checkpoints.onnx.trace import traced
from compiler.checkpoints.pooling import has_modules, pooling_of
from compiler.checkpoints.settings import read_json

__all__ = ["Found", "load_onnx", "parsed"]

_SEQUENCES = (2, 1)


class Found:
    """What a graph is of: ``context`` of its trace, ``ending``, ``layers``, ``first``, what enters
    them; ``left``: outputs that are none of it."""

    def __init__(self, model: Model, sequences: int) -> None:
        self.path = model.path
        self.context, outputs = traced(model, sequences)
        self.ending, self.left = ending(self.context, outputs)
        self.layers: Layers = layers_of(model.path, self.ending.hidden)
        self.first: Embedded = embedded(model.path, self.layers.first)


def parsed(path: Path) -> Found:
    """What the graph in file ``path`` is of; ``CheckpointError``. It is walked with two sequences,
    or with one where a shape in it is fixed to that."""
    model = read_model(path)
    try:
        return Found(model, _SEQUENCES[0])
    except CheckpointError as error:
        reason = str(error)  # alone: the error's frames hold what the first walk has made
    try:
        return Found(model, _SEQUENCES[1])
    except CheckpointError:
        raise CheckpointError(reason) from None


def load_onnx(path: Path, name: str | None = None) -> Transformer:
    """The encoder in ONNX file ``path``, with the pooling of ``modules.json`` and the labels of
    ``config.json`` where they lie beside it; ``CheckpointError`` for what is damaged or not
    supported. Matrices are read when a layer is asked for."""
    found = parsed(path)
    layers, end = found.layers.layers, found.ending
    parts = Parts(path, layers[0].attention.query.weight.shape[1])
    for layer in layers:
        parts.check(layer)
    embedding = _tokens(parts, found.first)
    transform, head = _head(parts, end, embedding)
    fixed = found.context.positions if isinstance(found.first.positions, Row) else None
    model = Transformer(
        name or path.stem, embedding,
        LazyBlocks(len(layers), lambda index: parts.block(layers[index])),
        parts.norm(found.layers.final_norm), head, end.pooling, transform,
        task=_task(end, head, embedding), longest=fixed, labels=_labels(path, head, end),
        notes=tuple(f"output {own} of {path} is left out" for own in found.left))
    if end.pooling == "none" and head is None and has_modules(path.parent):
        return pooling_of(path.parent, model)
    return model


def _tokens(parts: Parts, first: Embedded) -> Tokens:
    table = floats(first.words.table.make())
    width, segments, segment = table.shape[1], None, None

    def rows(own: Lookup | Row) -> np.ndarray:
        values = floats(own.values if isinstance(own, Row) else own.table.make()[own.first:])
        if values.shape[-1] != width:
            raise CheckpointError(f"{parts.path}: {own.label} must add {width} values, as words "
                                  f"have, not {values.shape[-1]}")
        return values

    if isinstance(first.segments, Lookup) and first.segments.what == "segments":
        segments = rows(first.segments)
        segment = segments[0]
    elif first.segments is not None:
        segment = rows(first.segments).reshape(-1, width)[0]
    projection = None if first.projection is None else parts.linear(first.projection)
    entering = width if projection is None else len(projection.weight)
    if entering != parts.width:
        raise CheckpointError(f"{parts.path}: {first.words.label} must give the {parts.width} "
                              f"features that layers read, not {entering}")
    return Tokens(table, None if first.positions is None else rows(first.positions), segment,
                  parts.norm(first.norm, width), segments, norm_projection=projection)


def _head(parts: Parts, end: Ending, tokens: Tokens
          ) -> tuple[Transform | None, Linear | None]:
    """Both linear layers behind the last layer."""
    transform = None
    if end.dense is not None:
        function: Callable = function_of(end.then)[1] if end.then is not None else np.asarray
        kind = (None if end.then is None else
                activation_of(parts.path, end.then.label, function))
        transform = Transform(parts.linear(end.dense), kind,
                              parts.norm(end.norm, end.dense.weight.shape[0]))
    if end.last is None:
        return transform, None
    head = parts.linear(end.last)
    tied = np.array_equal(head.weight, tokens.table)  # exporters write a transposed one of its own
    return transform, replace(head, weight=tokens.table) if tied else head


def _task(end: Ending, head: Linear | None, tokens: Tokens) -> Task:
    if head is None:
        return "features"
    if end.pooling != "none":
        return "sequence classification"
    if end.parts:
        return "question answering"
    words = len(head.weight) == len(tokens.table)
    return "masked language model" if words else "token classification"


def _labels(path: Path, head: Linear | None, end: Ending) -> tuple[str, ...]:
    """Of classes, as ``config.json`` beside the file has them."""
    if head is None or end.parts:
        return ()
    beside = path.parent / "config.json"
    named = read_json(beside, dict).get("id2label") if beside.exists() else None
    count = len(head.weight)
    if not isinstance(named, dict) or len(named) != count:
        return ()
    return tuple(str(named.get(str(index), f"LABEL_{index}")) for index in range(count))
