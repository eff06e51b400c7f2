"""The gradients of losses as ops, each of its logits, site ``loss``."""

import numpy as np

from compiler.lowering import backward_lists as lists
from compiler.lowering.lane_ops import LaneOp, Softmax
from compiler.lowering.masks import padding_masks
from compiler.lowering.values import Form, Value, View
from compiler.program.epilogue import Epilogue
from compiler.training.programs.context import Context, operand, wide
from compiler.training.programs.factors import Share

__all__ = ["COUNTED", "classes_loss", "spans_loss", "tokens_loss", "vocabulary_loss"]

COUNTED = "rows that count"
"""Row numbers that the host writes where a loss leaves out some positions."""


def classes_loss(ctx: Context, logits: Value, accurate: bool) -> Value:
    """The gradient of the mean cross-entropy of ``logits``, sequences × classes, site ``loss``.

    ``accurate``: the build's own softmax serves.
    """
    rows, classes = logits.shape
    p = _probabilities(ctx, logits.whole, accurate)
    d = ctx.site("loss", rows, classes)
    _less_labels(ctx, p, d.whole)
    ctx.stored(d)
    return d


def vocabulary_loss(ctx: Context, logits: Value, accurate: bool) -> Value:
    """As ``classes_loss``, of each position's logits and the next one's id; a sequence's last
    position has none. The host writes a one-hot row for each position, ``labels``."""
    trace, step = ctx.trace, ctx.step
    labels = trace.constant("labels", *logits.shape, lambda: np.zeros(logits.shape), Form.STORED)
    if step.valid is not None:
        return _counted(ctx, logits, labels, accurate)
    p = _probabilities(ctx, logits.whole, accurate)
    if ctx.factors.scaled:
        ctx.factors.site("loss")
    d = trace.constant("loss", *logits.shape, lambda: np.zeros(logits.shape), Form.GRADIENT)
    ctx.sites["loss"] = d
    counted = step.length - 1
    factor = ctx.factors.factor(1 / (step.sequences * counted), "loss")
    for sequence in range(step.sequences):
        rows = sequence * step.length, counted
        trace.vector(labels.whole.row_block(*rows), ctx.storing(
            "cross-entropy back", lambda y: lists.cross_entropy_backward(y[0], factor),
            [wide(p.whole.row_block(*rows))]), d.whole.row_block(*rows))
    ctx.stored(d)
    return d


def tokens_loss(ctx: Context, logits: Value, accurate: bool) -> Value:
    """As ``vocabulary_loss``, of each position's logits and its own label where it has one."""
    labels = ctx.trace.constant("labels", *logits.shape, lambda: np.zeros(logits.shape),
                                Form.STORED)
    return _counted(ctx, logits, labels, accurate)


def _counted(ctx: Context, logits: Value, labels: Value, accurate: bool) -> Value:
    """Where not every position counts, of sequences that may be padded say: rows of the
    probabilities by number, the position's own or a row of zeros after all, where its label is
    zeros, too. One over the number of rows that count is data: the word of the first ``Share``."""
    trace, (rows, words) = ctx.trace, logits.shape
    p = trace.constant("probabilities of the loss", rows + 1, words,
                       lambda: np.zeros((rows + 1, words)), Form.WIDE)
    trace.vector(logits.whole, _softmax(ctx, accurate), p.whole.row_block(0, rows))
    numbers = trace.constant(COUNTED, rows, 1, lambda: np.arange(rows), Form.INDICES)
    d = ctx.site("loss", rows, words)
    ctx.share = ctx.factors.factor(1.0, "loss")
    trace.gather(p.whole, [numbers], d, ctx.storing(
        "cross-entropy back", lambda y: lists.less_labels(y[0], Share(1 / rows, 0)),
        [operand(labels)]))
    ctx.stored(d)
    return d


def spans_loss(ctx: Context, logits: Value, accurate: bool) -> Value:
    """As ``classes_loss``, of each position's two logits, where a span begins and where it ends:
    2 × positions, the transpose of the logits.

    The first logits of all sequences are rows of S classes, the second ones those after them;
    ``labels`` has first and last positions in that order. What only pads is masked.
    """
    trace, step = ctx.trace, ctx.step
    turned = trace.value("logits transposed", *logits.shape[::-1], forms=(Form.WIDE,))
    trace.vector(logits.whole, None, turned, transposed=True)
    p = _probabilities(ctx, turned.whole.split(step.length), accurate,
                       padding_masks(trace, step))
    d = ctx.site("loss", *turned.shape)
    _less_labels(ctx, p, d.whole.split(step.length))
    ctx.stored(d)
    return d


def _probabilities(ctx: Context, logits: View, accurate: bool, masks: Value | None = None
                   ) -> Value:
    """Of each row of ``logits``; ``masks`` has a row of each sequence, as often as that goes."""
    p = ctx.trace.value("probabilities of the loss", *logits.shape, forms=(Form.WIDE,))
    softmax = _softmax(ctx, accurate)
    if masks is not None:
        softmax = ctx.listed_blocks("softmax with a mask", lambda y: Epilogue(
            bias=y[0], softmax=True) if accurate else lists.accurate_softmax(y[0]),
            [[wide(masks)]] * (p.rows // masks.rows))
    ctx.trace.vector(logits, softmax, p)
    return p


def _softmax(ctx: Context, accurate: bool) -> LaneOp:
    return Softmax() if accurate else ctx.listed(
        "accurate softmax", lambda _: lists.accurate_softmax())


def _less_labels(ctx: Context, p: Value, out: View) -> None:
    """(p − e) / rows, e the rows of an identity matrix that the ``labels`` name: row numbers, a
    constant that the host writes anew for each batch."""
    rows, classes = p.shape
    unit = ctx.trace.constant("identity", classes, classes, lambda: np.eye(classes), Form.STORED)
    labels = ctx.trace.constant("labels", rows, 1, lambda: np.zeros(rows, np.int64), Form.INDICES)
    factor = ctx.factors.factor(1 / rows, "loss")
    ctx.trace.gather(unit.whole, [labels], out, ctx.storing(
        "cross-entropy back", lambda y: lists.cross_entropy_backward(y[0], factor), [wide(p)]))
