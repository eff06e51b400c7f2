"""What stands before the first layer and behind the last: embeddings, final norm, pooling, head."""

from dataclasses import replace

import numpy as np

from compiler.checkpoints.description import Patches, Tokens, Transformer
from compiler.checkpoints.inputs import Inputs, Step
from compiler.lowering import lists
from compiler.lowering.emitter import STORED, WIDE, Emitter, Stream
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from compiler.program.tensor import Tensor
from hdl.spec.commands import Destination, Operand

__all__ = ["L2_EPSILON", "emit_embedding", "emit_final"]

# Added to a sum of squares before its inverse square root: far below that of any real row.
L2_EPSILON = 1e-24


def emit_embedding(low: Emitter, model: Transformer, inputs: Inputs, step: Step,
                   needs: frozenset[str], label: str) -> Stream:
    """What the first layer gets, in the forms ``needs``, named ``label``."""
    part = slice(step.past, step.total)
    values = inputs.values[:, part]
    if inputs.kind == "states":
        return low.constant_stream(values.reshape(step.rows, -1), label)
    embedding = model.embedding
    if isinstance(embedding, Patches):
        return low.produce(label, step.rows, model.width, needs, lambda out: _patches(
            low, embedding, values, step, out, label), result=True)
    if embedding.norm is None:
        return low.produce(label, step.rows, model.width, needs, lambda out: _tokens(
            low, embedding, values, step, out), result=True)
    total = low.take(f"{label} sum", step.rows, model.width, low.norm_form())
    _tokens(low, embedding, values, step, total)
    out = low.produce(label, step.rows, model.width, needs, lambda out: low.norm(
        total, embedding.norm, out, f"{label} norm"), result=True)
    low.give(total)
    return out


def _positions(low: Emitter, table: np.ndarray, step: Step) -> Tensor:
    return low.parameter(table, STORED, "positions").block(
        step.past, 0, step.length, table.shape[1])


def _patches(low: Emitter, embedding: Patches, values: np.ndarray, step: Step, out: Tensor,
             label: str) -> None:
    """Projection, bias and position; each sequence a command, for positions repeat."""
    patches = low.builder.constant(values.reshape(step.rows, -1), name="patches")
    positions = _positions(low, embedding.positions, step)
    for sequence in range(step.sequences):
        rows = sequence * step.length, 0, step.length
        low.linear_with(patches.block(*rows, patches.columns), embedding.projection, positions,
                        out.block(*rows, out.columns), label, Instruction(add=Operand.Y))


def _tokens(low: Emitter, embedding: Tokens, ids: np.ndarray, step: Step, out: Tensor) -> None:
    """Rows of the table that ``ids`` name, + position, + segment; positions repeat with each
    sequence, which then is a command."""
    table = low.parameter(embedding.table, STORED, "token table")
    added, at_once = [], step.rows
    if embedding.positions is not None:
        added.append(_positions(low, embedding.positions, step))
        at_once = step.length
    if embedding.segment is not None:
        added.append(low.parameter(embedding.segment, STORED, "segment"))
    count = max(1, len(added))
    instructions = [Instruction(
        add=Operand.Y if added else Operand.NONE, y=index,
        destination=Destination.BUFFER if index < count - 1 else Destination.MEMORY)
        for index in range(count)]
    for first in range(0, step.rows, at_once):
        numbers = low.builder.indices(ids.ravel()[first:first + at_once])
        for start, width in low.on_chip(out.columns):
            own = [y.block(0, start, y.rows, width) for y in added]
            low.builder.gather(
                table.block(0, start, table.rows, width), numbers,
                out.block(first, start, at_once, width),
                Epilogue(instructions=instructions, **dict(zip(("bias", "y1"), own, strict=False))))


def final_needs(low: Emitter, model: Transformer) -> frozenset[str]:
    """The forms in which the last layer's result is read; empty if it is the model's."""
    if model.final_norm is not None:
        return frozenset({low.norm_form()})
    if model.pooling in ("mean", "mean_l2"):
        return frozenset({WIDE})
    return frozenset({STORED} if model.head is not None else ())


def emit_final(low: Emitter, model: Transformer, x: Stream, step: Step) -> None:
    """Final norm, pooling and head. Of a causal model only each sequence's last position counts
    behind the last layer, of one with ``first`` pooling only its first."""
    mean = model.pooling.startswith("mean")
    position = _position(model, step)
    if position is not None:
        x = Stream(*(tensor and _every(tensor, position, step) for tensor in (x.stored, x.wide)))
    head_needs = frozenset({WIDE if model.head is None else STORED})
    if model.final_norm is not None:
        needs = frozenset({WIDE}) if mean else head_needs
        given = x.form(low.norm_form())
        name = f"{step.label}final norm"
        x = low.produce(name, *given.shape, needs, lambda out: low.norm(
            given, model.final_norm, out, name), result=True)
    if mean:
        given = x.form(WIDE)
        x = low.produce(f"{step.label}pooled", step.sequences, model.width, head_needs,
                        lambda out: _mean(low, model.pooling, given, step, out), result=True)
    if model.head is not None:
        given = x.form(STORED)
        out = low.lasting(f"{step.label}head bf16", given.rows, len(model.head.weight), WIDE)
        low.linear(given, model.head, out, "head")


def _position(model: Transformer, step: Step) -> int | None:
    """The one position of each sequence that is read behind the last layer; ``None``: all."""
    if model.pooling == "first":
        return 0
    if model.pooling == "none" and model.blocks[-1].attention.causal:
        return step.length - 1
    return None


def _every(tensor: Tensor, position: int, step: Step) -> Tensor:
    """Row ``position`` of each sequence."""
    first = tensor.block(position, 0, 1, tensor.columns)
    return replace(first, rows=step.sequences, stride=step.length * tensor.stride)


def _mean(low: Emitter, pooling: str, x: Tensor, step: Step, out: Tensor) -> None:
    """The mean over each sequence's valid positions, for ``mean_l2`` divided by its length.

    x is transposed, which makes a mean over positions one over a row, a single item.
    """
    turned = low.arena.take(x.columns, step.length, "bf16", "pooling transposed")
    mean = low.arena.take(1, x.columns, "bf16", "pooling mean")
    for sequence in range(step.sequences):
        own = out.block(sequence, 0, 1, x.columns)
        low.builder.vector(x.block(sequence * step.length, 0, step.length, x.columns), turned,
                           out_transposed=True)
        valid = np.ones(step.length, bool) if step.valid is None else step.valid[sequence]
        mask = None if valid.all() else low.derived(
            ("valid", valid.tobytes()), lambda valid=valid: valid[None].astype(float), WIDE,
            "valid positions")
        low.builder.vector(turned, own if pooling == "mean" else mean,
                           lists.row_mean(int(valid.sum()), mask), out_transposed=True)
        if pooling == "mean_l2":
            low.builder.vector(mean, own, lists.l2_norm(L2_EPSILON))
    low.give(turned, mean)
