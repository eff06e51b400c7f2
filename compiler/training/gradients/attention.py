"""Attention forward and back: projections, rotary embedding, scores, softmax, weighted sums.

With P = softmax(Q Kᵀ / √d), O = P V, all of one head: dV = Pᵀ dO, dP = dO Vᵀ, dS from the softmax,
dQ = dS K / √d, dK = dSᵀ Q / √d. Heads that share keys and values add their dK and dV. A rotation's
gradient is the rotation back.
"""

from collections.abc import Callable

import numpy as np

from compiler.checkpoints.description import Attention
from compiler.training.gradients.linear import linears_at_once
from compiler.training.gradients.numerics import Array, Exact
from compiler.training.gradients.softmax import softmax
from compiler.training.gradients.weights import Run

__all__ = ["attend", "rotate"]


def attend(run: Run, name: str, attention: Attention, x: Array, hidden: Array | None
           ) -> tuple[Array, Callable[..., Array | None]]:
    """The heads' results side by side, B × S × (heads · size), stored; ``x`` is stored.

    ``hidden``: what a query does not see, broadcast over B × heads × S × S, or None. ``back(d,
    onward)`` takes the stored gradient of the result and gives the gradient of x, lane values;
    None unless ``onward``.
    """
    n = run.numerics
    names = [f"{name}.{part}" for part in ("query", "key", "value")]
    outputs, back_projections = linears_at_once(run, names, x, f"{name}.qkv")
    rotary = attention.rotary is not None
    q, k, v = (_split(y, attention.head_size) for y in outputs)
    if rotary:
        q, k = (rotate(n, attention, part, 1) for part in (q, k))
    q, k, v = (n.stored(part) for part in (q, k, v))
    sums, back_heads = _heads(run, name, attention, q, k, v, hidden)

    def back(d: Array, onward: bool = True) -> Array | None:
        gradients = back_heads(_split(d, attention.head_size))
        if rotary:
            gradients = (*(rotate(n, attention, part, -1) for part in gradients[:2]), gradients[2])
        joined = [_join(part) for part in gradients]
        stored = n.gradient(f"{name} dqkv", np.concatenate(joined, axis=-1))
        ends = np.cumsum([part.shape[-1] for part in joined])[:-1]
        return back_projections(np.split(stored, ends, axis=-1), onward)

    return n.stored(_join(sums)), back


def _heads(run: Run, name: str, attention: Attention, q: Array, k: Array, v: Array,
           hidden: Array | None) -> tuple[Array, Callable[[Array], tuple[Array, Array, Array]]]:
    """All heads' weighted sums, lane values, of stored B × heads × S × size."""
    n = run.numerics
    shared = attention.heads // attention.kv_heads
    every_k, every_v = (np.repeat(part, shared, axis=1) for part in (k, v))
    scale = n.wide_constant(np.asarray(attention.head_size ** -0.5))
    z = n.lane(n.product(q, every_k.swapaxes(2, 3)) * scale)
    if hidden is not None:
        z = n.lane(z + np.where(hidden, n.masked, 0).astype(z.dtype))
    p, back_softmax = softmax(n, z)
    p = n.stored(p)

    def back(d: Array) -> tuple[Array, Array, Array]:
        g = n.lane(n.product(d, every_v.swapaxes(2, 3)) * scale)
        scores = n.gradient(f"{name} ds", back_softmax(p, g))
        return (n.product(scores, every_k),
                _shared(n, n.product(scores.swapaxes(2, 3), q), shared),
                _shared(n, n.product(p.swapaxes(2, 3), d), shared))

    return n.product(p, every_v), back


def _shared(n: Exact, x: Array, count: int) -> Array:
    """Neighbouring ``count`` heads added up, one after the other."""
    if count == 1:
        return x
    parts = x.reshape(x.shape[0], -1, count, *x.shape[2:])
    total = n.wide(parts[:, :, 0])
    for index in range(1, count):
        total = n.wide(n.lane(total + parts[:, :, index]))
    return total


def _split(x: Array, size: int) -> Array:
    """B × S × (heads · size) to B × heads × S × size."""
    return np.ascontiguousarray(x.reshape(*x.shape[:2], -1, size).swapaxes(1, 2))


def _join(x: Array) -> Array:
    """The inverse of ``_split``."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def rotate(n: Exact, attention: Attention, x: Array, sign: int) -> Array:
    """Rotary embedding of lane values ``x``, B × heads × S × size; ``sign`` −1 rotates back.

    Rotated forward, the first items of all pairs stand before the second ones, whatever their order
    was, and rotated back they return to it: scores are sums in that order.
    """
    rotary, half = attention.rotary, x.shape[-1] // 2
    rate = rotary.base ** (-np.arange(half) / half)
    angle = np.arange(x.shape[-2])[:, None] * rate
    c, s = n.wide_constant(np.cos(angle)), n.wide_constant(sign * np.sin(angle))
    halves = slice(0, half), slice(half, None)
    own = (slice(0, None, 2), slice(1, None, 2)) if rotary.interleaved else halves
    source, target = (own, halves) if sign > 0 else (halves, own)
    a, b = (n.wide(x)[..., pair] for pair in source)
    rotated = np.empty_like(x)
    rotated[..., target[0]] = n.lane(n.lane(a * c) - n.wide(n.lane(b * s)))
    rotated[..., target[1]] = n.lane(n.lane(b * c) + n.wide(n.lane(a * s)))
    return rotated
