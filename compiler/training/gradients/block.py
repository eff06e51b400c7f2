"""One layer forward and back, post-norm and pre-norm, where each stores what it hands on.

Post-norm layers take and give the gradient of their output as lane values: the norm after it
multiplies them by γ before it stores them. Pre-norm layers take and give it stored: it is the
residual's.
"""

from collections.abc import Callable, Sequence

import numpy as np

from compiler.checkpoints.description import Block, FeedForward
from compiler.training.gradients.attention import attend
from compiler.training.gradients.linear import linear, linears_at_once
from compiler.training.gradients.norm import normalise
from compiler.training.gradients.numerics import Array
from compiler.training.gradients.weights import Run

__all__ = ["feed_forward", "recomputed", "run_block", "run_blocks"]

Back = Callable[..., Array | None]


def feed_forward(run: Run, name: str, layer: FeedForward, x: Array) -> tuple[Array, Back]:
    """f(up x), or f(gate x) ⊙ up x, stored, of the stored ``x``.

    ``back(d)`` takes lane values of the result's gradient and gives lane values of x's.
    """
    n = run.numerics
    names = [f"{name}.{part}" for part in ("gate", "up") if part == "up" or layer.gate is not None]
    outputs, back_inward = linears_at_once(run, names, x, f"{name}.feed_forward")
    argument = outputs[0]
    y = n.activation(layer.activation, argument)
    up = n.wide(outputs[1]) if layer.gate is not None else None

    def back(d: Array) -> Array:
        slope = n.slope(layer.activation, argument)
        if up is None:
            return back_inward([n.gradient(f"{name} du", n.lane(d * slope))])
        d = n.wide(d)
        both = np.concatenate([n.lane(n.lane(d * slope) * up), n.lane(d * y)], axis=-1)
        return back_inward(np.split(n.gradient(f"{name} du", both), 2, axis=-1))

    return n.stored(y if up is None else n.lane(y * up)), back


def run_block(run: Run, name: str, block: Block, x: Array, hidden: Array | None
              ) -> tuple[Array, Back]:
    """The layer's output of its input ``x``, both BF16 tensors, B × S × d; ``hidden`` as for
    ``attend``. ``back(d, onward)`` gives None unless ``onward``."""
    return (_pre_norm if block.pre_norm else _post_norm)(run, name, block, x, hidden)


def _pre_norm(run: Run, name: str, block: Block, x: Array, hidden: Array | None
              ) -> tuple[Array, Back]:
    n = run.numerics
    y, back_first = normalise(run, f"{name}.attention_norm", block.attention_norm, x,
                              f"{name} attention")
    heads, back_attention = attend(run, name, block.attention, n.stored(y), hidden)
    part, back_output = linear(run, f"{name}.output", heads, f"{name}.output")
    middle = n.wide(n.lane(part + x))
    y, back_second = normalise(run, f"{name}.feed_forward_norm", block.feed_forward_norm, middle,
                               f"{name} feed-forward")
    inner, back_inner = feed_forward(run, name, block.feed_forward, n.stored(y))
    part, back_down = linear(run, f"{name}.down", inner, f"{name}.down")

    def back(d: Array, onward: bool = True) -> Array | None:
        d = back_second(back_inner(back_down(d)), d)
        below = n.gradient(f"{name} do", back_output(d))
        inward = back_attention(below, onward or _norm_wanted(run, f"{name}.attention_norm"))
        return None if inward is None else back_first(inward, d)

    return n.wide(n.lane(part + middle)), back


def _post_norm(run: Run, name: str, block: Block, x: Array, hidden: Array | None
               ) -> tuple[Array, Back]:
    n = run.numerics
    heads, back_attention = attend(run, name, block.attention, n.stored(x), hidden)
    part, back_output = linear(run, f"{name}.output", heads, f"{name}.output")
    y, back_first = normalise(run, f"{name}.attention_norm", block.attention_norm,
                              n.wide(n.lane(part + x)), f"{name} attention")
    middle = n.wide(y)
    inner, back_inner = feed_forward(run, name, block.feed_forward, n.stored(middle))
    part, back_down = linear(run, f"{name}.down", inner, f"{name}.down")
    y, back_second = normalise(run, f"{name}.feed_forward_norm", block.feed_forward_norm,
                               n.wide(n.lane(part + middle)), f"{name} feed-forward")

    def back(d: Array, onward: bool = True) -> Array | None:
        outer = back_second(d)
        outer = back_first(n.lane(back_inner(back_down(outer)) + outer))
        below = n.gradient(f"{name} do", back_output(outer))
        inward = back_attention(below, onward)
        return None if inward is None else n.lane(inward + outer)

    return n.wide(y), back


def _norm_wanted(run: Run, name: str) -> bool:
    return run.wants((f"{name}.gain", f"{name}.shift"))


def run_blocks(run: Run, names: Sequence[str], blocks: Sequence[Block], x: Array,
               hidden: Array | None) -> tuple[Array, Back]:
    """Neighbouring layers, as ``run_block``; ``back`` frees each when it is done."""
    steps = []
    for name, block in zip(names, blocks, strict=True):
        x, step = run_block(run, name, block, x, hidden)
        steps.append(step)

    def back(d: Array, onward: bool = True) -> Array | None:
        while steps:
            d = steps.pop()(d, onward or bool(steps))
        return d

    return x, back


def recomputed(run: Run, names: Sequence[str], blocks: Sequence[Block], x: Array,
               hidden: Array | None) -> tuple[Array, Back]:
    """``run_blocks`` that keeps nothing but its input and computes the rest again on the way
    back."""
    def back(d: Array, onward: bool = True) -> Array | None:
        return run_blocks(run, names, blocks, x, hidden)[1](d, onward)

    return run_blocks(run, names, blocks, x, hidden)[0], back
