"""Losses and their gradients: cross-entropy over classes, a vocabulary, positions of a text, or
classes of each position.

Of one row with probabilities p and label c: loss −log pᶜ, gradient p − e(c). A loss is the mean
over its rows, so that the gradient is divided by their number.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from compiler.training.gradients.numerics import Array, Exact

__all__ = ["LOSSES", "LossKind", "cross_entropy", "labelled", "loss_of", "next_told",
           "rows_counted"]

LossKind = Literal["classes", "vocabulary", "spans", "tokens"]


def cross_entropy(numerics: Exact, logits: Array, labels: Array) -> tuple[float, Array]:
    """Mean over the rows of ``logits``, rows × classes, and lane values of its gradient."""
    n, rows = numerics, np.arange(len(labels))
    wide = logits.astype(np.float64)
    wide = wide - wide.max(axis=1, keepdims=True)
    loss = float((np.log(np.exp(wide).sum(axis=1)) - wide[rows, labels]).mean())
    gradient = n.wide(n.lane(n.loss_softmax(logits)))
    gradient[rows, labels] = n.lane(gradient[rows, labels] - 1)
    return loss, n.lane(gradient * n.wide_constant(np.asarray(1 / len(labels))))


def _classes(n: Exact, logits: Array, labels: Array, valid: Array | None) -> tuple[float, Array]:
    return cross_entropy(n, logits, labels)


def _vocabulary(n: Exact, logits: Array, labels: Array, valid: Array | None
                ) -> tuple[float, Array]:
    """Each position's logits against the next position's id, where both are valid."""
    counted = next_told(labels, valid)
    gradient = np.zeros_like(logits)
    loss, gradient[:, :-1][counted] = cross_entropy(
        n, logits[:, :-1][counted], labels[:, 1:][counted])
    return loss, gradient


def next_told(ids: Array, valid: Array | None) -> Array:
    """B × (S − 1): whether a position's next id counts."""
    counted = np.ones(ids.shape, bool) if valid is None else valid
    return counted[:, 1:] & counted[:, :-1]


def labelled(labels: Array, valid: Array | None) -> Array:
    """B × S: whether a position has a label of its own."""
    counted = labels >= 0
    return counted if valid is None else counted & valid


def rows_counted(kind: LossKind, labels: Array, valid: Array | None = None) -> int:
    """How many rows a loss is the mean of; arguments as for ``loss_of``."""
    if kind == "tokens":
        return int(labelled(labels, valid).sum())
    return int(next_told(labels, valid).sum()) if kind == "vocabulary" else len(labels)


def _tokens(n: Exact, logits: Array, labels: Array, valid: Array | None) -> tuple[float, Array]:
    """Each position's logits against its own label, where it has one."""
    counted = labelled(labels, valid)
    gradient = np.zeros_like(logits)
    loss, gradient[counted] = cross_entropy(n, logits[counted], labels[counted])
    return loss, gradient


def _spans(n: Exact, logits: Array, labels: Array, valid: Array | None) -> tuple[float, Array]:
    """Column 0 of the logits says where a span begins, column 1 where it ends, each a softmax over
    the valid positions; the loss is the mean of both."""
    sequences, length, _ = logits.shape
    rows = logits.transpose(2, 0, 1)
    if valid is not None:
        rows = np.where(valid, rows, n.masked).astype(logits.dtype)
    loss, gradient = cross_entropy(n, rows.reshape(-1, length), labels.T.ravel())
    return loss, gradient.reshape(2, sequences, length).transpose(1, 2, 0)


LOSSES: dict[str, Callable[[Exact, Array, Array, Array | None], tuple[float, Array]]] = {
    "classes": _classes, "vocabulary": _vocabulary, "spans": _spans, "tokens": _tokens}


def loss_of(kind: LossKind, numerics: Exact, logits: Array, labels: Array,
            valid: Array | None = None) -> tuple[float, Array]:
    """The loss, of the logits as they are, and its gradient as it is stored, site ``loss``.

    =============== ========================= ==========================================
    kind            logits                    labels
    =============== ========================= ==========================================
    ``classes``     B × classes               B classes
    ``vocabulary``  B × S × words             B × S ids, those of the input
    ``spans``       B × S × 2                 B × 2 positions, first and last
    ``tokens``      B × S × classes           B × S classes, below 0 where a position has none
    =============== ========================= ==========================================

    ``valid``: B × S, False where a position only pads. ``ValueError`` for shapes that do not fit.
    """
    wanted = {"classes": logits.shape[:1], "vocabulary": logits.shape[:2],
              "spans": (logits.shape[0], 2), "tokens": logits.shape[:2]}
    if kind not in wanted:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, not {kind!r}")
    dimensions = 2 if kind == "classes" else 3
    if logits.ndim != dimensions or (kind == "spans" and logits.shape[2] != 2):
        raise ValueError(f"logits of {kind} must have {dimensions} dimensions"
                         f"{', the last of 2' if kind == 'spans' else ''}, "
                         f"not shape {logits.shape}")
    if labels.shape != wanted[kind]:
        raise ValueError(f"labels of {kind} must be of shape {wanted[kind]}, not {labels.shape}")
    if kind == "tokens" and not labelled(labels, valid).any():
        raise ValueError("labels of tokens must be there for one valid position at least")
    loss, gradient = LOSSES[kind](numerics, logits, labels, valid)
    return loss, numerics.gradient("loss", gradient)
