"""Rotary embedding of queries and keys.

With c and s of a row's position, and halves x₁ x₂ of each head::

    t  = x ⊙ [s, −s]           one command over whole heads, BF16
    x₁ = x₁ ⊙ c + t₂           one command per half, the product kept on chip
    x₂ = x₂ ⊙ c + t₁

Pairs that lie interleaved in a model are brought to the two halves by the order of the rows of Wq
and Wk, which leaves the scores' terms the same.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compiler.checkpoints.description import Attention, Linear, Rotary, Transformer
from compiler.checkpoints.inputs import Step
from compiler.lowering.operations import rotary_tables
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Form, Value, View

__all__ = ["halves_first", "model_halves_first", "rotate"]


def halves_first(attention: Attention) -> Attention:
    """The same attention with the pairs of each head in its two halves."""
    size = attention.head_size
    if size % 2:
        raise ValueError(f"rotary embedding takes heads of an even size, not {size}")
    if attention.rotary is None or not attention.rotary.interleaved:
        return attention
    order = np.concatenate([np.arange(0, size, 2), np.arange(1, size, 2)])

    def sorted_rows(linear: Linear) -> Linear:
        rows = (np.arange(len(linear.weight)).reshape(-1, size)[:, order]).ravel()
        bias = None if linear.bias is None else linear.bias[rows]
        return Linear(linear.weight[rows], bias)

    return replace(attention, query=sorted_rows(attention.query), key=sorted_rows(attention.key),
                   rotary=replace(attention.rotary, interleaved=False))


def model_halves_first(model: Transformer) -> Transformer:
    """The same model with the pairs of every head in its two halves."""
    if not any(block.attention.rotary for block in model.blocks):
        return model
    return replace(model, blocks=tuple(
        replace(block, attention=halves_first(block.attention)) for block in model.blocks))


def _tables(trace: Tracer, rotary: Rotary, size: int, heads: int, step: Step
            ) -> tuple[View, View]:
    """c, (S · heads) × d/2, and [s, −s], (S · heads) × d, in BF16, for all layers the same.

    Programs that share a cache read them out of tables of all its positions.
    """
    first, last, sequences = step.past, step.total, step.sequences
    if step.room is not None:
        first, last = 0, step.room
    key = (rotary, size, heads, sequences, first, last - first, step.beside)

    def tables() -> tuple[np.ndarray, np.ndarray]:
        positions = np.arange(first, last)
        # Side by side all sequences have a position's rows together.
        positions = (np.repeat if step.beside else np.tile)(positions, sequences)
        cosines, sines = rotary_tables(positions, size, heads, rotary.of_pairs(size))
        return rotary.factor * cosines, rotary.factor * sines

    rows = (last - first) * sequences * heads
    where = f"{first} on, {heads} heads"
    cosines = trace.shared(("cos", *key), f"cosines of {where}", (rows, size // 2), Form.WIDE,
                           lambda: tables()[0])
    sines = trace.shared(("sin", *key), f"sines of {where}", (rows, size), Form.WIDE,
                         lambda: tables()[1])
    each = heads * (sequences if step.beside else 1)
    own = (step.past + step.shift - first) * each, step.rows * heads
    return cosines.whole.row_block(*own), sines.whole.row_block(*own)


def rotate(trace: Tracer, rotary: Rotary, size: int, parts: Sequence[tuple[Value, View, str]],
           step: Step) -> None:
    """Of each ``(x, out, name)``: out = x with each head rotated, both S × (heads · ``size``).

    All first commands come before all second ones: one fence between them serves all parts.
    """
    crossed = [trace.value(f"{name} crossed", x.rows, x.columns) for x, _, name in parts]
    tables = [_tables(trace, rotary, size, x.columns // size, step) for x, _, _ in parts]
    for (source, _, _), crossing, (_, sines) in zip(parts, crossed, tables, strict=True):
        # Heads side by side: a few long rows in place of many short ones.
        beside = source.columns // size
        trace.multiply(source.whole, sines.joined(beside), crossing.whole)
    for (whole, into, name), middle, (cosines, _) in zip(parts, crossed, tables, strict=True):
        x, out, between = whole.whole.split(size), into.split(size), middle.whole.split(size)
        half = size // 2
        for own, other in ((0, half), (half, 0)):
            own_half, other_half = ((0, first, x.rows, half) for first in (own, other))
            scaled = trace.value(f"{name} × cosines", x.rows, half)
            trace.multiply(x.block(*own_half), cosines, scaled)
            trace.add(scaled.whole, [between.block(*other_half)], out.block(*own_half))
