"""Rotary embedding of queries and keys, by the commands of ``compiler.lowering.operations``.

Pairs that lie interleaved in the model are brought to
the two halves by the order of the rows of Wq and Wk, which leaves the scores' terms the same.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compiler.checkpoints.description import Attention, Linear, Rotary
from compiler.checkpoints.inputs import Step
from compiler.lowering.emitter import WIDE, Emitter
from compiler.lowering.operations import (
    heads_as_rows,
    rotary_halves,
    rotary_products,
    rotary_tables,
)
from compiler.program.tensor import Tensor

__all__ = ["halves_first", "rotate"]


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


def _tables(low: Emitter, rotary: Rotary, size: int, heads: int, step: Step
            ) -> tuple[Tensor, Tensor]:
    """c, (S · heads) × d/2, and [s, −s], (S · heads) × d, in BF16, for all layers the same."""
    key = (rotary, size, heads, step.sequences, step.past, step.length)

    def tables() -> tuple[np.ndarray, np.ndarray]:
        positions = np.tile(np.arange(step.past, step.total), step.sequences)
        return rotary_tables(positions, size, heads, rotary.base)

    where = f"{step.past} on, {heads} heads"
    return (low.derived(("cos", *key), lambda: tables()[0], WIDE, f"cosines of {where}"),
            low.derived(("sin", *key), lambda: tables()[1], WIDE, f"sines of {where}"))


def rotate(low: Emitter, rotary: Rotary, size: int, parts: Sequence[tuple[Tensor, Tensor, str]],
           step: Step) -> None:
    """Of each ``(x, out, name)``: out = x with each head rotated, both S × (heads · ``size``).

    All first commands come before all second ones: one fence between them serves all parts.
    """
    crossed = [low.take(f"{name} crossed", *x.shape, WIDE) for x, _, name in parts]
    tables = [_tables(low, rotary, size, x.columns // size, step) for x, _, _ in parts]
    for (x, _, _), t, (_, sines) in zip(parts, crossed, tables, strict=True):
        rotary_products(low.builder, heads_as_rows(x, size), sines, heads_as_rows(t, size))
    for (x, out, _), t, (cosines, _) in zip(parts, crossed, tables, strict=True):
        x, out, t = (heads_as_rows(tensor, size) for tensor in (x, out, t))
        rotary_halves(low.builder, x, cosines, t, out)
    low.give(*crossed)
