"""A layer's backward pass as ops: gradients of its matrices, and of what it reads.

As ``compiler.training.gradients.block`` computes it, site by site; what is one rounding there is
one instruction here. Pre-norm layers take and give a stored gradient, that of the residual;
post-norm layers take γ ⊙ the gradient of their result and give that of the layer below.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from compiler.checkpoints.description import Block, Norm
from compiler.lowering import backward_lists as lists
from compiler.lowering.ops import Product
from compiler.lowering.saved import Saved
from compiler.lowering.values import Form, Value, View
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Fields, Instruction
from compiler.program.tensor import Tensor
from compiler.training.programs.attention import AttentionBackward
from compiler.training.programs.context import Context, Make, operand, wide
from compiler.training.programs.linear import LinearGradients
from compiler.training.programs.weave import Part, in_turns, rows_part, worth
from hdl.spec.commands import Destination, Function, Operand

__all__ = ["LayerBackward", "by_gain", "normalised_back"]

_STORE: Fields = {"destination": Destination.MEMORY}
_KEEP: Fields = {"destination": Destination.BUFFER}


def by_gain(factor: float) -> Make:
    """[× Y0 (γ), × ``factor``]."""
    return lambda y: Epilogue(factor, y[0], instructions=(
        Instruction(multiply=Operand.Y, scale=Operand.IMM0, **_STORE),))


def residual_by_gain(own: float, after: float) -> Make:
    """[× ``own``, + Y0 (residual)] [× Y1 (γ), × ``after``]."""
    return lambda y: Epilogue(own, y[0], imm1=after, y1=y[1], instructions=(
        Instruction(multiply=Operand.IMM0, add=Operand.Y, **_KEEP),
        Instruction(multiply=Operand.Y, y=1, scale=Operand.IMM1, **_STORE)))


def normalised_back(ctx: Context, norm: Norm, x: Value, h: Value, site: str,
                    residual: Value | None = None, beside: Sequence[Part] = ()) -> Value:
    """The gradient of the norm's input ``x``, plus that of the residual, as ``site``. ``beside``:
    what is done in turns with it."""
    out, factor = ctx.site(site, *x.shape), ctx.factors.factor
    emit = (partial(lists.layer_norm_backward, twice=norm.centred_twice)
            if norm.shift is not None else lists.rms_norm_backward)

    def make(y: Sequence[Tensor]) -> Epilogue:
        if residual is None:
            return emit(y[0], norm.eps, factor(1.0, site, h.name))
        return emit(y[0], norm.eps, factor(1.0, residual.name, h.name), y[1],
                    factor(1.0, site, residual.name))

    for one in ((site, h.name),) if residual is None else (
            (residual.name, h.name), (site, residual.name)):
        factor(1.0, *one)
    given = [h] if residual is None else [h, residual]

    def rows(*own: int) -> None:
        ctx.trace.vector(x.whole.row_block(*own), ctx.storing(
            site, make, [operand(value.whole.row_block(*own)) for value in given]),
            out.whole.row_block(*own))

    in_turns(rows_part(ctx.config, *x.shape, True, rows), beside)
    ctx.stored(out)
    return out


@dataclass
class LayerBackward:
    """``back`` of layer ``name``, whose forward pass left ``saved``.

    ``weights``: the matrices as the forward pass reads them, by part; q, k and v are one. ``gain``:
    a norm's γ in the format. ``trained``: parts that are trained, or have adapters that are.
    """

    ctx: Context
    name: str
    block: Block
    saved: Saved
    weights: dict[str, View]
    gain: Callable[[Norm], Value]
    trained: Sequence[str]
    _linear: LinearGradients = field(init=False)
    _slope: Value = field(init=False)

    def __post_init__(self) -> None:
        self._linear = LinearGradients(self.ctx, self.name, self.trained)

    def back(self, d: Value, below: tuple[str, Norm] | None, onward: bool) -> Value | None:
        """``d``: of pre-norm layers the gradient of the result, of others γ ⊙ that. Gives the same
        for the layer below; of post-norm layers ``below`` names that site and its norm. None
        unless ``onward``."""
        block, saved = self.block, self.saved
        site = f"{self.name} feed-forward"
        slope, inner = self._prepared()
        if not block.pre_norm:
            d = normalised_back(self.ctx, block.feed_forward_norm, saved.feed_forward_norm_input,
                                d, f"{site} d", beside=slope)
        inward = self._feed_forward(d)
        weight = self.weights["expand"]
        if block.pre_norm:
            d = self._norm(block.feed_forward_norm, saved.feed_forward_norm_input, site, inward,
                           weight, d, inner)
        else:
            d = self._joined(f"{self.name} attention", block.attention_norm, inward, weight, d)
            d = normalised_back(self.ctx, block.attention_norm, saved.attention_norm_input, d,
                                f"{self.name} attention d", beside=inner)
        self._linear.ready()
        dqkv = self._attention(d, onward)
        if not onward or dqkv is None:
            return None
        if block.pre_norm:
            return self._norm(block.attention_norm, saved.attention_norm_input,
                              f"{self.name} attention", dqkv, self.weights["qkv"], d)
        if below is None:
            raise ValueError(f"{self.name} has no layer below")
        return self._joined(*below, dqkv, self.weights["qkv"], d)

    def _norm(self, norm: Norm, x: Value, site: str, inward: Value, weight: View, residual: Value,
              beside: Sequence[Part] = ()) -> Value:
        """Through a branch's first matrix and the norm before it, to the residual's gradient."""
        h = self.ctx.site(f"{site} h", *x.shape)
        self.ctx.gemm(h.name, *self.ctx.onward(inward, weight), h,
                      by_gain(self._factor(h.name, inward.name)), operand(self.gain(norm)),
                      b_transposed=False)
        return normalised_back(self.ctx, norm, x, h, f"{site} d", residual, beside)

    def _joined(self, site: str, norm: Norm, inward: Value, weight: View, residual: Value) -> Value:
        """γ ⊙ (a branch's gradient + the residual's), for the norm after which it begins."""
        h = self.ctx.site(f"{site} h", residual.rows, residual.columns)
        return self.ctx.gemm(
            h.name, *self.ctx.onward(inward, weight), h,
            residual_by_gain(self._factor(residual.name, inward.name),
                             self._factor(h.name, residual.name)),
            operand(residual), operand(self.gain(norm)), b_transposed=False)

    def _factor(self, up: str, down: str, constant: float = 1.0) -> float:
        return self.ctx.factors.factor(constant, up, down)

    def _prepared(self) -> tuple[list[Part], list[Part]]:
        """What waits for no gradient and may be done in turns with the norms': the activation's
        slope, with that of the feed-forward's, T with the one that follows."""
        slope, inner = self._slope_part(), self._inner()
        if not worth(self.ctx.config, *self.saved.feed_forward_norm_input.shape):
            for part in (*inner, slope):
                part.whole()
            self._linear.ready()
            return [], []
        if self.block.pre_norm:
            slope.whole()
        return [slope], inner

    def _inner(self) -> list[Part]:
        """T = x·Aᵀ of all adapters."""
        saved, gated = self.saved, self.block.feed_forward.gate is not None
        sites = (("output", ["output"], saved.heads),
                 ("qkv", ["query", "key", "value"], saved.attention_given),
                 ("feed_forward", ["gate", "up"] if gated else ["up"], saved.feed_forward_given),
                 ("down", ["down"], saved.hidden))
        return [part for site, parts, x in sites
                for part in self._linear.inner(parts, x, f"{self.name}.{site}")]

    # The two branches, from their ends

    def _feed_forward(self, d: Value) -> Value:
        ctx, saved, ffn = self.ctx, self.saved, self.block.feed_forward
        self._linear.gradients(["down"], saved.hidden, [d.whole], f"{self.name}.down", d.name)
        slope = self._slope
        site = f"{self.name} du"
        factor, down = self._factor(site, d.name), self.weights["down"]
        if ffn.gate is None:
            inward = ctx.site(site, *saved.up.shape)
            through = Instruction(multiply=Operand.IMM0, scale=Operand.Y, **_STORE)
            ctx.gemm(site, *ctx.onward(d, down), inward,
                     lambda y: Epilogue(factor, y[0], instructions=(through,)), operand(slope),
                     b_transposed=False)
            gradients, parts = [inward.whole], ["up"]
        else:
            inward = self._gates(d, down, slope, factor)
            width = saved.up.columns
            gradients = [inward.whole.block(0, start, d.rows, width) for start in (0, width)]
            parts = ["gate", "up"]
        self._linear.gradients(parts, saved.feed_forward_given, gradients,
                               f"{self.name}.feed_forward", site)
        return inward

    def _slope_part(self) -> Part:
        """The activation's slope, in the format."""
        ctx, saved, ffn = self.ctx, self.saved, self.block.feed_forward
        x, name = saved.up if saved.gate is None else saved.gate, ffn.activation
        slope = lists.activation_slope(name)
        self._slope = ctx.trace.value(f"{self.name} slope", *x.shape, forms=(Form.STORED,))
        listed = ctx.listed(f"slope of {name}", lambda _: slope)
        return rows_part(ctx.config, *x.shape, False, lambda *own: ctx.trace.vector(
            x.whole.row_block(*own), listed, self._slope.whole.row_block(*own)))

    def _gates(self, d: Value, down: View, slope: Value, factor: float) -> Value:
        """Of y = f(g) ⊙ u, side by side in one scale: ∂g = (∂y ⊙ f′(g)) ⊙ u, ∂u = f(g) ⊙ ∂y."""
        ctx, saved = self.ctx, self.saved
        name = self.block.feed_forward.activation
        if name == "relu":
            raise ValueError("a gated feed-forward must have gelu, gelu_sigmoid or silu to be "
                             "trained through on the accelerator, not relu")
        function = Function[name.upper()]
        rows, width = saved.up.shape
        dy = ctx.trace.value(f"{self.name} dy", rows, width, forms=(Form.WIDE,))
        ctx.trace.gemm([Product(*ctx.onward(d, down), dy.whole)], dy,
                       ctx.listed("× factor", lambda _: Epilogue(factor)), b_transposed=False)
        both = ctx.site(f"{self.name} du", rows, 2 * width)
        first, second = (both.whole.block(0, start, rows, width) for start in (0, width))
        ctx.trace.vector(dy.whole, ctx.storing(both.name, lambda y: Epilogue(
            bias=y[0], y1=y[1], instructions=(
                Instruction(multiply=Operand.Y, **_KEEP),
                Instruction(multiply=Operand.Y, y=1, **_STORE))),
            [operand(slope), wide(saved.up)]), first)
        ctx.trace.vector(saved.gate.whole, ctx.storing(both.name, lambda y: Epilogue(
            bias=y[0], instructions=(
                Instruction(function=function, scale=Operand.Y, **_STORE),)),
            [wide(dy)]), second)
        ctx.stored(both)
        return both

    def _attention(self, d: Value, onward: bool) -> Value | None:
        ctx, saved = self.ctx, self.saved
        self._linear.gradients(["output"], saved.heads, [d.whole], f"{self.name}.output", d.name)
        parts = ["query", "key", "value"]
        if not onward and not set(parts) & set(self.trained):
            return None
        do = ctx.site(f"{self.name} do", d.rows, saved.heads.columns)
        factor = self._factor(do.name, d.name)
        ctx.gemm(do.name, *ctx.onward(d, self.weights["output"]), do, lambda _: Epilogue(factor),
                 b_transposed=False)
        attention = self.block.attention
        dqkv = AttentionBackward(ctx, self.name, attention, saved).back(do)
        widths = [count * attention.head_size for count in (
            attention.heads, attention.kv_heads, attention.kv_heads)]
        starts = np.cumsum([0, *widths[:-1]])
        self._linear.gradients(parts, saved.attention_given, [
            dqkv.whole.block(0, int(start), d.rows, width)
            for start, width in zip(starts, widths, strict=True)], f"{self.name}.qkv", dqkv.name)
        return dqkv
