"""Examples: rows of CSV, labelled texts, token ids padded to one length, splits fixed by a seed."""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.training.gradients.network import Batch

if TYPE_CHECKING:  # imported where a tokenizer is made
    from tokenizers import Encoding, Tokenizer

__all__ = ["ALONE", "QUESTIONS", "TEXTS", "WORDS", "DataError", "LabelledTexts", "Row",
           "cut_texts", "encode_texts", "read_csv", "read_rows", "split", "windows"]

TEXTS = ("text", "label")
QUESTIONS = ("question", "context", "answer")
WORDS = ("text", "labels")
ALONE = ("text",)
Row = tuple[int, Mapping[str, str | None]]
# A field of a CSV file; the module's own limit is 131,072 characters.
_LONGEST_FIELD = 1 << 20


class DataError(ValueError):
    """Data that cannot be trained on; the message is one line."""


@dataclass(frozen=True)
class LabelledTexts:
    """``labels`` are numbers of ``classes``; ``lines`` say where in ``source`` a text stands."""

    source: str
    texts: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]
    lines: tuple[int, ...]


def read_csv(path: Path) -> LabelledTexts:
    """The rows of a CSV file with the columns ``text`` and ``label``, in UTF-8; others are left.

    Classes are the different labels in order. ``DataError`` in one line for a file that is not
    there, empty, of another encoding or without those columns, for a row without a text or a
    label, for labels that are all the same or of which one stands alone.
    """
    _, rows = read_rows(path, TEXTS)
    for line, row in rows:
        for name in TEXTS:
            if not (row[name] or "").strip():
                raise DataError(f"{path}, line {line}: {name} must not be empty")
    lines = tuple(line for line, _ in rows)
    texts = tuple(str(row["text"]) for _, row in rows)
    labels = [str(row["label"]).strip() for _, row in rows]
    classes = sorted(set(labels))
    if len(classes) == 1:
        raise DataError(f"{path} must have at least two different labels, not {classes[0]!r} alone")
    for name in classes:
        if labels.count(name) == 1:
            raise DataError(f"{path}, line {lines[labels.index(name)]}: label {name!r} must stand "
                            "in two rows at least, one to train on and one to hold out")
    numbers = np.array([classes.index(label) for label in labels])
    return LabelledTexts(str(path), texts, numbers, tuple(classes), lines)


def read_rows(path: Path, *wanted: tuple[str, ...]) -> tuple[tuple[str, ...], list[Row]]:
    """The first of the ``wanted`` columns that a CSV file in UTF-8 has all of, and of each row its
    line and what stands in all columns. ``DataError`` in one line, for a file without rows too."""
    csv.field_size_limit(_LONGEST_FIELD)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            found = reader.fieldnames or []
            columns = next((own for own in wanted if set(own) <= set(found)), None)
            if columns is None:
                have = " ".join(", ".join(found).split())[:100] or "nothing"
                needed = ", or ".join(" and ".join(filter(None, (", ".join(own[:-1]), own[-1])))
                                      for own in wanted)
                columns_of = "column" if wanted == (ALONE,) else "columns"
                raise DataError(f"{path} must have the {columns_of} {needed}, "
                                f"but its first line has {have}")
            rows: list[Row] = [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise DataError(f"data must be a readable file, not {str(path)!r}: "
                        f"{error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} must be UTF-8, but has byte {error.object[error.start]:#04x} "
                        f"where none can be") from error
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num + 1}: {error}") from error
    if not rows:
        raise DataError(f"{path} must hold rows below its header, but has none")
    return columns, rows


def encode_texts(tokenizer: "Tokenizer", texts: Sequence[str], longest: int, *,
                 cut: bool = False, where: Callable[[int], str] = "text {}".format
                 ) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of each text with the marks of begin and end, and which of them are valid, both
    texts × positions; padded with id 0 to the longest one.

    A text of more than ``longest`` tokens is cut, or refused unless ``cut``: ``where`` says
    what the message calls a text of that number. ``DataError``.
    """
    if longest < 1:
        raise DataError(f"tokens must be at least 1, not {longest}")
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if cut:
        tokenizer.enable_truncation(longest)
    rows = [encoded.ids for encoded in tokenizer.encode_batch(list(texts))]
    tokenizer.no_truncation()
    lengths = np.array([len(row) for row in rows])
    if lengths.max() > longest:
        long = np.flatnonzero(lengths > longest)
        raise DataError(f"{where(long[0])} has {lengths[long[0]]} tokens, and at most "
                        f"{longest} are allowed; {len(long)} of {len(rows)} texts are too long, "
                        f"the longest has {lengths.max()}")
    if not lengths.min():
        raise DataError(f"{where(int(lengths.argmin()))} has no tokens")
    ids = np.zeros((len(rows), lengths.max()), np.int64)
    for row, own in zip(ids, rows, strict=True):
        row[:len(own)] = own
    return ids, np.arange(ids.shape[1]) < lengths[:, None]


def cut_texts(tokenizer: "Tokenizer", texts: Sequence[Any], most: int, *, words: bool = False
              ) -> tuple[list["Encoding"], int]:
    """Texts, or lists of their ``words``, with the marks of begin and end, those of more than
    ``most`` tokens cut, and how many that are. ``DataError`` where the marks leave no room."""
    if most < 1:
        raise DataError(f"tokens must be at least 1, not {most}")
    tokenizer.no_padding()
    tokenizer.enable_truncation(most)
    found = tokenizer.encode_batch(list(texts), is_pretokenized=words)
    tokenizer.no_truncation()
    if max(len(one.ids) for one in found) > most:  # too few to cut to
        raise DataError("tokens must leave room for more than the marks of begin and end, "
                        f"not {most}")
    return found, sum(bool(one.overflowing) for one in found)


def windows(tokenizer: "Tokenizer", texts: Sequence[str], count: int, length: int,
            tell: Callable[[float, str], None] = lambda share, where: None) -> np.ndarray:
    """``count`` × ``length`` token ids: the ``texts`` one after the other, an empty line between
    them, cut into pieces. ``tell`` hears how far it is. ``DataError`` where there are too few."""
    ids: list[int] = []
    for text in texts:
        if len(ids) >= count * length:
            break
        ids += tokenizer.encode(text + "\n\n", add_special_tokens=False).ids
        tell(min(len(ids) / (count * length), 1.0), f"{len(ids)} tokens of text")
    if len(ids) < count * length:
        raise DataError(f"texts must give {count} windows of {length} tokens, "
                        f"but hold {len(ids)} tokens")
    return np.array(ids[:count * length]).reshape(count, length)


def split(batch: Batch, held_out: int, seed: int = 0) -> tuple[Batch, Batch]:
    """What is trained on and the ``held_out`` examples, drawn once by ``seed``; both in the
    order of a permutation that ``seed`` alone decides."""
    if not 1 <= held_out < len(batch):
        raise DataError(f"held out must be from 1 to {len(batch) - 1} examples, not {held_out}")
    order = np.random.default_rng(seed).permutation(len(batch))
    return batch.part(order[:-held_out]), batch.part(order[-held_out:])
