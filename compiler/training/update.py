"""Updates of trained arrays: clipping, SGD, momentum and AdamW, masters in one or two words.

Each operation is rounded once where the lanes do it (``Exact.lane``), in the order that the lists
of the lanes have, and what goes to memory between two of their commands to BF16 (``Exact.wide``).
A master is what an array's updates add up in:

======= ==========================================================================================
float   as precise as the arithmetic, never rounded
single  one BF16 word: an update below half a unit of the word is lost
pair    two BF16 words hi + lo: what an update loses of hi is kept in lo and added to the next
======= ==========================================================================================
"""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from compiler.training.description import AdamW, Momentum, Optimiser
from compiler.training.gradients.numerics import Array, Exact
from compiler.training.layout import Layout

__all__ = ["MASTERS", "Masters", "Updater", "clip_factor", "norm_of"]

Masters = Literal["float", "single", "pair"]
MASTERS = ("float", "single", "pair")


def norm_of(gradients: Mapping[str, Array]) -> float:
    """√ of the sum of all squares."""
    return float(np.sqrt(sum(float(np.square(g, dtype=np.float64).sum())
                             for g in gradients.values())))


def clip_factor(numerics: Exact, gradients: Mapping[str, Array], limit: float | None,
                layout: Layout | None = None) -> Array:
    """min(1, ``limit`` / norm), one item, as 1/√(1 + relu(n² − 1)) with n² the squared norm in
    units of ``limit``: exactly 1 below the limit. ``None``: 1.

    ``layout``: squares are added up row by row of its matrix, in ``numerics``, then over the rows,
    of each group first.
    """
    n = numerics
    if limit is None:
        return np.ones(1, n.dtype)
    if layout is None:
        total = sum(np.square(g, dtype=np.float64).sum() for g in gradients.values())
        ratio = n.lane(np.array([total / limit ** 2], n.dtype))
    else:
        matrix: Array = layout.matrix(gradients).astype(n.dtype)
        rows = n.wide(n.total(n.lane(matrix * matrix)))
        if layout.groups > 1:
            rows = n.wide(n.total(rows.reshape(layout.groups, -1)))
        ratio = n.mean(rows.reshape(1, -1), np.array([[limit ** 2]]))[0]
    beyond = n.lane(ratio - 1)
    return n.wide(n.inverse_sqrt(n.lane(np.maximum(beyond, 0) + 1)))


class Updater:
    """The masters of ``start``, by name, and their moments; all in one row of items."""

    def __init__(self, numerics: Exact, optimiser: Optimiser, start: Mapping[str, Array],
                 masters: Masters = "float", layout: Layout | None = None) -> None:
        self._layout = layout
        if masters not in MASTERS:
            raise ValueError(f"masters must be one of {', '.join(MASTERS)}, not {masters!r}")
        self.optimiser = optimiser
        self.masters = masters
        # With masters that are not rounded, nothing else of an update is.
        self._n = n = Exact(numerics.dtype) if masters == "float" else numerics
        self._shapes = {name: x.shape for name, x in start.items()}
        exact = self.row(start)
        self._high = n.wide_constant(exact)
        self._low = n.wide_constant(exact - self._high)
        self._first, self._second = np.zeros_like(exact), np.zeros_like(exact)
        self.steps = 0

    @property
    def values(self) -> dict[str, Array]:
        """The arrays after the last update, those of the start as masters at first; of pairs the
        upper words, which is all that the network reads."""
        return self.arrays(self._high)

    @property
    def lower(self) -> dict[str, Array]:
        """The lower words of pairs, zeros of other masters."""
        return self.arrays(self._low if self.masters == "pair" else np.zeros_like(self._low))

    def arrays(self, row: Array) -> dict[str, Array]:
        """The inverse of ``row``."""
        ends = np.cumsum([math.prod(shape) for shape in self._shapes.values()])[:-1]
        return {name: part.reshape(shape) for (name, shape), part
                in zip(self._shapes.items(), np.split(row, ends), strict=True)}

    def row(self, arrays: Mapping[str, Array]) -> Array:
        """All items, in the order of the names of the start."""
        different = self._shapes.keys() ^ arrays.keys()
        if different:
            raise ValueError(f"gradients must be of what is trained, not of {min(different)}")
        return np.concatenate([np.asarray(arrays[name], self._n.dtype).ravel()
                               for name in self._shapes])

    def state(self) -> dict[str, Array]:
        """All that an update changes but ``steps``, each a row of items."""
        return {"high": self._high, "low": self._low, "first": self._first,
                "second": self._second}

    def restore(self, steps: int, rows: Mapping[str, Array]) -> None:
        """Take ``state`` of another updater of the same arrays; ``ValueError`` for other sizes."""
        for name, values in self.state().items():
            if rows[name].shape != values.shape:
                raise ValueError(f"{name} must have {values.size} items, not {rows[name].size}")
            setattr(self, f"_{name}", rows[name].astype(values.dtype))
        self.steps = steps

    def apply(self, gradients: Mapping[str, Array], rate: float, clip: float | None = None
              ) -> None:
        """One update by ``gradients``, one of each array, at ``rate``; clipped to the norm
        ``clip``."""
        n, own = self._n, self.optimiser
        self.steps += 1
        g = n.lane(self.row(gradients) * clip_factor(n, gradients, clip, self._layout))
        if not isinstance(own, AdamW):
            g = n.wide(g)
        eta = rate * own.correction(self.steps) if isinstance(own, AdamW) else rate
        step = n.lane(self._direction(g) * self._constant(-eta))
        if self.masters == "pair":
            step = n.lane(step + self._low)
        step = n.wide(step)
        if own.decay:
            step = n.wide(n.lane(step + n.lane(self._high * self._constant(-rate * own.decay))))
        moved = n.wide(n.lane(self._high + step))
        if self.masters == "pair":
            self._low = n.wide(n.lane(step - n.lane(moved - self._high)))
        self._high = moved

    def _constant(self, value: float) -> Array:
        return self._n.wide_constant(np.asarray(value))

    def _direction(self, g: Array) -> Array:
        """What is multiplied by −η."""
        own, lane, constant = self.optimiser, self._n.lane, self._constant
        if isinstance(own, Momentum):
            self._first = self._n.wide(lane(lane(self._first * constant(own.momentum)) + g))
            return self._first
        if not isinstance(own, AdamW):
            return g
        m, v = self._first, self._second
        self._first = self._n.wide(lane(m + lane(lane(g - m) * constant(1 - own.beta1))))
        self._second = self._n.wide(
            lane(v + lane(lane(lane(g * g) - v) * constant(1 - own.beta2))))
        root = lane(self._second + constant(own.eps ** 2))
        return lane(self._n.inverse_sqrt(root) * self._first)
