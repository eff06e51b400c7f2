"""What a transformer is made of: weights and structure as trained, in fp32, apart from any format.

Loaders (``compiler.checkpoints``) fill these, the lowering turns them into programs. Matrices of
weights are stored as trained, outputs × inputs. S is the number of positions, d the model's width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from compiler.checkpoints.attention import (
    DEGREES,
    Attention,
    Linear,
    Norm,
    Polynomial,
    PositionBias,
    Rotary,
)
from compiler.checkpoints.speech import Speech

__all__ = ["DEGREES", "Activation", "Attention", "Block", "Bottleneck", "Convolution",
           "FeedForward", "Linear", "Norm", "Patches", "Polynomial", "Pooling", "PositionBias",
           "Rotary", "Task", "Tokens", "Transform", "Transformer"]

Activation = Literal["gelu", "gelu_sigmoid", "gelu_tanh", "relu", "relu_squared", "silu", "tanh"]
Pooling = Literal["none", "first", "first_l2", "first_two", "last", "mean", "mean_l2"]
Task = Literal["features", "causal language model", "conditional language model", "embedding",
               "image classification", "masked language model", "question answering",
               "sequence classification", "token classification"]


@dataclass(frozen=True)
class FeedForward:
    """down(f(up x)), or down(f(gate x) ⊙ up x) where there is a ``gate``."""

    up: Linear
    down: Linear
    activation: Activation
    gate: Linear | None = None


@dataclass(frozen=True)
class Bottleneck:
    """Around a layer that is narrower than its input x.

    Attention adds to ``enter`` x. Queries and keys read ``shared`` x, values x itself; without
    ``shared`` all three read ``enter`` x. The layer's result is ``norm``(x + ``leave`` y), y being
    that of its last feed-forward.
    """

    enter: Linear
    shared: Linear | None
    leave: Linear
    norm: Norm


@dataclass(frozen=True)
class Block:
    """One layer. ``pre_norm``: x += f(norm(x)); otherwise x = norm(x + f(x)); f is attention,
    then the feed-forward. A norm before f that is ``None`` leaves x as it is.

    ``attention_after``, ``feed_forward_after``: norms of what f gives, before it is added.
    ``parallel``: both read norms of x and both are added to x. ``stack``: feed-forwards with their
    norms after the attention and before the last one. ``across``: attention after that of the layer
    itself whose keys and values are of an encoder's results; its norm as the others.
    """

    attention: Attention
    attention_norm: Norm | None
    feed_forward: FeedForward
    feed_forward_norm: Norm | None
    pre_norm: bool
    attention_after: Norm | None = None
    feed_forward_after: Norm | None = None
    parallel: bool = False
    stack: tuple[tuple[FeedForward, Norm], ...] = ()
    bottleneck: Bottleneck | None = None
    across: Attention | None = None
    across_norm: Norm | None = None


@dataclass(frozen=True)
class Tokens:
    """Row ``ids[i]`` of ``table``, + row i of ``positions``, + ``segment``, then ``norm``.

    Attributes
    ----------
    segments: kinds × d where inputs may say of which kind a position is; ``segment`` is the first.
    factor: of the table's rows.
    neighbours: each row stands between those before and after it, zeros beyond the ends.
    row_projection: of the rows, before positions are added.
    norm_projection: of what the norm gives, where the layers are of another width.
    rate: ids of a position, as ``Patches.rate``.
    """

    table: np.ndarray
    positions: np.ndarray | None = None
    segment: np.ndarray | None = None
    norm: Norm | None = None
    segments: np.ndarray | None = None
    factor: float = 1.0
    neighbours: bool = False
    row_projection: Linear | None = None
    norm_projection: Linear | None = None
    rate: ClassVar[int] = 1


@dataclass(frozen=True)
class Convolution:
    """f of a linear layer on every second row between the rows before and after it, side by side;
    before the first stand zeros. ``activation`` f also stands before it."""

    linear: Linear
    activation: Activation


@dataclass(frozen=True)
class Patches:
    """S flattened patches of an image, projected, + row i of ``positions``, then ``norm``.

    ``convolution``: between projection and positions; the patches are 2 · S then, each a frame of
    sound between its neighbours (``of_frames``).

    The first ``lead`` are no patches but zeros: tokens of the model's own, that ``positions`` hold.
    ``side``: of a patch in pixels, whose items are channel by channel and row by row; 0: they come
    from elsewhere.
    """

    projection: Linear
    positions: np.ndarray
    norm: Norm | None = None
    lead: int = 0
    side: int = 0
    convolution: Convolution | None = None

    @property
    def rate(self) -> int:
        """Patches of a position."""
        return 1 if self.convolution is None else 2

    def of_frames(self, frames: np.ndarray) -> np.ndarray:
        """The 2 · S × items of frames of sound, 2 · S × bands; ``ValueError``."""
        bands = self.projection.weight.shape[1] // 3
        if frames.ndim != 2 or frames.shape[1] != bands or len(frames) % 2:
            raise ValueError(f"frames must be an even number of rows of {bands} bands, not "
                             f"{frames.shape}")
        none = np.zeros((1, bands), frames.dtype)
        sides = np.concatenate([none, frames[:-1]]), frames, np.concatenate([frames[1:], none])
        return np.concatenate(sides, axis=1).astype(np.float32)

    def of_image(self, pixels: np.ndarray) -> np.ndarray:
        """The S × items of an image, channels × height × width, row by row; ``ValueError``."""
        channels, rest = divmod(self.projection.weight.shape[1], max(self.side, 1) ** 2)
        count = len(self.positions) - self.lead
        if not self.side or rest or pixels.ndim != 3 or len(pixels) != channels or any(
                size % self.side for size in pixels.shape[1:]) or (
                pixels[0].size != count * self.side ** 2):
            raise ValueError(f"pixels must be {channels} channels of {count} patches of "
                             f"{self.side} × {self.side}, not {pixels.shape}")
        rows, columns = (size // self.side for size in pixels.shape[1:])
        cut = pixels.reshape(channels, rows, self.side, columns, self.side)
        cut = cut.transpose(1, 3, 0, 2, 4).reshape(count, -1)
        return np.concatenate([np.zeros((self.lead, cut.shape[1])), cut]).astype(np.float32)


@dataclass(frozen=True)
class Transform:
    """What stands between pooling and the last linear layer of a head: norm(f(linear x))."""

    linear: Linear
    activation: Activation | None
    norm: Norm | None = None


@dataclass(frozen=True)
class Transformer:
    """``pooling`` makes one row of the last layer's S: the ``first``, the ``last``, the ``mean``,
    or one of these divided by its L2 norm, or the ``first_two`` side by side. ``final_norm`` stands
    before it, ``transform`` and ``head`` follow it. ``cap`` c: the head's results y become
    c · tanh(y / c).

    ``blocks`` may read a layer's weights only when it is indexed (``checkpoint.LazyBlocks``).
    ``task``: what the head's results are; ``labels``: their names, where classes have some.
    ``longest``: the most positions that it is right for, where its parts do not say. ``notes``:
    what whoever loads it should know, a line each. ``encoder``: whose results the layers' attention
    ``across`` reads; it has neither pooling nor head. ``start``: tokens that its text begins with;
    ``speech``: of a model that hears, what follows them.
    """

    name: str
    embedding: Tokens | Patches
    blocks: Sequence[Block]
    final_norm: Norm | None = None
    head: Linear | None = None
    pooling: Pooling = "none"
    transform: Transform | None = None
    cap: float | None = None
    task: Task = "features"
    labels: tuple[str, ...] = ()
    longest: int | None = None
    notes: tuple[str, ...] = ()
    encoder: "Transformer | None" = None
    start: tuple[int, ...] = ()
    speech: Speech | None = None

    @property
    def width(self) -> int:
        block = self.blocks[0]
        entry = block.attention.query if block.bottleneck is None else block.bottleneck.enter
        return entry.weight.shape[1]

    @property
    def positions(self) -> int | None:
        """The most positions of a sequence; ``None``: any number."""
        table = self.embedding.positions
        limits = [limit for limit in (None if table is None else len(table), self.longest)
                  if limit is not None]
        return min(limits, default=None)
