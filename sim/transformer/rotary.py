"""Rotary embedding as vector commands.

With c and s the cosines and sines of a row's position, and halves q₁ q₂ of each head:

    t  = q ⊙ [s, −s]           one command over whole heads, BF16
    q₁ = q₁ ⊙ c + t₂           one command a half, the product kept on chip
    q₂ = q₂ ⊙ c + t₁

S × (heads · d) is seen as (S · heads) × d. Pairs that lie interleaved in the model are brought to
the two halves by the order of the rows of Wq and Wk, which leaves the scores' terms the same.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hdl.spec.commands import Destination, Operand
from sim.lowering import Instruction
from sim.models.description import Attention, Linear, Rotary
from sim.tensor import Tensor

from .emitter import WIDE, Emitter
from .inputs import Step

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


def _heads(tensor: Tensor, size: int) -> Tensor:
    """S × (heads · d) as (S · heads) × d: the same bytes, rows dense."""
    heads = tensor.columns // size
    return replace(tensor, rows=tensor.rows * heads, columns=size,
                   stride=size * tensor.item_bytes)


def _tables(low: Emitter, rotary: Rotary, size: int, heads: int, step: Step
            ) -> tuple[Tensor, Tensor]:
    """c, (S · heads) × d/2, and [s, −s], (S · heads) × d, in BF16, for all layers the same."""
    key = (rotary, size, heads, step.sequences, step.past, step.length)

    def angles() -> np.ndarray:
        position = np.arange(step.past, step.total, dtype=np.float64)
        rate = rotary.base ** (-2.0 * np.arange(size // 2) / size)
        rows = np.repeat(position[:, None] * rate, heads, axis=0)
        return np.tile(rows, (step.sequences, 1))

    def sines() -> np.ndarray:
        return np.concatenate([np.sin(angles()), -np.sin(angles())], axis=1)

    where = f"{step.past} on, {heads} heads"
    return (low.derived(("cos", *key), lambda: np.cos(angles()), WIDE, f"cosines of {where}"),
            low.derived(("sin", *key), sines, WIDE, f"sines of {where}"))


def rotate(low: Emitter, rotary: Rotary, size: int, parts: Sequence[tuple[Tensor, Tensor, str]],
           step: Step) -> None:
    """Of each ``(x, out, name)``: out = x with each head rotated, both S × (heads · ``size``).

    All first commands come before all second ones: one fence between them serves all parts.
    """
    crossed = [low.take(f"{name} crossed", *x.shape, WIDE) for x, _, name in parts]
    tables = [_tables(low, rotary, size, x.columns // size, step) for x, _, _ in parts]
    for (x, _, _), t, (_, sines) in zip(parts, crossed, tables, strict=True):
        low.builder.vector(_heads(x, size), _heads(t, size), bias=sines,
                           instructions=[Instruction(multiply=Operand.Y,
                                                     destination=Destination.MEMORY)])
    half = size // 2
    for (x, out, _), t, (cosines, _) in zip(parts, crossed, tables, strict=True):
        x, out, t = (_heads(tensor, size) for tensor in (x, out, t))
        for own, other in ((0, half), (half, 0)):
            low.builder.vector(
                x.block(0, own, x.rows, half), out.block(0, own, x.rows, half), bias=cosines,
                y1=t.block(0, other, x.rows, half), instructions=[
                    Instruction(multiply=Operand.Y, destination=Destination.BUFFER),
                    Instruction(add=Operand.Y, y=1, destination=Destination.MEMORY)])
    low.give(*crossed)
