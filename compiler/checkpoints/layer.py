"""The attention of one transformer layer in fp32: weights, input and the values to expect."""

from dataclasses import dataclass

import numpy as np

__all__ = ["AttentionLayer", "HeadValues", "layer_norm", "softmax"]


@dataclass(frozen=True)
class HeadValues:
    """What one head computes: q, k, v, o of T × d, probabilities p of T × T."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    p: np.ndarray
    o: np.ndarray


@dataclass(frozen=True)
class AttentionLayer:
    """One layer's projections and the T × width input ``x`` that they get, all fp32.

    Weights are stored as trained: ``query``, ``key``, ``value`` are (heads · d) × width, their
    biases heads · d. Rows d·h … d·h + d − 1 belong to head h.
    """

    name: str
    x: np.ndarray
    heads: int
    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    query_bias: np.ndarray
    key_bias: np.ndarray
    value_bias: np.ndarray

    @property
    def tokens(self) -> int:
        return self.x.shape[0]

    @property
    def head_size(self) -> int:
        return self.query.shape[0] // self.heads

    @property
    def scale(self) -> float:
        """1 / √d, applied to the scores."""
        return self.head_size ** -0.5

    def rows(self, head: int) -> slice:
        """The rows of the weights that belong to ``head``."""
        if not 0 <= head < self.heads:
            raise ValueError(f"head must be from 0 to {self.heads - 1}, not {head!r}")
        return slice(head * self.head_size, (head + 1) * self.head_size)

    def head(self, head: int) -> HeadValues:
        """The head's values in fp32, from the unrounded input and weights."""
        part = self.rows(head)
        q = self.x @ self.query[part].T + self.query_bias[part]
        k = self.x @ self.key[part].T + self.key_bias[part]
        v = self.x @ self.value[part].T + self.value_bias[part]
        p = softmax(q @ k.T * np.float32(self.scale))
        return HeadValues(q, k, v, p, p @ v)


def layer_norm(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    """LayerNorm over the last axis in the input's type."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + eps) * weight + bias


def softmax(x: np.ndarray) -> np.ndarray:
    """Over the last axis in the input's type."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)
