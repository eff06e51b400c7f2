"""Program U: clipping, the optimiser, weights of the next step, scales of the next step.

One matrix holds all trained arrays (``layout``), so that each rule is one command whatever they
are. ``moved`` is where the masters go; ``high`` keeps them as they were until the next update.
"""

from dataclasses import dataclass, replace

import numpy as np

from compiler.lowering import update_lists
from compiler.lowering.backward_lists import clip_factor, row_squares, row_sums
from compiler.lowering.update_lists import State
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.scalar import Scalar
from compiler.program.tensor import Tensor
from compiler.training.description import AdamW, LowRank, Momentum, Training
from compiler.training.gradients.weights import INNER_LOG2
from compiler.training.layout import Layout, Place
from compiler.training.programs.scales import CLIP, DECAY, RATE, ScaleTables, emit_scales

__all__ = ["Merge", "Placed", "UpdateTensors", "emit_start", "emit_update", "place_update"]


@dataclass(frozen=True)
class Merge:
    """A matrix with an adapter: ``merged`` is what the forward pass reads, ``plain`` W₀."""

    layer: str
    plain: Tensor
    merged: Tensor


@dataclass(frozen=True)
class Placed:
    """An adapter beside its matrix: ``a``, and ``b``, which is 2^INNER_LOG2 · scale · B."""

    layer: str
    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class UpdateTensors:
    """``trained``: the masters in the format, where there are adapters to merge; ``renewed``: by
    array, what the forward pass reads of those that are trained themselves. ``squares``: a row's
    sum of squares each; ``groups``: their sums by group of rows, where there are several."""

    state: State
    trained: Tensor | None
    squares: Tensor
    groups: Tensor | None
    merges: tuple[Merge, ...]
    placed: tuple[Placed, ...]
    renewed: dict[str, Tensor]
    tables: ScaleTables
    largest: Tensor | None


def place_update(builder: ProgramBuilder, training: Training, layout: Layout, gradients: Tensor,
                 trained: Tensor | None, merges: tuple[Merge, ...], placed: tuple[Placed, ...],
                 renewed: dict[str, Tensor], tables: ScaleTables, largest: Tensor | None
                 ) -> UpdateTensors:
    """Memory for the masters and moments, which start at 0."""
    def zeros(name: str) -> Tensor:
        return builder.constant(np.zeros((layout.rows, layout.columns)), "bf16", name=name)

    optimiser = training.optimiser
    moments = 2 if isinstance(optimiser, AdamW) else int(isinstance(optimiser, Momentum))
    first, second = [zeros(name) for name in ("first moments", "second moments")[:moments]] + [
        None] * (2 - moments)
    state = State(gradients, zeros("masters before"), zeros("masters, lower words"),
                  zeros("masters"), builder.empty(layout.rows, layout.columns, "bf16",
                                                  name="updates"), first, second)
    squares = builder.empty(1, layout.rows, "bf16", name="squares of gradients")
    groups = None if layout.groups == 1 else builder.empty(
        1, layout.groups, "bf16", name="squares of groups of rows")
    return UpdateTensors(state, trained, squares, groups, merges, placed, renewed, tables, largest)


def emit_start(builder: ProgramBuilder, training: Training, layout: Layout, own: UpdateTensors
               ) -> None:
    """What the forward pass reads, of the masters as they are, and the first scales."""
    _renew(builder, training, layout, own)
    emit_scales(builder, own.tables, None)


def emit_update(builder: ProgramBuilder, training: Training, layout: Layout, own: UpdateTensors
                ) -> None:
    """One update, with −η in the word RATE, and −η · λ in DECAY where weights decay."""
    state, optimiser, tables = own.state, training.optimiser, own.tables
    builder.vector(state.moved, state.high)
    builder.vector(state.gradient, own.squares, row_squares(), out_transposed=True)
    clip = None if training.clip is None else _clip(builder, training.clip, own)
    if clip is not None and not isinstance(optimiser, AdamW):
        builder.vector(state.gradient, state.gradient, Epilogue(clip))
    step = Scalar(tables.table, tables.word(RATE))
    if isinstance(optimiser, AdamW):
        update_lists.adamw(builder, state, step, optimiser.beta1, optimiser.beta2, optimiser.eps,
                           clip)
    elif isinstance(optimiser, Momentum):
        update_lists.momentum(builder, state, step, optimiser.momentum)
    else:
        update_lists.sgd(builder, state, step)
    if optimiser.decay:
        update_lists.decay(builder, state, Scalar(tables.table, tables.word(DECAY)))
    update_lists.add_to_pair(builder, state)
    _renew(builder, training, layout, own)
    emit_scales(builder, tables, own.largest)


def _clip(builder: ProgramBuilder, limit: float, own: UpdateTensors) -> Scalar:
    """min(1, ``limit`` / norm), of the squares of the gradients' rows."""
    table = own.tables.table
    number, squares = own.tables.word(CLIP), own.squares
    if own.groups is not None:
        rows = own.squares.columns // own.groups.columns
        builder.vector(replace(squares, rows=own.groups.columns, columns=rows,
                               stride=rows * squares.item_bytes), own.groups, row_sums(),
                       out_transposed=True)
        squares = own.groups
    builder.vector(squares, table.block(number, 0, 1, 1),
                   replace(clip_factor(limit), row_result=True))
    return Scalar(table, number)


def _renew(builder: ProgramBuilder, training: Training, layout: Layout, own: UpdateTensors) -> None:
    """What the forward pass reads: masters that are matrices and the head, and of each matrix with
    an adapter W₀ + s · B A, or A and B beside it."""
    if own.trained is not None:
        builder.vector(own.state.moved, own.trained)
    for name, tensor in own.renewed.items():
        builder.vector(_array(own.state.moved, layout.places[name], name), tensor)
    method = training.method
    if not isinstance(method, LowRank):
        return
    for placed in own.placed:
        a, b = (_array(own.state.moved, layout.places[name], name)
                for name in method.names(placed.layer))
        builder.vector(a, placed.a)
        builder.vector(b, placed.b, Epilogue(method.scale * 2.0 ** INNER_LOG2),
                       out_transposed=True)
    if own.trained is None:
        return
    for merge in own.merges:
        a, b = (_array(own.trained, layout.places[name], name)
                for name in method.names(merge.layer))
        builder.gemm(b, a, merge.merged, Epilogue(method.scale, merge.plain),
                     a_transposed=True)


def _array(matrix: Tensor, place: Place, name: str) -> Tensor:
    """An array's part of a matrix of all."""
    size = matrix.item_bytes
    return Tensor(name, matrix.address + size * place.start, place.rows, place.columns,
                  matrix.encoding, size * place.columns)
