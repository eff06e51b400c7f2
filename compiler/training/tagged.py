"""Words with labels, of a CSV file, as something to train on: names in a text say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compiler.training.data import WORDS, DataError, cut_texts
from compiler.training.gradients.network import Batch
from compiler.training.tasks import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["tagged_task"]


def tagged_task(path: Path, rows: Sequence[tuple[int, Mapping[str, str | None]]],
                words: "Tokenizer", tokens: int) -> Task:
    """The rows of a file with the columns ``text`` and ``labels``: a label for each word between
    blanks. Of a word's tokens the first has its label, the others have none, as marks of begin and
    end. An eighth of the rows is held out, one at least. Texts of more than ``tokens`` tokens are
    cut; ``notes`` says how many. ``DataError`` in one line."""
    read = [_row(f"{path}, line {line}", row) for line, row in rows]
    classes = sorted({label for _, labels in read for label in labels})
    if len(classes) < 2:
        raise DataError(f"{path} must have at least two different labels, not {classes[0]!r} alone")
    if len(read) < 2:
        raise DataError(f"{path} must have at least two rows, one to train on and one to hold out")
    encoded, cut = cut_texts(words, [own for own, _ in read], tokens, words=True)
    length = max(len(one.ids) for one in encoded)
    ids, valid = np.zeros((len(read), length), np.int64), np.zeros((len(read), length), bool)
    labels = np.full((len(read), length), -1)
    for index, (one, (_, own)) in enumerate(zip(encoded, read, strict=True)):
        ids[index, :len(one.ids)], valid[index, :len(one.ids)] = one.ids, True
        before = None
        for place, word in enumerate(one.word_ids):
            if word is not None and word != before:
                labels[index, place] = classes.index(own[word])
            before = word
    if not (labels >= 0).any(axis=1).all():
        line = rows[int(np.flatnonzero(~(labels >= 0).any(axis=1))[0])][0]
        raise DataError(f"{path}, line {line}: text must have a token with a label within "
                        f"--tokens {tokens}")
    order = np.random.default_rng(0).permutation(len(read))
    out = np.isin(np.arange(len(read)), order[:max(1, len(read) // 8)])
    every = Batch(ids, labels, valid)
    notes = (f"{path}: --tokens {tokens} cuts {cut} of {len(read)} texts",) if cut else ()
    return Task(path.name, "tokens", every.part(~out), every.part(out), tuple(classes), notes)


def _row(where: str, row: Mapping[str, str | None]) -> tuple[list[str], list[str]]:
    """The words and their labels."""
    words, labels = ((row[name] or "").split() for name in WORDS)
    if not words or len(words) != len(labels):
        raise DataError(f"{where}: labels must be as many as the words of text, at least 1: "
                        f"{len(words)} words, not {len(labels)} labels")
    return words, labels
