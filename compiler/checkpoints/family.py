"""What a family of models is: names of tensors, what settings mean, and heads, as data.

A file of ``compiler.checkpoints.families`` holds one ``Family`` or some; ``loader`` finds them
there and builds a ``description.Transformer`` of any, by the parts that ``parts`` reads.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from compiler.checkpoints.description import Activation, Pooling, Rotary, Task
from compiler.checkpoints.settings import Settings

__all__ = ["ACROSS", "ATTENTION", "LINEARS", "MLP", "Family", "Head", "Names", "NormKind",
           "Packed", "Plan", "Vision"]

ATTENTION = frozenset(("query", "key", "value", "output"))
MLP = frozenset(("gate", "up", "down"))
LINEARS = ATTENTION | MLP
ACROSS = frozenset(f"across_{part}" for part in ATTENTION)

NormKind = Literal["layer", "layer + 1", "layer without shift", "rms", "rms + 1", "affine"]


@dataclass(frozen=True)
class Packed:
    """A tensor that holds the rows of several ``parts`` below one another, in this order;
    ``by_head``: of each head in turn."""

    name: str
    parts: tuple[str, ...]
    by_head: bool = False


# Of each part of a layer or of the ends, its tensor's name without ``.weight``; {} is the layer.
Names = Mapping[str, str | Packed]


@dataclass(frozen=True)
class Vision:
    """How images are cut: ``channels`` × ``image`` × ``image`` pixels into patches of side
    ``patch``.

    ``tokens``: tensors that stand before the patches; ``positions``: that of the positions of both.
    ``shape``: what tokens' shapes begin with before the width, positions' but for the first of it.
    ``bias``: whether the projection has one.
    """

    channels: int
    patch: int
    image: int
    tokens: tuple[str, ...]
    positions: str
    shape: tuple[int, ...] = ()
    bias: bool = True


@dataclass(frozen=True)
class Plan:
    """What the settings of one checkpoint say, in the words of ``description``.

    Attributes
    ----------
    layers, width, heads, hidden: as the names say; ``hidden`` of the feed-forward.
    kv_heads, head_size: 0 is ``heads``, and the heads' share of ``width``.
    eps, norm: of all norms.
    pre_norm, parallel, causal: as in ``Block`` and ``Attention``.
    biased: parts of a layer with a bias. Where names hold no ``gate``, there is none.
    absent: names of norms that layers do without, though others have them.
    labels: what stands for each layer in names; (): its number. Layers of one label are one.
    rotary, windows: of each layer; (): none in any.
    rotated: items of a head that are rotated, the first ones; 0: all.
    scale, cap: of scores.
    vocabulary, positions, offset, segments: rows of the tables of the embedding; the first
        ``offset`` of the positions are of no position.
    table_width: of the embedding's tables where it is not ``width``; 0: it is.
    factor: of the embedding.
    transposed: linear layers are stored inputs × outputs.
    tied: the head is the embedding's table. ``logit_cap``: of what it gives.
    longest: positions that rotary embeddings are right for, where that is limited.
    residual_factor, logit_factor: of what layers add, and of the head's results.
    buckets: how many biases each head has for how far apart positions are, and from which
        distance on they are one; ``None``: no biases.
    vision: of models that read images.
    bands: of frames of sound, for models that read these.
    sinusoids: positions are sines and cosines and stored nowhere.
    encoder: of models with one.
    options: what a ``Family.parts`` of its own needs besides.
    """

    layers: int
    width: int
    heads: int
    hidden: int
    eps: float
    activation: Activation
    norm: NormKind = "layer"
    kv_heads: int = 0
    head_size: int = 0
    pre_norm: bool = False
    parallel: bool = False
    causal: bool = False
    biased: frozenset[str] = LINEARS
    absent: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()
    rotary: tuple[Rotary | None, ...] = ()
    windows: tuple[int | None, ...] = ()
    rotated: int = 0
    scale: float | None = None
    cap: float | None = None
    vocabulary: int = 0
    positions: int = 0
    offset: int = 0
    segments: int = 0
    table_width: int = 0
    factor: float = 1.0
    transposed: bool = False
    tied: bool = False
    logit_cap: float | None = None
    longest: int | None = None
    residual_factor: float = 1.0
    logit_factor: float = 1.0
    buckets: tuple[int, int] | None = None
    vision: Vision | None = None
    bands: int = 0
    sinusoids: bool = False
    encoder: "Plan | None" = None
    options: Mapping[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return self.head_size or self.width // self.heads

    @property
    def shared_heads(self) -> int:
        return self.kv_heads or self.heads

    @property
    def layer_labels(self) -> tuple[str, ...]:
        return self.labels or tuple(map(str, range(self.layers)))


@dataclass(frozen=True)
class Head:
    """What follows the last layer for a ``task``; names are of tensors, as in ``Names``.

    Attributes
    ----------
    last: the last linear layer; ``None``: none.
    outputs: of the last layer: "labels", by their number in the settings, "vocabulary", a number,
        or the setting that says it.
    dense, norm: what stands before it. ``dense`` has as many outputs as inputs, or, ``narrow``, as
        the embedding's table has columns; ``dense_if_narrow``: it is there where these differ.
    activation: between the two; None is the layers' own, "none" is none.
    bias, dense_bias: whether these have one; ``bias_name``: where that of the last is apart;
        ``bias_row``: as a matrix of one row.
    tied: the last layer's matrix may be the embedding's table.
    optional: a checkpoint without its first tensor is one of features.
    copies: tensors that are stored under another name too.
    second: another last layer, of the second of ``first_two``: the mean of both is the result.
    """

    task: Task
    last: str | None
    outputs: str | int = "labels"
    dense: str | None = None
    norm: str | None = None
    activation: Activation | Literal["none"] | None = None
    pooling: Pooling = "none"
    bias: bool = True
    bias_name: str | None = None
    bias_row: bool = False
    dense_bias: bool = True
    tied: bool = False
    narrow: bool = False
    optional: bool = False
    dense_if_narrow: bool = False
    copies: tuple[str, ...] = ()
    second: str | None = None


@dataclass(frozen=True)
class Family:
    """One or several kinds of models that are read alike.

    Attributes
    ----------
    kinds: ``model_type`` in ``config.json``.
    title: what messages call it.
    classes: how the names of its classes begin: ``Bert`` of ``BertModel``, ``BertForMaskedLM``.
    names: of the tensors within the base model; where they depend on settings, of these.
        ``encoder_names``: of its encoder, where it has one.
    plan: of the settings; raises their ``refuse``.
    prefixes: of the base model within one with a head, and "" where files may hold it alone.
    heads: by what follows ``For`` in the name of a class, or by the whole name; where they depend
        on settings, of these.
    default: the head of a checkpoint that names no class, by the same.
    unused: beginnings of names of tensors that have no place, with or without the prefix.
    parts: a kind of ``parts.Parts`` of its own, for families that need more than a plan.
    """

    kinds: tuple[str, ...]
    title: str
    classes: tuple[str, ...]
    names: Names | Callable[[Settings], Names]
    plan: Callable[[Settings], Plan]
    prefixes: tuple[str, ...] = ("",)
    heads: Mapping[str, Head] | Callable[[Settings], Mapping[str, Head]] = field(
        default_factory=dict)
    default: str | None = None
    unused: tuple[str, ...] = ()
    parts: type | None = None
    encoder_names: Names | Callable[[Settings], Names] | None = None
