"""What the results of the study say, as one table per group and task."""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from sim.campaigns.study.cells import PLAIN, Cell
from sim.campaigns.study.measure import Result

__all__ = ["summaries", "table"]

_SHOWN = ("fmt", "softmax", "backward", "scaling", "masters", "rank", "rate")


def summaries(results: Sequence[tuple[Cell, Result]]) -> list[dict[str, object]]:
    """One entry for all seeds of a cell: means, deviations, the worst."""
    by_cell: dict[Cell, list[Result]] = {}
    for cell, result in results:
        by_cell.setdefault(replace(cell, seed=0), []).append(result)
    return [{"cell": {name: value for name, value in asdict(cell).items() if name != "seed"},
             **_summary(found)} for cell, found in by_cell.items()]


def _summary(found: list[Result]) -> dict[str, object]:
    accuracies = np.array([result["accuracy"] for result in found])
    losses = np.array([result["last_loss"] for result in found])
    entry = {"seeds": len(found), "failed": sum(result["failed"] is not None for result in found),
             "accuracy": float(accuracies.mean()), "accuracy_deviation": float(accuracies.std()),
             "accuracy_lowest": float(accuracies.min()), "accuracies": accuracies.tolist(),
             "last_loss": float(losses.mean()), "last_losses": losses.tolist(),
             "seconds": float(np.mean([result["seconds"] for result in found]))}
    for name, reduce in (("cosine", np.mean), ("worst_cosine", np.min), ("leak", np.mean)):
        values = [result[name] for result in found if name in result]
        if values:
            entry[name] = float(reduce(values))
    return entry


def table(entries: Sequence[dict[str, object]]) -> str:
    """Markdown; columns in which all entries agree stand above the table."""
    cells = [entry["cell"] for entry in entries]
    varying = [name for name in _SHOWN if len({str(cell[name]) for cell in cells}) > 1] or ["fmt"]
    fixed = [f"{name} {cells[0][name]}" for name in _SHOWN if name not in varying]
    lines = [f"{cells[0]['task']}: {', '.join(fixed)}", "",
             f"| {' | '.join(varying)} | seeds | accuracy | lowest | last loss | cosine, worst "
             "tensor | leak |", "|---" * (len(varying) + 6) + "|"]
    for entry in entries:
        cell = entry["cell"]
        plain = cell["fmt"] == PLAIN
        chosen = ["–" if plain and name not in ("fmt", "rank", "rate") else str(cell[name])
                  for name in varying]
        failed = f" ({entry['failed']} ended early)" if entry["failed"] else ""
        probe = "–" if plain else f"{entry['cosine']:.3f}, {entry['worst_cosine']:.2f}"
        leak = "–" if plain else f"{entry['leak']:.4f}"
        lines.append(
            f"| {' | '.join(chosen)} | {entry['seeds']}{failed} | {entry['accuracy']:.4f} ± "
            f"{entry['accuracy_deviation']:.4f} | {entry['accuracy_lowest']:.4f} | "
            f"{entry['last_loss']:.4f} | {probe} | {leak} |")
    return "\n".join(lines)
