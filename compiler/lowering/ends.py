"""What stands before the first layer and after the last: embeddings, final norm, pooling, head."""

from collections.abc import Iterator

import numpy as np

from compiler.checkpoints.description import (
    Convolution,
    Patches,
    Tokens,
    Transform,
    Transformer,
)
from compiler.checkpoints.inputs import Inputs, Step
from compiler.lowering.lane_ops import Factor, Mean, UnitLength
from compiler.lowering.layer import layer_uses
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Form, Life, Use, Value, View
from hdl.spec.formats import BF16_ENCODING
from sim.model import codec

__all__ = ["L2_EPSILON", "trace_embedding", "trace_final", "trace_transform"]

# Added to a sum of squares before its inverse square root: far below that of any real row.
L2_EPSILON = 1e-24


def trace_embedding(trace: Tracer, model: Transformer, inputs: Inputs, step: Step, label: str
                    ) -> Value:
    """What the first layer gets, named ``label``."""
    rate = model.embedding.rate if inputs.kind == "patches" else 1
    values = inputs.values[:, rate * step.past:rate * step.total]
    if inputs.kind == "states":
        return _states(trace, values.reshape(step.rows, -1), label)
    embedding, norm = model.embedding, model.embedding.norm
    last = embedding.norm_projection if isinstance(embedding, Tokens) else None
    shape = step.rows, model.width

    def sums(out: Value) -> None:
        if isinstance(embedding, Patches):
            _patches(trace, embedding, values, step, out, label)
        else:
            segments = None if inputs.segments is None else (
                inputs.segments[:, step.past:step.total])
            _tokens(trace, embedding, values, segments, step, out)

    before = shape if last is None else (step.rows, last.weight.shape[1])
    if norm is not None:
        total = trace.value(f"{label} sum", *before)
        sums(total)
    normed = None if last is None else trace.value(f"{label} norm", *before)
    out = trace.value(label, *shape, Life.RESULT, labelled=True)
    if norm is not None:
        trace.norm(total.whole, norm, normed or out, f"{label} norm")
    else:
        sums(normed or out)
    if last is not None and normed is not None:
        trace.linear(normed.whole, last, out, label)
    return out


def _states(trace: Tracer, values: np.ndarray, name: str) -> Value:
    """Values that the program finds in memory: BF16, and rounded from that."""
    def rounded() -> np.ndarray:
        return codec.decode(BF16_ENCODING, codec.encode(BF16_ENCODING, values))

    return trace.constant(name, *values.shape, rounded, Form.WIDE, Form.STORED)


def _positions(trace: Tracer, table: np.ndarray, step: Step) -> list[View]:
    """The rows of this step's positions, for each sequence the same."""
    rows = trace.parameter(table, Form.STORED, "positions").whole
    return [rows.row_block(step.past, step.length)] * step.sequences


def _patches(trace: Tracer, embedding: Patches, values: np.ndarray, step: Step, out: Value,
             label: str) -> None:
    """Projection, bias and position."""
    rows = values.reshape(-1, values.shape[2])
    patches = trace.constant("patches", *rows.shape, lambda: rows, Form.STORED)
    positions = _positions(trace, embedding.positions, step)
    projected = trace.value(f"{label} projection", len(rows), out.columns)
    trace.linear(patches.whole, embedding.projection, projected, label)
    if embedding.convolution is not None:
        projected = _convolved(trace, embedding.convolution, projected, step, label)
    trace.add(projected.whole, positions, out)


def _convolved(trace: Tracer, convolution: Convolution, x: Value, step: Step, label: str) -> Value:
    """Every second row of f(x) between its neighbours, through the linear layer and f."""
    width, length, outputs = x.columns, step.length, len(convolution.linear.weight)
    bent = trace.value(f"{label} frames", *x.shape)
    trace.activate(x.whole, convolution.activation, bent)
    sides = trace.value(f"{label} frames and neighbours", step.rows, 3 * width)
    zeros = trace.constant("zeros", 1, width, lambda: np.zeros((1, width)), Form.WIDE)
    for sequence in range(step.sequences):
        row = sequence * length
        pairs = bent.whole.row_block(2 * row, 2 * length).joined(2)
        trace.vector(pairs, None, sides.whole.block(row, width, length, 2 * width))
        trace.vector(zeros.whole, None, sides.whole.block(row, 0, 1, width))
        if length > 1:
            before = pairs.block(0, width, length - 1, width)
            trace.vector(before, None, sides.whole.block(row + 1, 0, length - 1, width))
    dense, out = (trace.value(f"{label} {name}", step.rows, outputs)
                  for name in ("convolution", "convolved"))
    trace.linear(sides.whole, convolution.linear, dense, f"{label} convolution")
    trace.activate(dense.whole, convolution.activation, out)
    return out


