"""From the logits to the last layer as ops: loss, head, pooling, final norm."""

from collections.abc import Callable

import numpy as np

from compiler.checkpoints.description import Norm, Transformer
from compiler.lowering import backward_lists as lists
from compiler.lowering.lane_ops import Softmax
from compiler.lowering.ops import Product
from compiler.lowering.values import Form, Value, View
from compiler.program.epilogue import Epilogue
from compiler.training.gradients.parameters import block_name
from compiler.training.programs.backward import normalised_back
from compiler.training.programs.context import Context, Make, operand, wide

__all__ = ["classes_loss", "ends_backward"]


def classes_loss(ctx: Context, logits: Value, accurate: bool) -> Value:
    """The gradient of the mean cross-entropy of ``logits``, sequences × classes, site ``loss``.

    ``accurate``: the build's own softmax serves. Labels are row numbers of an identity matrix, a
    constant called ``labels`` that the host writes anew for each batch.
    """
    trace, (rows, classes) = ctx.trace, logits.shape
    p = trace.value("probabilities of the loss", rows, classes, forms=(Form.WIDE,))
    trace.vector(logits.whole, Softmax() if accurate else ctx.listed(
        "accurate softmax", lambda _: lists.accurate_softmax()), p)
    unit = trace.constant("identity", classes, classes, lambda: np.eye(classes), Form.STORED)
    labels = trace.constant("labels", rows, 1, lambda: np.zeros(rows, np.int64), Form.INDICES)
    d = ctx.site("loss", rows, classes)
    factor = ctx.factors.factor(1 / rows, "loss")
    trace.gather(unit.whole, [labels], d, ctx.storing(
        "cross-entropy back", lambda y: lists.cross_entropy_backward(y[0], factor), [wide(p)]))
    ctx.stored(d)
    return d


def ends_backward(ctx: Context, model: Transformer, d: Value, pooled: Value, last: Value,
                  weight: View, gain: Callable[[Norm], Value]) -> Value:
    """The gradient of the last layer's result, of that of the logits ``d``, as that layer's
    ``LayerBackward`` takes it. ``pooled``: what the head reads; ``last``: the layer's result;
    ``weight``: the head's."""
    share = ctx.training.micro / ctx.training.batch
    if "head.weight" in ctx.layout.places:
        ctx.gradient(["head.weight"], d.whole, pooled.whole, ctx.factors.factor(share, "", d.name))
    if "head.bias" in ctx.layout.places:
        _column_sums(ctx, d, ctx.in_layout(ctx.gradients, "head.bias"),
                     ctx.factors.factor(share, "", d.name))
    dp = _pooled(ctx, d, weight)
    if model.final_norm is None and model.blocks[-1].pre_norm:
        return _unpooled(ctx, model, dp, "last residual", None)
    if model.final_norm is None:
        site = f"{block_name(len(model.blocks) - 1)} feed-forward h"
        return _unpooled(ctx, model, dp, site, gain(model.blocks[-1].feed_forward_norm))
    h = _unpooled(ctx, model, dp, "final norm h", gain(model.final_norm))
    return normalised_back(ctx, model.final_norm, last, h, "final norm d")


def _column_sums(ctx: Context, d: Value, out: View, factor: float) -> None:
    """A row of ones times ``d``."""
    ones = ctx.trace.constant("row of ones", 1, d.rows, lambda: np.ones((1, d.rows)), Form.STORED)
    ctx.trace.gemm([Product(ones.whole, d.whole, out)], out, ctx.listed(
        "sums of columns", lambda y: Epilogue(factor, y[0] if ctx.adding else None), wide(out)),
        b_transposed=False)


def _pooled(ctx: Context, d: Value, weight: View) -> Value:
    """∂/∂ of the pooled rows, and a row of zeros behind them for positions that get nothing."""
    if ctx.factors.scaled:
        ctx.factors.site("pooled")
    rows, width = d.rows, weight.columns
    out = ctx.trace.constant("pooled", rows + 1, width, lambda: np.zeros((rows + 1, width)),
                             Form.GRADIENT)
    ctx.sites["pooled"] = out
    factor = ctx.factors.factor(1.0, "pooled", d.name)
    ctx.trace.gemm([Product(d.whole, weight, out.whole.row_block(0, rows))],
                   out.whole.row_block(0, rows),
                   ctx.storing("pooled", lambda _: Epilogue(factor)), b_transposed=False)
    ctx.stored(out)
    return out


def _unpooled(ctx: Context, model: Transformer, dp: Value, site: str, gain: Value | None) -> Value:
    """Each position's share of its sequence's pooled gradient, times ``gain``."""
    step, length = ctx.step, ctx.step.length
    sequences = np.repeat(np.arange(step.sequences), length)
    if model.pooling == "first":
        sequences[np.arange(step.rows) % length != 0] = step.sequences
    elif model.pooling != "mean":
        raise ValueError(f"pooling must be first or mean to be trained through, "
                         f"not {model.pooling}")
    numbers = ctx.trace.constant("rows of the pooled gradient", step.rows, 1,
                                 lambda: sequences, Form.INDICES)
    out = ctx.site(site, step.rows, dp.columns)
    factor = ctx.factors.factor(1.0 if model.pooling == "first" else 1 / length, site, "pooled")
    make: Make = (lambda _: Epilogue(factor)) if gain is None else (
        lambda y: lists.pooling_backward(y[0], factor))
    ctx.trace.gather(dp.whole, [numbers], out, ctx.storing(
        site, make, [] if gain is None else [operand(gain)]))
    ctx.stored(out)
    return out
