"""What a cell's outputs say: its figures with their intervals, beside the unrounded model's."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, fields
from itertools import combinations
from typing import Any

import numpy as np

from sim.campaigns.accuracy.cells import PLAIN, Cell
from sim.campaigns.accuracy.tasks import Task
from sim.inference.metrics import Outcome, estimate, flips
from sim.verify.report import cosine

__all__ = ["Entry", "cell_of", "entry_of"]

Array = np.ndarray
Entry = dict[str, Any]
_DEFAULTS = {item.name: item.default for item in fields(Cell)}


def entry_of(cell: Cell, task: Task, rows: Array, plain: Array) -> Entry:
    """Figures of a cell that gave ``rows``, beside ``plain``, what the unrounded model gives:
    ``value`` with the ends of its 95 % interval; ``flips``: decisions that differ from the plain
    ones; ``error``: of logits the length of all differences over that of the plain ones, each
    row's mean apart, which decides nothing, of losses of tokens the root of their mean square.
    Of pairs the interval is that of pairs drawn anew, as if those of one document were apart.
    ``shift``: what of it all rows share, of parameters that are rounded alone. ``digest``: of the
    rows, every bit of them."""
    outcomes = _outcomes(task, rows)
    found = estimate(task.metric, outcomes)
    entry: Entry = {
        "cell": {name: value for name, value in asdict(cell).items()
                 if value != _DEFAULTS.get(name)},
        "metric": task.metric, "n": found.count, "value": _round(found.value),
        "low": _round(found.low), "high": _round(found.high)}
    if task.metric == "accuracy":
        entry["standard_error"] = _round(np.sqrt(found.value * (1 - found.value) / found.count))
    if cell.fmt != PLAIN:
        if task.metric == "perplexity":
            entry["flips"], error = _of_losses(rows, plain)
        else:
            entry["flips"], error = flips(outcomes, _outcomes(task, plain)), _of_logits(rows, plain)
        entry |= {"error": _round(error),
                  "digest": hashlib.sha256(np.float64(rows).tobytes()).hexdigest()[:16]}
        if cell.scheme is not None and " of " in cell.scheme and task.metric != "perplexity":
            entry["shift"] = _round(_shift(rows, plain))
    return entry


def _outcomes(task: Task, rows: Array) -> Sequence[Outcome]:
    if task.metric == "spearman":
        pairs = combinations(range(len(rows)), 2)
        return [{"similarity": cosine(rows[i], rows[j]), "score": float(task.right[i, j])}
                for i, j in pairs]
    if task.metric == "perplexity":
        tokens = rows.shape[1] // 2
        return [{"loss": float(row[:tokens].sum()), "tokens": tokens} for row in rows]
    return [{"predicted": int(row.argmax()), "label": int(label)}
            for row, label in zip(rows, task.right, strict=True)]


def _of_losses(rows: Array, plain: Array) -> tuple[int, float]:
    """Likeliest tokens that differ, and by how much losses do."""
    tokens = rows.shape[1] // 2
    changed = int(np.count_nonzero(rows[:, tokens:] != plain[:, tokens:]))
    return changed, float(np.sqrt(np.mean((rows[:, :tokens] - plain[:, :tokens]) ** 2)))


def _of_logits(rows: Array, plain: Array) -> float:
    rows, plain = (values - values.mean(axis=1, keepdims=True) for values in (rows, plain))
    return float(np.linalg.norm(rows - plain) / np.linalg.norm(plain))


def _shift(rows: Array, plain: Array) -> float:
    """What all rows have in common of their error, as a share like ``_of_logits``."""
    rows, plain = (values - values.mean(axis=1, keepdims=True) for values in (rows, plain))
    common = np.linalg.norm((rows - plain).mean(axis=0)) * np.sqrt(len(rows))
    return float(common / np.linalg.norm(plain))


def _round(value: float) -> float:
    """Six digits: more are no figure, and may hang on a library's functions."""
    return float(f"{value:.6g}")


def cell_of(entry: Entry) -> Cell:
    """The cell that an entry is of."""
    return Cell(**entry["cell"])
