"""What is added to scores: that it hides the keys that pad, and those ahead where it does."""

import numpy as np

from compiler.checkpoints.onnx.context import Context
from compiler.checkpoints.onnx.expressions import Masked, function_of, multiple
from compiler.checkpoints.onnx.format import Node
from compiler.checkpoints.onnx.symbols import Symbol

__all__ = ["masked"]

_HIDDEN = -1e3
"""What is added to a score that is to count nothing is no more than this."""


def masked(context: Context, node: Node, x: Symbol, known: np.ndarray) -> Symbol:
    """Scores ``x`` with ``known`` added; refused where that is no mask."""
    kinds = [atom.kind for axis in x.axes for atom in axis]
    shape = tuple(atom.size for axis in x.axes for atom in axis)
    values = np.broadcast_to(known, x.shape).reshape(shape)
    size = context.positions
    if kinds[-2:] != ["s", "k"]:
        raise context.refuse(node, f"add a mask to scores of queries and keys, not to {x.shape}")
    if "b" not in kinds:
        values = values[None]
    values = values.reshape(context.sequences, -1, size, size)
    valid = context.mask.astype(bool)
    causal = False
    for sequence, counts in zip(values, valid, strict=True):
        rows = sequence[:, counts]  # of queries that do not pad
        seen = np.broadcast_to(counts, (int(counts.sum()), size))
        ahead = np.triu(np.ones((size, size), bool), 1)[counts]
        if (rows[:, ahead & seen] <= _HIDDEN).all():
            causal, seen = True, seen & ~ahead
        if (abs(rows[:, seen]) > 1e-6).any():
            raise context.refuse(node, "add 0 to the scores of keys that are seen: biases of "
                                 "distance and other terms are not supported")
        hidden = rows[:, np.broadcast_to(~counts, seen.shape)]
        if not (hidden <= _HIDDEN).all():
            raise context.refuse(node, f"add {_HIDDEN:.0f} or less to the scores of keys that pad")
    if multiple(function_of(x.expression)[1]) is None:
        raise context.refuse(node, "add a mask to scores times a number")
    return x.of(Masked(node.label, x.expression, causal))
