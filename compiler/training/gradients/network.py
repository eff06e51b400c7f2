"""A described transformer forward and back: logits, loss, gradients by name.

    weights = Weights(parameters(model), Exact())
    loss, gradients = gradients_of(model, weights, Exact(), Batch(ids, labels), "classes", names)
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from compiler.checkpoints.description import Tokens, Transformer
from compiler.checkpoints.inputs import Inputs
from compiler.training.gradients.block import recomputed, run_blocks
from compiler.training.gradients.ends import embed, finish
from compiler.training.gradients.loss import LossKind, loss_of
from compiler.training.gradients.numerics import Array, Exact
from compiler.training.gradients.parameters import block_name, output_sites
from compiler.training.gradients.weights import Run, Weights

__all__ = ["Batch", "forward", "gradients_of", "groups_of", "logits_of"]


@dataclass(frozen=True)
class Batch:
    """B sequences of S positions: ids B × S or patches B × S × items, with their ``labels``
    (``loss.loss_of``). ``valid``: B × S, False where a position only pads; None: none does.
    ``segments``: B × S, of which kind each position of ids is; None: all are of the first."""

    inputs: Array
    labels: Array
    valid: Array | None = None
    segments: Array | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def part(self, chosen: slice | Array) -> "Batch":
        """Some of its sequences."""
        return Batch(self.inputs[chosen], self.labels[chosen], *(
            None if rows is None else rows[chosen] for rows in (self.valid, self.segments)))

    def given(self) -> Inputs:
        """What a model reads of it."""
        return Inputs("ids" if self.inputs.ndim == 2 else "patches", self.inputs, self.valid,
                      self.segments)


def _hidden(model: Transformer, batch: Batch) -> Array | None:
    """What queries do not see, broadcast over B × heads × S × S; None: nothing is hidden."""
    length = batch.inputs.shape[1]
    hidden = None
    if batch.valid is not None and not batch.valid.all():
        hidden = ~batch.valid[:, None, None, :]
    if model.blocks[0].attention.causal:
        later = np.arange(length) > np.arange(length)[:, None]
        hidden = later[None, None] if hidden is None else hidden | later
    return hidden


def forward(run: Run, model: Transformer, batch: Batch, recompute: int = 0
            ) -> tuple[Array, Callable[[Array], None]]:
    """Logits, and ``back`` of their stored gradient, which leaves ``run.gradients``.

    ``recompute`` N: the input of every N-th layer is kept, and the values of the N layers from
    there on are computed again on the way back (0: all are kept).
    """
    _check(model, batch)
    hidden = _hidden(model, batch)
    x, back_embedding = embed(run, model.embedding, batch.inputs, batch.segments)
    first = _lowest(run, model)
    groups = []
    for start, stop in groups_of(len(model.blocks), first, recompute):
        names = [block_name(index) for index in range(start, stop)]
        one = recomputed if recompute and start >= first else run_blocks
        x, step = one(run, names, model.blocks[start:stop], x, hidden)
        groups.append((start, step))
    logits, back_end = finish(run, model, x, batch.valid)

    def back(d: Array) -> None:
        d = back_end(d)
        for start, step in reversed(groups):
            if start >= first:
                d = step(d, start > first)
        if first < 0:
            back_embedding(d)

    return logits, back


def groups_of(count: int, first: int, recompute: int) -> list[tuple[int, int]]:
    """Layers that go forward together: those below ``first``, which no gradient reaches, then
    ``recompute`` at a time, or all that are left."""
    first = min(max(first, 0), count)
    size = recompute or max(count - first, 1)
    starts = [*({0} if first else ()), *range(first, count, size), count]
    return list(pairwise(starts))


def _lowest(run: Run, model: Transformer) -> int:
    """The lowest layer that has a wanted gradient; −1 for the embedding."""
    if any(name.startswith("embedding.") for name in run.wanted):
        return -1
    for index in range(len(model.blocks)):
        if any(name.startswith(f"{block_name(index)}.") for name in run.wanted):
            return index
    return len(model.blocks)


def _check(model: Transformer, batch: Batch) -> None:
    wanted = 2 if isinstance(model.embedding, Tokens) else 3
    if batch.inputs.ndim != wanted or 0 in batch.inputs.shape:
        raise ValueError(f"inputs of {model.name} must have {wanted} dimensions, none of them 0, "
                         f"not shape {batch.inputs.shape}")
    if batch.valid is not None and batch.valid.shape != batch.inputs.shape[:2]:
        raise ValueError(f"valid must be of shape {batch.inputs.shape[:2]}, "
                         f"not {batch.valid.shape}")
    positions = model.embedding.positions
    if positions is not None and batch.inputs.shape[1] > len(positions):
        raise ValueError(f"a sequence must have at most {len(positions)} positions, "
                         f"not {batch.inputs.shape[1]}")
    if batch.segments is not None:
        Inputs("ids", batch.inputs, segments=batch.segments).check_segments(model)


def logits_of(model: Transformer, weights: Weights, numerics: Exact, batch: Batch) -> Array:
    """The forward pass alone."""
    return forward(Run(numerics, weights, frozenset()), model, batch)[0]


def gradients_of(model: Transformer, weights: Weights, numerics: Exact, batch: Batch,
                 kind: LossKind, wanted: Collection[str], recompute: int = 0
                 ) -> tuple[float, dict[str, Array]]:
    """The mean loss over ``batch`` and its gradients of the names ``wanted``: parameters, or A and
    B of adapters (``weights.lora_names``)."""
    run = Run(numerics, weights, frozenset(wanted), output_sites(model))
    logits, back = forward(run, model, batch, recompute)
    loss, gradient = loss_of(kind, numerics, logits, batch.labels, batch.valid)
    back(gradient)
    return loss, run.gradients
