"""Data sets to evaluate a model on: rows of CSV, JSON lines or npz, each with what is right."""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compiler.checkpoints.arrays import read_npz
from compiler.checkpoints.description import Patches, Transformer
from compiler.checkpoints.digits import patches

__all__ = ["COLUMNS", "DataSet", "Row", "SetError", "read_set"]

COLUMNS = {"text": "a text, a question, or what is said",
           "context": "what goes with it: the other text of a pair, or what a question is about",
           "label": "the class, by name or number",
           "answers": "what is right, one text or several", "score": "how alike two texts are",
           "ids": "token ids in place of a text",
           "audio": "a file of sound, by its place from the data's folder"}
_LONGEST_FIELD = 1 << 24
_SUFFIXES = (".csv", ".jsonl", ".json", ".npz")


class SetError(ValueError):
    """Data that cannot be evaluated on; the message is one line."""


@dataclass(frozen=True)
class Row:
    """``where`` it stands; ``values`` by name (``COLUMNS``, ``patches``)."""

    where: str
    values: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A column that must hold a text; ``SetError``."""
        value = self.values.get(name)
        if not isinstance(value, str) or not value.strip():
            raise SetError(f"{self.where}: {name} must be a text, not {_shown(value)}")
        return value

    def texts(self, name: str) -> list[str]:
        """A column that must hold one text or several; ``SetError``."""
        value = self.values.get(name)
        if isinstance(value, dict):  # as SQuAD has it
            value = value.get("text")
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not found or not all(
                isinstance(one, str) for one in found):
            raise SetError(f"{self.where}: {name} must be a text or several, not {_shown(value)}")
        return found

    def number(self, name: str) -> float:
        """A column that must hold a finite number; ``SetError``."""
        try:
            value = float(self.values[name])
        except (KeyError, TypeError, ValueError, OverflowError):
            value = float("nan")
        if not np.isfinite(value):
            raise SetError(f"{self.where}: {name} must be a finite number, "
                           f"not {_shown(self.values.get(name))}")
        return value

    def label(self, names: tuple[str, ...], count: int) -> int:
        """The number of the class that column ``label`` names, of ``count``; ``SetError``."""
        value = self.values.get("label")
        if isinstance(value, str) and value.strip() in names:
            return names.index(value.strip())
        try:
            number = int(value) if not isinstance(value, bool) else -1  # type: ignore[arg-type]
            if isinstance(value, float) and number != value:
                number = -1
        except (TypeError, ValueError, OverflowError):
            number = -1
        if not 0 <= number < count:
            some = f"one of {', '.join(names[:8])}, or " if names else ""
            raise SetError(f"{self.where}: label must be {some}a number from 0 to {count - 1}, "
                           f"not {_shown(value)}")
        return number


@dataclass(frozen=True)
class DataSet:
    """``digest``: of the file, by which an evaluation that goes on knows it."""

    name: str
    digest: str
    rows: tuple[Row, ...]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def read_set(path: Path, model: Transformer, columns: Mapping[str, str] | None = None,
             limit: int | None = None) -> DataSet:
    """The rows of a file; ``columns``: what it calls those of ``COLUMNS``, where it calls them
    otherwise. ``SetError``, ``ArrayError`` in one line."""
    if path.suffix not in _SUFFIXES:
        raise SetError(f"data must be a file that ends in {', '.join(_SUFFIXES)}, "
                       f"not {str(path)!r}")
    names = {name: name for name in COLUMNS} | dict(columns or {})
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if path.suffix == ".npz":
            rows = list(_arrays(path, model, names))
        else:
            read = _table if path.suffix == ".csv" else _lines
            rows = [Row(where, _beside(path, {
                name: values[given] for name, given in names.items()
                if values.get(given) is not None})) for where, values in read(path)]
    except OSError as error:
        raise SetError(f"data must be a readable file, not {str(path)!r}: "
                       f"{error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise SetError(f"{path} must be UTF-8, but has byte {error.object[error.start]:#04x} "
                       "where none can be") from error
    rows = rows[:limit]
    if not rows:
        raise SetError(f"{path} must hold at least one row")
    for name, given in (columns or {}).items():
        if not any(name in row.values for row in rows):
            raise SetError(f"{path} must have a column {given!r}, as --columns says")
    return DataSet(path.name, digest, tuple(rows))


def _beside(path: Path, values: dict[str, Any]) -> dict[str, Any]:
    """Files that a row names, as they are found from anywhere."""
    if isinstance(values.get("audio"), str) and values["audio"].strip():
        values["audio"] = str((path.parent / values["audio"]).absolute())
    return values


def _table(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            for row in reader:
                if None in row:
                    raise SetError(f"{path}, line {reader.line_num}: a row must have at most "
                                   f"{len(reader.fieldnames or ())} fields, as the first line has")
                yield f"{path}, line {reader.line_num}", row
        except csv.Error as error:
            raise SetError(f"{path}, line {reader.line_num + 1}: {error}") from error


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}, line {number}"
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise SetError(f"{where} must be a JSON object: {error}") from error
            if not isinstance(row, dict):
                raise SetError(f"{where} must be a JSON object, not {type(row).__name__}")
            yield where, row


def _arrays(path: Path, model: Transformer, names: Mapping[str, str]) -> Iterator[Row]:
    """``ids`` N × S, or ``images`` or ``patches``, with ``label`` (``labels``) and others of N."""
    found = read_npz(path)
    own = {given: name for name, given in names.items()} | {"labels": "label"}
    arrays = {own.get(name, name): values for name, values in found.items()}
    if isinstance(model.embedding, Patches):
        arrays = _patches(path, arrays, model.embedding)
    main = "patches" if isinstance(model.embedding, Patches) else "ids"
    if main not in arrays:
        raise SetError(f"{path} must hold an array {names.get(main, main)!r} for {model.name}, "
                       f"not {', '.join(sorted(found)) or 'none'}")
    count = len(arrays[main]) if arrays[main].ndim else 0
    for name, values in arrays.items():
        if not values.ndim or len(values) != count:
            raise SetError(f"{path}: {name} must have {count} rows, as {main} has, "
                           f"not shape {values.shape}")
    for index in range(count):
        yield Row(f"{path}, row {index}", {
            name: values[index].item() if values[index].ndim == 0 else values[index]
            for name, values in arrays.items()})


def _patches(path: Path, arrays: dict[str, np.ndarray], embedding: Patches
             ) -> dict[str, np.ndarray]:
    if "images" in arrays and "patches" not in arrays:
        images = arrays.pop("images")
        if images.ndim != 3 or images.shape[1:] != (8, 8) or images.dtype.kind not in "iuf":
            raise SetError(f"{path}: images must be N × 8 × 8 pixels, not {images.shape} of "
                           f"{images.dtype}; patches are taken of other sizes")
        arrays["patches"] = patches(images)
    values = arrays.get("patches")
    items = embedding.projection.weight.shape[1]
    if values is not None and (values.ndim != 3 or values.shape[2] != items
                               or values.dtype.kind not in "iuf"
                               or not np.isfinite(values).all()):
        raise SetError(f"{path}: patches must be N × positions × {items} finite numbers, "
                       f"not {values.shape} of {values.dtype}")
    return arrays
