"""What attention is made of: linear layers, norms, positions, and what takes softmax's place.

Part of ``compiler.checkpoints.description``, from which others take it.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["DEGREES", "Attention", "Linear", "Norm", "Polynomial", "PositionBias", "Rotary"]

DEGREES = (1, 2, 4)
"""Of polynomial attention: products of a word with itself, one or two."""


@dataclass(frozen=True)
class Linear:
    """y = x Wᵀ + b: ``weight`` is outputs × inputs, ``bias`` has one item per output."""

    weight: np.ndarray
    bias: np.ndarray | None = None


@dataclass(frozen=True)
class Norm:
    """LayerNorm where there is a ``shift``, RMSNorm where there is none; d items each.

    ``affine``: x ⊙ gain + shift alone, which looks at no mean or variance. ``kind``: ``l2`` divides
    what is left of x without its mean by √(its squares' mean + eps), ``l1`` by its magnitudes' mean
    + eps. ``centred_twice``: what is left has its own mean taken away again, which is 0 but for
    the roundings of the mean (``compiler.centred``). ``ValueError`` for an L1 norm without shift,
    or of gain and shift alone, and where no mean is taken away that could be twice.
    """

    gain: np.ndarray
    shift: np.ndarray | None
    eps: float
    affine: bool = False
    kind: Literal["l1", "l2"] = "l2"
    centred_twice: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("l1", "l2"):
            raise ValueError(f"kind of a norm must be l1 or l2, not {self.kind!r}")
        if self.kind == "l1" and (self.shift is None or self.affine):
            raise ValueError("an L1 norm must have a shift, and a mean that it takes away")
        if self.centred_twice and not self.centres:
            raise ValueError("a norm that is centred twice must take a mean away, which neither "
                             "RMSNorm nor gain and shift alone do")

    @property
    def centres(self) -> bool:
        """Whether it takes the mean of each row away."""
        return self.shift is not None and not self.affine


@dataclass(frozen=True)
class Rotary:
    """Rotary embedding of each head's q and k, angles position · ``base`` ** (−2i / head size).

    ``interleaved``: items 2i and 2i + 1 are a pair; else i and i + half of the head's size.
    ``rates``: of each pair what its position is multiplied by, where that is not the power of
    ``base``; a pair of rate 0 is left as it is. ``factor``: of all cosines and sines.
    """

    base: float
    interleaved: bool
    rates: tuple[float, ...] | None = None
    factor: float = 1.0

    def of_pairs(self, size: int) -> np.ndarray:
        """Angle of each pair at position 1, ``size`` / 2 items in float64."""
        if self.rates is not None:
            return np.array(self.rates)
        return self.base ** (-2.0 * np.arange(size // 2) / size)


@dataclass(frozen=True, eq=False)
class PositionBias:
    """What is added to a score for how far apart its positions are.

    ``values``: heads × (2 · limit + 1); head h adds to the score of query i and key j item
    j − i + limit of its row, where what is further away than the limit counts as at the limit.
    """

    values: np.ndarray

    def matrix(self, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """heads × queries × keys, of their positions."""
        limit = self.values.shape[1] // 2
        distance = np.clip(keys[None] - queries[:, None], -limit, limit)
        return self.values[:, distance + limit]


@dataclass(frozen=True)
class Polynomial:
    """What takes the place of e^z in head h: [ReLU(z + ``bias``[h])] ^ ``degree`` +
    abs(``delta``[h]), 0 where a position is hidden; divided by its row's sum, as softmax is. A row
    of zeros stays one. ``ValueError``."""

    degree: int
    bias: tuple[float, ...]
    delta: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.degree not in DEGREES:
            raise ValueError(f"degree of polynomial attention must be one of "
                             f"{', '.join(map(str, DEGREES))}, not {self.degree!r}")
        if len(self.bias) != len(self.delta) or not np.isfinite([*self.bias, *self.delta]).all():
            raise ValueError("polynomial attention must have a finite bias and delta for each "
                             f"head, not {self.bias} and {self.delta}")


@dataclass(frozen=True)
class Attention:
    """Head h reads key-value head h // (``heads`` / ``kv_heads``); scores are divided by √size.

    ``causal``: a position sees itself and those before it. ``window``: and only those that are
    less than so many positions away. ``scale``: of scores, in place of 1/√size. ``cap`` c: scaled
    scores s become c · tanh(s / c). ``query_norm``, ``key_norm``: of each head, size items, or of
    all heads side by side; they stand before the rotary embedding. ``kernel``: in place of softmax.
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    heads: int
    kv_heads: int
    rotary: Rotary | None = None
    causal: bool = False
    window: int | None = None
    scale: float | None = None
    cap: float | None = None
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    position_bias: PositionBias | None = None
    kernel: Polynomial | None = None

    @property
    def head_size(self) -> int:
        return self.query.weight.shape[0] // self.heads

    @property
    def score_scale(self) -> float:
        return self.head_size ** -0.5 if self.scale is None else self.scale

    def hidden(self, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
        """``hides`` of this attention."""
        return hides(self.causal, self.window, queries, keys)


def hides(causal: bool, window: int | None, queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Where a query does not see a key, queries × keys, of their positions."""
    keys, queries = keys[None], queries[:, None]
    hidden = keys > queries if causal else np.zeros((queries.size, keys.size), bool)
    if window is not None:
        hidden |= keys >= queries + window
        hidden |= keys <= queries - window
    return hidden