def _tokens(trace: Tracer, embedding: Tokens, ids: np.ndarray, segments: np.ndarray | None,
            step: Step, out: Value) -> None:
    """Rows of the table that ``ids`` name, + position, + segment."""
    table = None
    if not embedding.neighbours:
        table = trace.parameter(embedding.table, Form.STORED, "token table")
    added: list[list[View]] = []
    if embedding.positions is not None:
        added.append(_positions(trace, embedding.positions, step))
    if segments is not None and embedding.segments is not None:
        kinds = trace.parameter(embedding.segments, Form.STORED, "segments").whole
        rows = trace.value(f"{step.label}segment rows", out.rows, out.columns)
        trace.gather(kinds, [_numbers(trace, "segment numbers", segments)], rows)
        count = 1 if embedding.positions is None else step.sequences
        added.append([rows.whole.row_block(index * (rows.rows // count), rows.rows // count)
                      for index in range(count)])
    elif embedding.segment is not None:
        added.append([trace.parameter(embedding.segment, Form.STORED, "segment").whole])
    x = out.whole
    if added:
        x = trace.value(f"{out.name} rows", out.rows, out.columns).whole
    given = x if embedding.row_projection is None else trace.value(
        f"{step.label}narrow rows", x.rows, embedding.row_projection.weight.shape[1]).whole
    factor = None if embedding.factor == 1 else Factor(embedding.factor)
    if table is None:
        _with_neighbours(trace, embedding.table, ids, given, factor)
    else:
        # Positions repeat with each sequence: it is a command of its own.
        count = 1 if embedding.positions is None else step.sequences
        numbers = [_numbers(trace, "ids", part) for part in np.split(ids.ravel(), count)]
        trace.gather(table.whole, numbers, given, factor)
    if embedding.row_projection is not None:
        trace.linear(given, embedding.row_projection, x, f"{out.name} rows")
    for index, views in enumerate(added):
        last = index == len(added) - 1
        to = out if last else trace.value(f"{out.name} with positions", out.rows, out.columns)
        trace.add(x, views, to)
        x = to.whole


def _numbers(trace: Tracer, name: str, numbers: np.ndarray) -> Value:
    """Row numbers that a gather reads."""
    return trace.constant(name, numbers.size, 1, numbers.ravel, Form.INDICES)


def _with_neighbours(trace: Tracer, table: np.ndarray, ids: np.ndarray, out: View,
                     factor: Factor | None) -> None:
    """The row before, the row and the row after it side by side; beyond a sequence's ends stands
    one of zeros, which the table gets at its own end."""
    words, width = table.shape
    rows = trace.shared(("with zeros", id(table)), "token table", (words + 1, width), Form.STORED,
                        lambda: np.concatenate([table, np.zeros((1, width), table.dtype)]), table)
    padded = np.pad(ids, ((0, 0), (1, 1)), constant_values=words)
    for shift in range(3):
        part = padded[:, shift:shift + ids.shape[1]]
        trace.gather(rows.whole, [_numbers(trace, f"ids {shift - 1:+d}", part)],
                     out.block(0, shift * width, out.rows, width), factor)


def trace_final(trace: Tracer, model: Transformer, x: Value, step: Step) -> None:
    """Final norm, pooling and head. Of a causal model only each sequence's last position counts
    after the last layer, of one with ``first`` pooling only its first; those that pad never do."""
    uses = layer_uses(model.blocks[-1])
    view = _read_last(trace, model, x, step)
    if model.final_norm is not None:
        name = f"{step.label}final norm"
        x = trace.value(name, *view.shape, Life.RESULT, labelled=True)
        trace.norm(view, model.final_norm, x, name)
        view, uses = x.whole, (Use.LANES,)
    if model.pooling.startswith("mean"):
        x = _mean(trace, model.pooling, view, step)
        view, uses = x.whole, (Use.LANES,)
    elif model.pooling == "first_two":
        view = view.joined(step.length).block(0, 0, step.sequences, 2 * view.columns)
    elif model.pooling == "first_l2":
        x = trace.value(f"{step.label}pooled", *view.shape, Life.RESULT, labelled=True)
        trace.vector(view, UnitLength(L2_EPSILON), x)
        view, uses = x.whole, (Use.LANES,)
    if model.transform is not None:
        view = trace_transform(trace, model.transform, view, f"{step.label}head")[-1].whole
    if model.head is None:
        trace.output(x, *uses)
        return
    out = trace.value(f"{step.label}head", view.rows, len(model.head.weight), Life.RESULT,
                      labelled=True, forms=(Form.WIDE,))
    if model.cap is None:
        trace.linear(view, model.head, out, "head")
        return
    plain = trace.value(f"{step.label}head without cap", *out.shape)
    trace.linear(view, model.head, plain, "head")
    trace.cap(plain.whole, model.cap, out, f"{step.label}head")


def trace_transform(trace: Tracer, transform: Transform, x: View, label: str
                    ) -> tuple[Value, Value, Value]:
    """The first part of a head: what its linear layer gives, the activation of that, its norm."""
    shape = x.rows, len(transform.linear.weight)
    dense, bent = (trace.value(f"{label} {name}", *shape) for name in ("dense", "activated"))
    trace.linear(x, transform.linear, dense, f"{label} dense")
    if transform.activation is None:
        bent = dense
    else:
        trace.activate(dense.whole, transform.activation, bent)
    if transform.norm is None:
        return dense, bent, bent
    normed = trace.value(f"{label} norm", *shape)
    trace.norm(bent.whole, transform.norm, normed, f"{label} norm")
    return dense, bent, normed


def _read_last(trace: Tracer, model: Transformer, x: Value, step: Step) -> View:
    """The positions that are read after the last layer: all, or one of each sequence."""
    first = model.pooling in ("first", "first_l2")
    if not first and model.pooling != "last" and not (
            model.pooling == "none" and model.blocks[-1].attention.causal and not step.every):
        return x.whole
    positions = _positions_read(first, step)
    if len(set(positions)) == 1:
        return x.whole.every(step.length, positions[0])
    rows = np.array(positions) + step.length * np.arange(step.sequences)
    indices = trace.constant("last positions", len(rows), 1, lambda: rows, Form.INDICES)
    out = trace.value(f"{step.label}last positions", len(rows), x.columns)
    trace.gather(x.whole, [indices], out)
    return out.whole


def _positions_read(first: bool, step: Step) -> list[int]:
    """Of each sequence the first or the last position in this step that does not pad it."""
    if step.valid is None:
        last = step.length - 1 if step.last is None else step.last
        return [0 if first else last] * step.sequences
    found = []
    for valid in step.valid[:, step.past:step.total]:
        used = np.flatnonzero(valid)
        # A step may have none: whatever is read then, later ones count.
        found.append(int(used[0 if first else -1]) if len(used) else step.length - 1)
    return found


def _mean(trace: Tracer, pooling: str, x: View, step: Step) -> Value:
    """The mean over each sequence's valid positions, for ``mean_l2`` divided by its length.

    x is transposed, which makes a mean over positions one over a row, a single item.
    """
    out = trace.value(f"{step.label}pooled", step.sequences, x.columns, Life.RESULT,
                      labelled=True)
    transposed = trace.value("pooling transposed", x.columns, x.rows, Life.SCRATCH)
    mean = out if pooling == "mean" else trace.value("pooling mean", *out.shape, Life.SCRATCH)
    trace.vector(x, None, transposed, transposed=True)
    for sequence, (count, weights) in enumerate(_valid(trace, step)):
        part = transposed.whole.block(0, sequence * step.length, x.columns, step.length)
        trace.vector(part, Mean(count, weights), mean.whole.row_block(sequence, 1),
                     transposed=True)
    if pooling == "mean_l2":
        trace.vector(mean.whole, UnitLength(L2_EPSILON), out)
    return out


def _valid(trace: Tracer, step: Step) -> Iterator[tuple[int, View | None]]:
    """Of each sequence how many positions count, and 1 or 0 for each unless all do."""
    for sequence in range(step.sequences):
        valid = np.ones(step.length, bool) if step.valid is None else step.valid[sequence]
        weights = None
        if step.renewed and step.valid is not None:
            weights = trace.shared(("valid",), "valid positions", step.valid.shape, Form.WIDE,
                                   lambda: step.valid.astype(float)).whole.row_block(sequence, 1)
        elif not valid.all():
            weights = trace.shared(("valid", valid.tobytes()), "valid positions",
                                   (1, valid.size), Form.WIDE,
                                   lambda valid=valid: valid[None].astype(float)).whole
        yield int(valid.sum()), weights
