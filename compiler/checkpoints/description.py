"""What a transformer is made of: weights and structure as trained, in fp32, apart from any format.

Loaders (``compiler.checkpoints``) fill these, the lowering turns them into programs. Matrices of
weights are stored as trained, outputs × inputs. S is the number of positions, d the model's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["Activation", "Attention", "Block", "FeedForward", "Linear", "Norm", "Patches",
           "Pooling", "Rotary", "Tokens", "Transformer"]

Activation = Literal["gelu", "gelu_sigmoid", "relu", "silu"]
Pooling = Literal["none", "first", "mean", "mean_l2"]


@dataclass(frozen=True)
class Linear:
    """y = x Wᵀ + b: ``weight`` is outputs × inputs, ``bias`` has one item per output."""

    weight: np.ndarray
    bias: np.ndarray | None = None


@dataclass(frozen=True)
class Norm:
    """LayerNorm where there is a ``shift``, RMSNorm where there is none; d items each."""

    gain: np.ndarray
    shift: np.ndarray | None
    eps: float


@dataclass(frozen=True)
class Rotary:
    """Rotary embedding of each head's q and k, angles position · ``base`` ** (−2i / head size).

    ``interleaved``: items 2i and 2i + 1 are a pair; else i and i + half of the head's size.
    """

    base: float
    interleaved: bool


@dataclass(frozen=True)
class Attention:
    """Head h reads key-value head h // (``heads`` / ``kv_heads``); scores are divided by √size.

    ``causal``: a position sees itself and those before it.
    """

    query: Linear
    key: Linear
    value: Linear
    output: Linear
    heads: int
    kv_heads: int
    rotary: Rotary | None = None
    causal: bool = False

    @property
    def head_size(self) -> int:
        return self.query.weight.shape[0] // self.heads


@dataclass(frozen=True)
class FeedForward:
    """down(f(up x)), or down(f(gate x) ⊙ up x) where there is a ``gate``."""

    up: Linear
    down: Linear
    activation: Activation
    gate: Linear | None = None


@dataclass(frozen=True)
class Block:
    """One layer. ``pre_norm``: x += f(norm(x)); otherwise x = norm(x + f(x)); f is attention,
    then the feed-forward."""

    attention: Attention
    attention_norm: Norm
    feed_forward: FeedForward
    feed_forward_norm: Norm
    pre_norm: bool


@dataclass(frozen=True)
class Tokens:
    """Row ``ids[i]`` of ``table``, + row i of ``positions``, + ``segment``, then ``norm``."""

    table: np.ndarray
    positions: np.ndarray | None = None
    segment: np.ndarray | None = None
    norm: Norm | None = None


@dataclass(frozen=True)
class Patches:
    """S flattened patches of an image, projected, + row i of ``positions``."""

    projection: Linear
    positions: np.ndarray


@dataclass(frozen=True)
class Transformer:
    """``pooling`` makes one row of the last layer's S: the ``first``, the ``mean``, or the mean
    divided by its L2 norm. ``final_norm`` stands before it, ``head`` follows it.

    ``blocks`` may read a layer's weights only when it is indexed (``checkpoint.LazyBlocks``).
    """

    name: str
    embedding: Tokens | Patches
    blocks: Sequence[Block]
    final_norm: Norm | None = None
    head: Linear | None = None
    pooling: Pooling = "none"

    @property
    def width(self) -> int:
        return self.blocks[0].attention.query.weight.shape[1]
