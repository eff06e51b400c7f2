"""What stands before the first layer and after the last, forward and back."""

from collections.abc import Callable

import numpy as np

from compiler.checkpoints.description import Patches, Tokens, Transform, Transformer
from compiler.training.gradients.linear import bias_gradient, linear, rows_of
from compiler.training.gradients.norm import normalise
from compiler.training.gradients.numerics import Array
from compiler.training.gradients.parameters import tied
from compiler.training.gradients.weights import Run

__all__ = ["embed", "finish"]

_L2_EPSILON = 1e-24


def embed(run: Run, embedding: Tokens | Patches, inputs: Array, segments: Array | None = None
          ) -> tuple[Array, Callable[[Array], None]]:
    """The first layer's input, a BF16 tensor B × S × d, of ids B × S, of which kind each is in
    ``segments``, or patches B × S × items.

    ``back(d)`` takes its gradient and leaves those of the embedding's arrays.
    """
    n, weights = run.numerics, run.weights
    length = inputs.shape[1]
    if isinstance(embedding, Patches):
        x, back_projection = linear(run, "embedding.projection", n.constant(inputs), "embedding")
        x = n.lane(x + weights.stored("embedding.positions")[:length])

        def back_patches(d: Array) -> None:
            _add_positions(run, d, len(embedding.positions))
            back_projection(d, onward=False)

        return n.wide(x), back_patches
    x = weights.stored("embedding.table")[inputs]
    if embedding.positions is not None:
        x = n.lane(x + weights.stored("embedding.positions")[:length])
    if embedding.segment is not None:
        x = n.lane(x + _segment_rows(run, embedding, segments))
    back_norm = None
    if embedding.norm is not None:
        x, back_norm = normalise(run, "embedding.norm", embedding.norm, n.wide(x), "embedding")

    def back(d: Array) -> None:
        if back_norm is not None:
            d = back_norm(d)
        if embedding.positions is not None:
            _add_positions(run, d, len(embedding.positions))
        first = slice(None) if segments is None else segments.ravel() == 0
        run.add("embedding.segment", rows_of(d)[first].sum(axis=0))
        if "embedding.table" in run.wanted:
            table = np.zeros(embedding.table.shape, d.dtype)
            np.add.at(table, inputs.ravel(), rows_of(d))
            run.add("embedding.table", table)

    return n.wide(x), back


def _segment_rows(run: Run, embedding: Tokens, segments: Array | None) -> Array:
    """The row of the first kind, or each position's of its own; all others are frozen."""
    first = run.weights.stored("embedding.segment")
    if segments is None:
        return first
    assert embedding.segments is not None, "kinds of positions that the model knows"
    others = run.numerics.constant(embedding.segments[1:])
    return np.concatenate([first[None], others])[segments]


def _add_positions(run: Run, d: Array, count: int) -> None:
    if "embedding.positions" in run.wanted:
        whole = np.zeros((count, d.shape[-1]), d.dtype)
        whole[:d.shape[1]] = d.sum(axis=0)
        run.add("embedding.positions", whole)


def finish(run: Run, model: Transformer, x: Array, valid: Array | None
           ) -> tuple[Array, Callable[[Array], Array]]:
    """Final norm, pooling and head on the last layer's ``x``: BF16 tensors, B × S × outputs, or
    B × outputs after a pooling.

    ``back(d)`` takes the stored gradient of that and gives the gradient of x as the last layer
    takes it (``block``).
    """
    n = run.numerics
    steps = []
    if model.final_norm is not None:
        x, back_norm = normalise(run, "final_norm", model.final_norm, x, "final norm")
        x = n.wide(x)
        steps.append(back_norm)
    elif model.blocks[-1].pre_norm:
        steps.append(lambda d: n.gradient("last residual", d))
    if model.pooling != "none":
        x, back_pooling = _pool(run, model.pooling, x, valid)
        steps.append(back_pooling)
    if model.transform is not None:
        x, back_transform = _transformed(run, model.transform, x)
        steps.append(back_transform)
    if model.head is not None:
        name = "head" if not tied(model) else "embedding"
        x, back_head = _head(run, name, n.stored(x))
        x = n.wide(x)
        steps.append(back_head)

    def back(d: Array) -> Array:
        for step in reversed(steps):
            d = step(d)
        return d

    return x, back


def _transformed(run: Run, transform: Transform, x: Array
                 ) -> tuple[Array, Callable[[Array], Array]]:
    """What the last linear layer of a head of two reads, of BF16 ``x``: norm(f(linear x)), BF16.
    ``back`` takes lane values and gives them."""
    n, activation, norm = run.numerics, transform.activation, transform.norm
    assert activation is not None and norm is not None, "what ``check_trainable`` lets pass"
    y, back_linear = linear(run, "transform", n.stored(x), "transform")
    argument = n.wide(y)
    y, back_norm = normalise(run, "transform_norm", norm,
                             n.wide(n.activation(activation, argument)), "head")

    def back(d: Array) -> Array:
        d = n.lane(back_norm(d) * n.slope(activation, argument))
        return back_linear(n.gradient("head du", d))

    return n.wide(y), back


def _head(run: Run, name: str, x: Array) -> tuple[Array, Callable[[Array], Array]]:
    if name == "head":
        return linear(run, name, x, name)
    n, table = run.numerics, run.weights.stored("embedding.table")

    def back(d: Array) -> Array:
        if "embedding.table" in run.wanted:
            run.add("embedding.table", n.product(rows_of(d).T, rows_of(x)))
        bias_gradient(run, "head", d)
        return n.product(d, table)

    y = n.product(x, table.T)
    return (n.lane(y + run.weights.wide("head.bias")) if "head.bias" in run.weights else y), back


def _pool(run: Run, pooling: str, x: Array, valid: Array | None
          ) -> tuple[Array, Callable[[Array], Array]]:
    """One row of each sequence's S: the first, or the mean of the valid ones, for ``mean_l2``
    divided by its length. ``back`` takes lane values and gives them."""
    n = run.numerics
    if pooling == "first":
        def back_first(d: Array) -> Array:
            whole = np.zeros_like(x)
            whole[:, 0] = n.gradient("pooled", d)
            return whole

        return x[:, 0], back_first
    seen = np.ones(x.shape[:2], bool) if valid is None else valid
    count = seen.sum(axis=1, keepdims=True)
    part = n.wide_constant(1 / count)[..., None]
    transposed = (x * seen[..., None]).swapaxes(1, 2)
    mean = n.wide(n.mean(transposed, count[..., None])[..., 0])

    def back_mean(d: Array) -> Array:
        d = n.gradient("pooled", d)[:, None]
        return np.where(seen[..., None], n.lane(d * part), 0).astype(x.dtype, copy=False)

    if pooling == "mean":
        return mean, back_mean
    inverse = n.inverse_root(n.lane(mean * mean), _L2_EPSILON, np.ones((len(mean), 1)))
    unit = n.lane(mean * inverse)

    def back_unit(d: Array) -> Array:
        d = n.wide(d)
        along = n.total(n.lane(unit * d))
        return back_mean(n.lane(n.lane(d - n.lane(unit * along)) * inverse))

    return n.wide(unit), back_unit
