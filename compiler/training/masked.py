"""Texts without labels as something to train on: words that are hidden, or next ones.

Of the positions that hold text a share is chosen, and what stood there is the label. Of those
chosen 8 of 10 show the mark for a hidden word, 1 any word, 1 what it is ("BERT: Pre-training of
Deep Bidirectional Transformers", 2019, section 3.1). What is trained on is hidden anew in each
pass, what is held out once.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compiler.checkpoints.description import Tokens, Transformer
from compiler.training.data import DataError, Row, cut_texts, split
from compiler.training.gradients.network import Batch
from compiler.training.tasks import REVIEWS_HELD_OUT, Task, reviews
from compiler.training.trainer import batches

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["SHARE", "MaskedTask", "Masking", "masked_reviews", "text_task"]

SHARE = 0.15
_SHOWN_MARK, _SHOWN_ANY = 0.8, 0.9
_MARKS = ("[MASK]", "<mask>")


@dataclass(frozen=True)
class Masking:
    """``mark``: the id that stands for a hidden word; ``words``: ids are below; ``share``: of
    positions that are chosen, above 0 and at most 1, one of each text at least."""

    mark: int
    words: int
    share: float = SHARE

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"mask-share must be a number above 0 and at most 1, not {self.share}")

    def drawn(self, texts: Batch, rng: np.random.Generator) -> Batch:
        """``texts``, whose labels are ids, below 0 where none may be chosen, with words hidden as
        ``rng`` draws them."""
        likely, shown = rng.random(texts.labels.shape), rng.random(texts.labels.shape)
        others = rng.integers(0, self.words, texts.labels.shape)
        likely = np.where(texts.labels >= 0, likely, 2.0)
        chosen = likely < np.maximum(self.share, np.nextafter(likely.min(axis=1), 2))[:, None]
        labels = np.where(chosen & (texts.labels >= 0), texts.labels, -1)
        given = np.where(shown < _SHOWN_MARK, self.mark, np.where(
            shown < _SHOWN_ANY, others, texts.inputs))
        return replace(texts, inputs=np.where(labels >= 0, given, texts.inputs), labels=labels)


@dataclass(frozen=True)
class MaskedTask(Task):
    """``texts``: those of ``train`` before anything is hidden (``Masking.drawn``)."""

    texts: Batch | None = None
    masking: Masking | None = None

    def batches(self, size: int, seed: int) -> Iterator[Batch]:
        assert self.texts is not None and self.masking is not None
        rng = np.random.default_rng((seed, 3))
        return (self.masking.drawn(part, rng) for part in batches(self.texts, size, seed))


def text_task(path: Path, rows: Sequence[Row], words: "Tokenizer", model: Transformer, tokens: int,
              share: float | None = None) -> Task:
    """The column ``text`` of a file's ``rows``: hidden words for a model that has a head for them,
    ``share`` of the positions (``SHARE``), next words for a causal one. An eighth is held out, one
    text at least; those of more than ``tokens`` tokens are cut, and ``notes`` says how many.
    ``DataError`` in one line."""
    texts = [row["text"] or "" for _, row in rows]
    for (line, _), text in zip(rows, texts, strict=True):
        if not text.strip():
            raise DataError(f"{path}, line {line}: text must not be empty")
    if len(texts) < 2:
        raise DataError(f"{path} must have at least two rows, one to train on and one to hold out")

    def where(number: int) -> str:
        return f"{path}, line {rows[number][0]}: the text"

    held_out = max(1, len(texts) // 8)
    if share is not None or model.task == "masked language model":
        return _masked_task(path.name, words, model, texts, tokens, held_out, share, where)
    if not model.blocks[-1].attention.causal:
        raise DataError(f"{path} has no labels: {model.name} must have a head for masked words, or "
                        "be causal, to learn from text alone")
    every, notes = _encoded(path.name, words, texts, tokens)
    short = np.flatnonzero(every.valid.sum(axis=1) < 2)
    if len(short):
        raise DataError(f"{where(int(short[0]))} must have two tokens at least within --tokens "
                        f"{tokens}")
    parts = split(replace(every, labels=every.inputs), held_out)
    return Task(path.name, "vocabulary", *parts, notes=notes)


def masked_reviews(words: "Tokenizer", model: Transformer, tokens: int, share: float | None = None,
                   cache: Path | None = None, offline: bool = False) -> Task:
    """Hidden words of the sentences of ``tasks.movie_reviews``. ``DataError``,
    ``ModelUnavailable``."""
    texts = [text for text, _ in reviews("rotten_tomatoes", cache, offline)]
    return _masked_task("masked-reviews", words, model, texts, tokens, REVIEWS_HELD_OUT, share,
                        "sentence {}".format)


def _masked_task(name: str, words: "Tokenizer", model: Transformer, texts: Sequence[str],
                 tokens: int, held_out: int, share: float | None, where: Callable[[int], str]
                 ) -> MaskedTask:
    if model.task != "masked language model":
        raise DataError(f"{model.name} must have a head for masked words, not one for "
                        f"{model.task}")
    assert isinstance(model.embedding, Tokens), "words"
    mark = next((found for found in map(words.token_to_id, _MARKS) if found is not None), None)
    count = min(len(model.embedding.table), words.get_vocab_size())
    if mark is None or mark >= count:
        raise DataError(f"the tokenizer of {model.name} must have one of {', '.join(_MARKS)}, "
                        "which stands for a hidden word")
    masking = Masking(mark, count, SHARE if share is None else share)
    every, notes = _encoded(name, words, texts, tokens)
    empty = np.flatnonzero((every.labels < 0).all(axis=1))
    if len(empty):
        raise DataError(f"{where(int(empty[0]))} must have a token besides those of begin and end "
                        f"within --tokens {tokens}")
    train, out = split(every, held_out)
    once = [masking.drawn(part, np.random.default_rng(number))
            for number, part in enumerate((train, out))]
    return MaskedTask(name, "tokens", *once, notes=notes, texts=train, masking=masking)


def _encoded(name: str, words: "Tokenizer", texts: Sequence[str], tokens: int
             ) -> tuple[Batch, tuple[str, ...]]:
    """Ids of at most ``tokens`` positions, labels that are those but for marks of begin and end,
    and how many texts are cut."""
    encoded, cut = cut_texts(words, texts, tokens)
    lengths = np.array([len(one.ids) for one in encoded])
    valid = np.arange(max(lengths)) < lengths[:, None]
    ids, marks = np.zeros(valid.shape, np.int64), np.ones(valid.shape, bool)
    ids[valid] = np.concatenate([one.ids for one in encoded])
    marks[valid] = np.concatenate([one.special_tokens_mask for one in encoded])
    notes = (f"{name}: --tokens {tokens} cuts {cut} of {len(texts)} texts",) if cut else ()
    return Batch(ids, np.where(marks, -1, ids), valid), notes
