"""From the gradient of the logits to the last layer as ops: head, pooling, final norm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compiler.checkpoints.description import Norm, Transform, Transformer
from compiler.checkpoints.inputs import Step
from compiler.lowering import backward_lists as lists
from compiler.lowering.ends import L2_EPSILON, trace_transform
from compiler.lowering.ops import Product
from compiler.lowering.values import Form, Value, View
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from compiler.program.tensor import Tensor
from compiler.training.gradients.parameters import block_name
from compiler.training.programs.backward import by_gain, normalised_back
from compiler.training.programs.context import Context, operand, wide
from compiler.training.programs.factors import Share
from hdl.spec.commands import Destination, Operand

__all__ = ["ends_backward", "pooled_rows", "positions_backward", "trace_positions"]


@dataclass(frozen=True)
class Read:
    """What the forward pass from the last layer's result to the logits of every position has read:
    ``last`` that result, ``given`` what the last linear layer reads; of a head of two layers
    ``dense``, what the first one gives, and ``bent``, the activation of that."""

    last: Value
    given: Value
    dense: Value | None = None
    bent: Value | None = None


def trace_positions(ctx: Context, model: Transformer, x: Value) -> tuple[Value, Read]:
    """Every position's logits of the last layer's ``x``, and what is read for them."""
    last, dense, bent = x, None, None
    if model.final_norm is not None:
        normed = ctx.trace.value("final norm", *x.shape)
        ctx.trace.norm(x.whole, model.final_norm, normed, "final norm")
        x = normed
    if model.transform is not None:
        dense, bent, x = trace_transform(ctx.trace, model.transform, x.whole, "head")
    logits = ctx.trace.value("head", x.rows, len(model.head.weight), forms=(Form.WIDE,))
    ctx.trace.linear(x.whole, model.head, logits, "head")
    return logits, Read(last, x, dense, bent)


def ends_backward(ctx: Context, model: Transformer, d: Value, pooled: View, last: Value,
                  weight: View, gain: Callable[[Norm], Value], mean: Value | None) -> Value:
    """The gradient of the last layer's result, of that of the logits ``d``, as that layer's
    ``LayerBackward`` takes it. ``pooled``: what the head reads; ``last``: the layer's result;
    ``weight``: the head's; ``mean``: what is divided by its length to be pooled, if it is."""
    _head_gradients(ctx, d, pooled)
    dp = _pooled(ctx, d, weight, mean)
    site, norm = _site_before_head(model)
    h = _unpooled(ctx, model, dp, site, None if norm is None else gain(norm))
    return _before_final_norm(ctx, model, h, last)


def _site_before_head(model: Transformer) -> tuple[str, Norm | None]:
    """What the gradient of all positions is stored as, and the norm whose γ it is multiplied by."""
    if model.final_norm is not None:
        return "final norm h", model.final_norm
    if model.blocks[-1].pre_norm:
        return "last residual", None
    return (f"{block_name(len(model.blocks) - 1)} feed-forward h",
            model.blocks[-1].feed_forward_norm)


def _before_final_norm(ctx: Context, model: Transformer, h: Value, last: Value) -> Value:
    if model.final_norm is None:
        return h
    return normalised_back(ctx, model.final_norm, last, h, "final norm d")


def _head_gradients(ctx: Context, d: Value, given: View, turned: bool = False) -> None:
    """Those of weight and bias where they are trained, of what the head was ``given``."""
    factor = ctx.factors.factor(ctx.training.micro / ctx.training.batch, "", d.name)
    if "head.weight" in ctx.layout.places:
        ctx.gradient(["head.weight"], d.whole, given, factor, a_transposed=not turned)
    if "head.bias" in ctx.layout.places:
        _column_sums(ctx, d, ctx.in_layout(ctx.gradients, "head.bias"), factor, turned)


def positions_backward(ctx: Context, model: Transformer, d: Value, read: Read, weight: View,
                       gain: Callable[[Norm], Value], turned: bool = False) -> Value:
    """As ``ends_backward``, of every position's logits; ``read``: as ``trace_positions`` gives it.
    ``turned``: ``d`` is the transpose, logits × positions."""
    _head_gradients(ctx, d, read.given.whole, turned)
    if model.transform is not None:
        d = _transform_backward(ctx, model.transform, d, read, weight, gain)
        weight = ctx.trace.matrix("head dense weight", model.transform.linear.weight)
    site, norm = _site_before_head(model)
    h = _through(ctx, site, d, weight, read.last.shape, None if norm is None else gain(norm),
                 turned)
    return _before_final_norm(ctx, model, h, read.last)


def _through(ctx: Context, site: str, d: Value, weight: View, shape: tuple[int, int],
             gain: Value | None, turned: bool = False) -> Value:
    """``d`` or its transpose times ``weight``, times ``gain`` where a norm follows, as ``site``."""
    h, factor = ctx.site(site, *shape), ctx.factors.factor(1.0, site, d.name)
    read = [] if gain is None else [operand(gain)]
    return ctx.gemm(site, d.whole, weight, h, by_gain(factor) if read else lambda _: Epilogue(
        factor), *read, a_transposed=turned, b_transposed=False)


def _transform_backward(ctx: Context, transform: Transform, d: Value, read: Read, weight: View,
                        gain: Callable[[Norm], Value]) -> Value:
    """The gradient of what the first layer of a head gives, of that of the logits."""
    dense, bent, norm, activation = read.dense, read.bent, transform.norm, transform.activation
    assert dense and bent and norm and activation, "what ``check_trainable`` lets pass"
    h = _through(ctx, "head h", d, weight, bent.shape, gain(norm))
    d = normalised_back(ctx, norm, bent, h, "head d")
    slope = ctx.trace.value("head slope", *dense.shape, forms=(Form.STORED,))
    ctx.trace.vector(dense.whole, ctx.listed(
        f"slope of {activation}", lambda _: lists.activation_slope(activation)), slope)
    du, factor = ctx.site("head du", *dense.shape), ctx.factors.factor(1.0, "head du", d.name)
    ctx.trace.vector(d.whole, ctx.storing("head du", lambda y: Epilogue(
        factor, y[0], instructions=(Instruction(
            multiply=Operand.IMM0, scale=Operand.Y, destination=Destination.MEMORY),)),
        [operand(slope)]), du)
    ctx.stored(du)
    return du


def _column_sums(ctx: Context, d: Value, out: View, factor: float, turned: bool) -> None:
    """A row of ones times ``d``, or its transpose where that is what it holds."""
    rows = d.columns if turned else d.rows
    ones = ctx.trace.constant("row of ones", 1, rows, lambda: np.ones((1, rows)), Form.STORED)
    ctx.trace.gemm([Product(ones.whole, d.whole, out)], out, ctx.listed(
        "sums of columns", lambda y: Epilogue(factor, y[0] if ctx.adding else None), wide(out)),
        b_transposed=turned)


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
