"""One layer: attention, feed-forward, their norms and residual additions."""

from compiler.checkpoints.description import (
    Attention,
    Block,
    Bottleneck,
    FeedForward,
    Linear,
    Norm,
)
from compiler.checkpoints.inputs import Step
from compiler.lowering.across import Source, attend_across
from compiler.lowering.attention import CacheRows, attend
from compiler.lowering.saved import Saved
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Life, Use, Value

__all__ = ["layer_uses", "trace_layer"]


def layer_uses(block: Block) -> tuple[Use, ...]:
    """How a layer reads its input."""
    first = block.pre_norm and block.attention_norm is not None
    return (Use.NORM if first else Use.OPERAND), Use.RESIDUAL


def trace_layer(trace: Tracer, block: Block, x: Value, cache: CacheRows | None, step: Step,
                label: str, saved: Saved | None = None, source: Source | None = None) -> Value:
    """The layer's result, named ``label``. ``saved`` takes what a backward pass reads. ``source``:
    what a layer that looks across reads."""
    if block.bottleneck is not None:
        return _narrow_layer(trace, block, block.bottleneck, x, step, label)
    inner, attention = f"{label} ", block.attention
    given = _before(trace, block, block.attention_norm, x, f"{inner}attention norm",
                    attention.query, attention.key, attention.value)
    heads = attend(trace, block.attention, given, cache, step, inner, saved)
    saved = saved or Saved()
    saved.attention_given = given
    total, middle = _after(trace, block, block.attention_norm, heads, block.attention.output, x,
                           f"{inner}attention", after=block.attention_after)
    saved.attention_norm_input = x if block.pre_norm else total
    if block.across is not None:
        middle = _across(trace, block, block.across, middle, source, step, inner)
    if not block.parallel:
        ffn = block.feed_forward
        given = _before(trace, block, block.feed_forward_norm, middle, f"{inner}feed-forward norm",
                        *(linear for linear in (ffn.gate, ffn.up) if linear is not None))
    elif block.feed_forward_norm is not block.attention_norm:
        given = _before(trace, block, block.feed_forward_norm, x, f"{inner}feed-forward norm")
    saved.feed_forward_given = given
    saved.hidden = _expand(trace, block.feed_forward, given, inner, saved)
    total, out = _after(trace, block, block.feed_forward_norm, saved.hidden,
                        block.feed_forward.down, middle, f"{inner}feed-forward", label,
                        block.feed_forward_after)
    saved.feed_forward_norm_input = middle if block.pre_norm else total
    return out


def _across(trace: Tracer, block: Block, attention: Attention, x: Value, source: Source | None,
            step: Step, inner: str) -> Value:
    """Attention on the encoder's results, its norm and its residual addition."""
    if source is None:
        raise ValueError("a layer that looks across must be given what an encoder gives")
    given = _before(trace, block, block.across_norm, x, f"{inner}across norm")
    heads = attend_across(trace, attention, given, source, step, f"{inner}across ")
    return _after(trace, block, block.across_norm, heads, attention.output, x, f"{inner}across")[1]


def _narrow_layer(trace: Tracer, block: Block, narrow: Bottleneck, x: Value, step: Step, label: str
                  ) -> Value:
    """A layer between the linear layers of its bottleneck."""
    inner = f"{label} "
    shape = x.rows, len(narrow.enter.weight)
    stream = shared = trace.value(f"{inner}narrow input", *shape, labelled=True)
    trace.linear(x.whole, narrow.enter, stream, f"{inner}narrow input")
    if narrow.shared is not None:
        shared = trace.value(f"{inner}shared input", x.rows, len(narrow.shared.weight))
        trace.linear(x.whole, narrow.shared, shared, f"{inner}shared input")
    heads = attend(trace, block.attention, shared, None, step, inner,
                   values_of=None if narrow.shared is None else x)
    _, stream = _after(trace, block, block.attention_norm, heads, block.attention.output, stream,
                       f"{inner}attention")
    layers = *block.stack, (block.feed_forward, block.feed_forward_norm)
    for index, (ffn, norm) in enumerate(layers):
        name = f"{inner}feed-forward {index}"
        hidden = _expand(trace, ffn, stream, f"{name} ", Saved())
        _, stream = _after(trace, block, norm, hidden, ffn.down, stream, name)
    return _after(trace, block, narrow.norm, stream, narrow.leave, x, f"{inner}wide", label)[1]


def _before(trace: Tracer, block: Block, norm: Norm | None, x: Value, name: str,
            *linears: Linear) -> Value:
    """What the ``linears`` read: of pre-norm layers the norm of ``x``, if there is one."""
    if not block.pre_norm or norm is None:
        return x
    out = trace.given(name, x.rows, x.columns, *linears)
    trace.norm(x.whole, norm, out, name)
    return out


def _after(trace: Tracer, block: Block, norm: Norm | None, x: Value, linear: Linear, before: Value,
           name: str, result: str | None = None, after: Norm | None = None
           ) -> tuple[Value, Value]:
    """The residual sum, and of post-norm layers its norm, else itself; a ``result`` by that
    name. ``after``: the norm of what is added."""
    shape, life = before.shape, Life.TEMPORARY if result is None else Life.RESULT
    part = trace.value(f"{name} output", *shape)
    trace.linear(x.whole, linear, part, f"{name} output")
    if after is not None:
        plain, part = part, trace.value(f"{name} output norm", *shape)
        trace.norm(plain.whole, after, part, f"{name} output norm")
    if block.pre_norm:
        total = trace.value(result or f"{name} sum", *shape, life, labelled=True)
        trace.add_residual(part.whole, before.whole, total)
        return total, total
    total = trace.value(f"{name} sum", *shape, labelled=True)
    trace.add_residual(part.whole, before.whole, total)
    out = trace.value(result or f"{name} norm", *shape, life, labelled=True)
    trace.norm(total.whole, norm, out, f"{name} norm")
    return total, out


def _expand(trace: Tracer, ffn: FeedForward, x: Value, label: str, saved: Saved) -> Value:
    """f(up x), or f(gate x) ⊙ up x."""
    shape = x.rows, len(ffn.up.weight)
    hidden = trace.given(f"{label}hidden", *shape, ffn.down)
    up = trace.value(f"{label}up", *shape)
    trace.linear(x.whole, ffn.up, up, f"{label}up")
    saved.up = up
    if ffn.gate is None:
        trace.activate(up.whole, ffn.activation, hidden)
        return hidden
    gate = trace.value(f"{label}gate", *shape)
    trace.linear(x.whole, ffn.gate, gate, f"{label}gate")
    saved.gate = gate
    activated = trace.value(f"{label}activated gate", *shape)
    trace.activate(gate.whole, ffn.activation, activated)
    trace.multiply(activated.whole, up.whole, hidden)
    return hidden
