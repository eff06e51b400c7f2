"""From the logits to the last layer as ops: loss, head, pooling, final norm."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from compiler.checkpoints.description import Norm, Transformer
from compiler.checkpoints.inputs import Step
from compiler.lowering import backward_lists as lists
from compiler.lowering.ends import L2_EPSILON
from compiler.lowering.lane_ops import Softmax
from compiler.lowering.ops import Product
from compiler.lowering.values import Form, Value, View
from compiler.program.epilogue import Epilogue
from compiler.program.tensor import Tensor
from compiler.training.gradients.parameters import block_name
from compiler.training.programs.backward import by_gain, normalised_back
from compiler.training.programs.context import Context, operand, wide
from compiler.training.programs.factors import Share

__all__ = ["classes_loss", "ends_backward", "pooled_rows", "trace_vocabulary",
           "vocabulary_backward", "vocabulary_loss"]


def classes_loss(ctx: Context, logits: Value, accurate: bool) -> Value:
    """The gradient of the mean cross-entropy of ``logits``, sequences × classes, site ``loss``.

    ``accurate``: the build's own softmax serves. Labels are row numbers of an identity matrix, a
    constant called ``labels`` that the host writes anew for each batch.
    """
    trace, (rows, classes) = ctx.trace, logits.shape
    p = _probabilities(ctx, logits, accurate)
    unit = trace.constant("identity", classes, classes, lambda: np.eye(classes), Form.STORED)
    labels = trace.constant("labels", rows, 1, lambda: np.zeros(rows, np.int64), Form.INDICES)
    d = ctx.site("loss", rows, classes)
    factor = ctx.factors.factor(1 / rows, "loss")
    trace.gather(unit.whole, [labels], d, ctx.storing(
        "cross-entropy back", lambda y: lists.cross_entropy_backward(y[0], factor), [wide(p)]))
    ctx.stored(d)
    return d


def trace_vocabulary(ctx: Context, model: Transformer, x: Value) -> Value:
    """The logits of every position, over the vocabulary, of the last layer's ``x``."""
    if model.final_norm is None or model.head is None:
        raise ValueError(f"{model.name} must have a final norm and a head to be trained on a "
                         "vocabulary")
    normed = ctx.trace.value("final norm", *x.shape)
    ctx.trace.norm(x.whole, model.final_norm, normed, "final norm")
    logits = ctx.trace.value("head", x.rows, len(model.head.weight), forms=(Form.WIDE,))
    ctx.trace.linear(normed.whole, model.head, logits, "head")
    return logits


def vocabulary_loss(ctx: Context, logits: Value, accurate: bool) -> Value:
    """As ``classes_loss``, of each position's logits and the next one's id; a sequence's last
    position has none. The host writes a one-hot row for each position, ``labels``."""
    trace, step = ctx.trace, ctx.step
    p = _probabilities(ctx, logits, accurate)
    labels = trace.constant("labels", *logits.shape, lambda: np.zeros(logits.shape), Form.STORED)
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


def vocabulary_backward(ctx: Context, model: Transformer, d: Value, last: Value, weight: View,
                        gain: Callable[[Norm], Value]) -> Value:
    """As ``ends_backward``, of every position's logits; the head is not trained."""
    h = ctx.site("final norm h", *last.shape)
    ctx.gemm(h.name, d.whole, weight, h, by_gain(ctx.factors.factor(1.0, h.name, d.name)),
             operand(gain(model.final_norm)), b_transposed=False)
    return normalised_back(ctx, model.final_norm, last, h, "final norm d")


def ends_backward(ctx: Context, model: Transformer, d: Value, pooled: View, last: Value,
                  weight: View, gain: Callable[[Norm], Value], mean: Value | None) -> Value:
    """The gradient of the last layer's result, of that of the logits ``d``, as that layer's
    ``LayerBackward`` takes it. ``pooled``: what the head reads; ``last``: the layer's result;
    ``weight``: the head's; ``mean``: what is divided by its length to be pooled, if it is."""
    share = ctx.training.micro / ctx.training.batch
    if "head.weight" in ctx.layout.places:
        ctx.gradient(["head.weight"], d.whole, pooled, ctx.factors.factor(share, "", d.name))
    if "head.bias" in ctx.layout.places:
        _column_sums(ctx, d, ctx.in_layout(ctx.gradients, "head.bias"),
                     ctx.factors.factor(share, "", d.name))
    dp = _pooled(ctx, d, weight, mean)
    if model.final_norm is None and model.blocks[-1].pre_norm:
        return _unpooled(ctx, model, dp, "last residual", None)
    if model.final_norm is None:
        site = f"{block_name(len(model.blocks) - 1)} feed-forward h"
        return _unpooled(ctx, model, dp, site, gain(model.blocks[-1].feed_forward_norm))
    h = _unpooled(ctx, model, dp, "final norm h", gain(model.final_norm))
    return normalised_back(ctx, model.final_norm, last, h, "final norm d")


