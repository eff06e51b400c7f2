"""The heads of one layer's attention with what they read, and what they compute in fp32."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.checkpoints.description import Linear
from compiler.checkpoints.reference import linear, softmax

__all__ = ["AttentionHeads", "HeadValues"]


@dataclass(frozen=True)
class HeadValues:
    """What one head computes: q, k, v, o of T × d, probabilities p of T × T."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    p: np.ndarray
    o: np.ndarray


@dataclass(frozen=True)
class AttentionHeads:
    """``heads`` heads of a layer, from their T × width input ``x`` to their sums of the values.

    Of the layer's ``description.Attention`` that is all but the output projection. Rows d·h …
    d·h + d − 1 of ``query``, ``key`` and ``value`` belong to head h.
    """

    name: str
    x: np.ndarray
    heads: int
    query: Linear
    key: Linear
    value: Linear

    @property
    def tokens(self) -> int:
        return self.x.shape[0]

    @property
    def head_size(self) -> int:
        return self.query.weight.shape[0] // self.heads

    @property
    def scale(self) -> float:
        """1 / √d, applied to the scores."""
        return self.head_size ** -0.5

    def rows(self, heads: Sequence[int]) -> slice:
        """The rows of the weights that belong to consecutive ``heads``; ``ValueError``."""
        first, last = heads[0], heads[-1]
        if list(heads) != list(range(first, last + 1)):
            raise ValueError(f"heads must be consecutive, not {list(heads)!r}")
        for head in (first, last):
            if not 0 <= head < self.heads:
                raise ValueError(f"head must be from 0 to {self.heads - 1}, not {head!r}")
        return slice(first * self.head_size, (last + 1) * self.head_size)

    def projections(self, heads: Sequence[int]) -> dict[str, Linear]:
        """The rows of consecutive ``heads`` of each projection, by the letters Q, K and V."""
        rows = self.rows(heads)
        return {letter: Linear(whole.weight[rows], None if whole.bias is None
                               else whole.bias[rows])
                for letter, whole in (("Q", self.query), ("K", self.key), ("V", self.value))}

    def head(self, head: int) -> HeadValues:
        """The head's values in fp32, from the unrounded input and weights."""
        q, k, v = (linear(part, self.x) for part in self.projections([head]).values())
        p = softmax(q @ k.T * np.float32(self.scale))
        return HeadValues(q, k, v, p, p @ v)
