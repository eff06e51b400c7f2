"""What the results of the study say, as one table per group and task."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from sim.campaigns.study.cells import PLAIN, Cell, cells_of
from sim.campaigns.study.measure import Result

__all__ = ["Earlier", "completed", "earlier", "summaries", "table"]

Entry = dict[str, Any]
Earlier = dict[tuple[str, str], list[Entry]]

_SHOWN = ("fmt", "softmax", "backward", "scaling", "masters", "rank", "rate", "steps", "batch")


def summaries(results: Sequence[tuple[Cell, Result]]) -> list[Entry]:
    """One entry for all seeds of a cell: means, deviations, the worst; ``from_fp32``: the largest
    distance of a curve from that of the fp32 run with the same seed and all else alike, if any."""
    by_cell: dict[Cell, list[Result]] = {}
    plain = {_plain(cell): result for cell, result in results if cell.fmt == PLAIN}
    distances: dict[Cell, list[float]] = {}
    for cell, result in results:
        every = replace(cell, seed=0)
        by_cell.setdefault(every, []).append(result)
        if cell.fmt != PLAIN and (like := plain.get(_plain(cell))):
            distances.setdefault(every, []).append(_distance(result, like))
    entries = []
    for cell, found in by_cell.items():
        entry = {"cell": _named(cell), **_summary(found)}
        if cell in distances:
            entry["from_fp32"] = max(distances[cell])
        entries.append(entry)
    return entries


def earlier(path: Path) -> Earlier:
    """The entries of a file of summaries by group and task, each with its ``sources``;
    ``ValueError`` where it is none."""
    try:
        found = json.loads(path.read_text())
        return {(part["group"], part["task"]): [
            {"sources": found["sources"]} | entry for entry in part["entries"] if entry["cell"]]
            for part in found["parts"]}
    except OSError as error:
        raise ValueError(f"earlier must be a file that can be read, not {str(path)!r}: "
                         f"{error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"earlier must be a file that --output wrote, not {str(path)!r}"
                         ) from error


def completed(entries: Sequence[Entry], group: str, task: str, others: Earlier) -> list[Entry]:
    """``entries`` of a question on a task, and those of ``others`` for what has not been run, or
    not with as many seeds; in the order of the question's cells."""
    found: list[Entry] = []
    for cell in cells_of(group, task, 0):
        same = [entry for entry in (*entries, *others.get((group, task), ()))
                if entry["cell"] == _named(cell)]
        if same:
            found.append(max(same, key=lambda entry: entry["seeds"]))
    return found


def _named(cell: Cell) -> dict[str, object]:
    """What ``cell`` is, whatever its seed."""
    return {name: value for name, value in asdict(cell).items() if name != "seed"}


def _plain(cell: Cell) -> tuple:
    return cell.task, cell.rank, cell.rate, cell.steps, cell.batch, cell.seed


def _distance(result: Result, other: Result) -> float:
    """Between points of the curves that both have."""
    one, two = np.asarray(result["curve"]), np.asarray(other["curve"])
    both = min(len(one), len(two))
    return float(np.abs(one[:both] - two[:both]).max(initial=0))


def _summary(found: list[Result]) -> Entry:
    accuracies = np.array([result["accuracy"] for result in found])
    losses = np.array([result["last_loss"] for result in found])
    entry = {"seeds": len(found), "failed": sum(result["failed"] is not None for result in found),
             "accuracy": float(accuracies.mean()), "accuracy_deviation": float(accuracies.std()),
             "accuracy_lowest": float(accuracies.min()), "accuracies": accuracies.tolist(),
             "last_loss": float(losses.mean()), "last_losses": losses.tolist(),
             "seconds": float(np.mean([result["seconds"] for result in found])),
             "sources": sorted({str(result["sources"]) for result in found})}
    for name, reduce in (("cosine", np.mean), ("worst_cosine", np.min), ("leak", np.mean)):
        values = [result[name] for result in found if name in result]
        if values:
            entry[name] = float(reduce(values))
    return entry


def table(entries: Sequence[Entry]) -> str:
    """Markdown; columns in which all entries agree stand above the table."""
    cells = [entry["cell"] for entry in entries]
    varying = [name for name in _SHOWN if len({str(cell[name]) for cell in cells}) > 1] or ["fmt"]
    fixed = [f"{name} {cells[0][name]}" for name in _SHOWN if name not in varying]
    lines = [f"{cells[0]['task']}: {', '.join(fixed)}", "",
             f"| {' | '.join(varying)} | seeds | accuracy | lowest | last loss | curve from fp32's "
             "| cosine, worst tensor | leak |", "|---" * (len(varying) + 7) + "|"]
    for entry in entries:
        cell = entry["cell"]
        plain = cell["fmt"] == PLAIN
        chosen = ["–" if plain and name not in ("fmt", "rank", "rate", "steps", "batch")
                  else str(cell[name]) for name in varying]
        distance = f"{entry['from_fp32']:.3f}" if "from_fp32" in entry else "–"
        failed = f" ({entry['failed']} ended early)" if entry["failed"] else ""
        probe = "–" if plain else f"{entry['cosine']:.3f}, {entry['worst_cosine']:.2f}"
        leak = "–" if plain else f"{entry['leak']:.4f}"
        lines.append(
            f"| {' | '.join(chosen)} | {entry['seeds']}{failed} | {entry['accuracy']:.4f} ± "
            f"{entry['accuracy_deviation']:.4f} | {entry['accuracy_lowest']:.4f} | "
            f"{entry['last_loss']:.4f} | {distance} | {probe} | {leak} |")
    return "\n".join(lines)