def _probabilities(ctx: Context, logits: Value, accurate: bool) -> Value:
    p = ctx.trace.value("probabilities of the loss", *logits.shape, forms=(Form.WIDE,))
    ctx.trace.vector(logits.whole, Softmax() if accurate else ctx.listed(
        "accurate softmax", lambda _: lists.accurate_softmax()), p)
    return p


def _column_sums(ctx: Context, d: Value, out: View, factor: float) -> None:
    """A row of ones times ``d``."""
    ones = ctx.trace.constant("row of ones", 1, d.rows, lambda: np.ones((1, d.rows)), Form.STORED)
    ctx.trace.gemm([Product(ones.whole, d.whole, out)], out, ctx.listed(
        "sums of columns", lambda y: Epilogue(factor, y[0] if ctx.adding else None), wide(out)),
        b_transposed=False)


def _pooled(ctx: Context, d: Value, weight: View, mean: Value | None) -> Value:
    """∂/∂ of the pooled rows, and a row of zeros after them for positions that get nothing.
    ``mean``: where these are divided by their length, the rows before that."""
    if ctx.factors.scaled:
        ctx.factors.site("pooled")
    rows, width = d.rows, weight.columns
    out = ctx.trace.constant("pooled gradient", rows + 1, width,
                             lambda: np.zeros((rows + 1, width)), Form.GRADIENT)
    ctx.sites["pooled"] = out
    factor, to = ctx.factors.factor(1.0, "pooled", d.name), out.whole.row_block(0, rows)
    if mean is None:
        ctx.trace.gemm([Product(d.whole, weight, to)], to,
                       ctx.storing("pooled", lambda _: Epilogue(factor)), b_transposed=False)
    else:
        unit = ctx.trace.value("unit gradient", rows, width, forms=(Form.WIDE,))
        ctx.trace.gemm([Product(d.whole, weight, unit.whole)], unit,
                       ctx.listed("× factor", lambda _: Epilogue(factor)), b_transposed=False)
        ctx.trace.vector(mean.whole, ctx.storing("pooled", lambda y: replace(
            lists.rms_norm_backward(y[0], L2_EPSILON), inverse_n=1.0), [wide(unit)]), to)
    ctx.stored(out, "pooled")
    return out


def _unpooled(ctx: Context, model: Transformer, dp: Value, site: str, gain: Value | None) -> Value:
    """Each position's share of its sequence's pooled gradient, times ``gain``."""
    step, length = ctx.step, ctx.step.length
    if model.pooling not in ("first", "mean", "mean_l2"):
        raise ValueError(f"pooling must be first, mean or mean_l2 to be trained through, "
                         f"not {model.pooling}")
    first = model.pooling == "first"
    numbers = ctx.trace.constant("rows of the pooled gradient", step.rows, 1,
                                 lambda: pooled_rows(first, _seen(step)), Form.INDICES)
    out = ctx.site(site, step.rows, dp.columns)
    read = [] if gain is None else [operand(gain)]
    if first or step.valid is None:
        factors: list[float] = [
            ctx.factors.factor(1.0 if first else 1 / length, site, "pooled")]
    else:
        factors = [Share(1 / length, index) for index in range(step.sequences)]
        ctx.share = ctx.factors.factor(1.0, site, "pooled")
    rows = step.rows // len(factors)
    for index, factor in enumerate(factors):
        def make(y: Sequence[Tensor], factor: float = factor) -> Epilogue:
            return lists.pooling_backward(y[0], factor) if y else Epilogue(factor)

        ctx.trace.gather(dp.whole, [numbers.whole.row_block(index * rows, rows)],
                         out.whole.row_block(index * rows, rows), ctx.storing(site, make, read))
    ctx.stored(out)
    return out


def _seen(step: Step) -> np.ndarray:
    return np.ones((step.sequences, step.length), bool) if step.valid is None else step.valid


def pooled_rows(first: bool, valid: np.ndarray) -> np.ndarray:
    """For each position the row of the pooled gradient that it gets a share of: its sequence's, or
    the one of zeros after them where it is not ``valid``, or not the ``first``."""
    sequences, length = valid.shape
    seen = np.broadcast_to(np.arange(length) == 0, valid.shape) if first else valid
    return np.where(seen.ravel(), np.repeat(np.arange(sequences), length), sequences)
