"""Cells cut into parts of some examples each, which are computed, and kept by their contents."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gen.cli import appearing
from gen.cli.folders import build_folder
from sim.campaigns.accuracy import prior
from sim.campaigns.accuracy.cells import PLAIN, Cell
from sim.campaigns.accuracy.compute import computed
from sim.campaigns.accuracy.tasks import Task, task_of
from sim.campaigns.sources import digest_of
from sim.inference.workers import shared

__all__ = ["examples_of", "measured"]

Array = np.ndarray
_BOTH = ("compiler/adapted.py", "compiler/checkpoints/functions.py",
         "compiler/training/adapters.py", "compiler/training/gradients",
         "sim/campaigns/accuracy/losses.py",
         *(f"sim/model/{name}.py" for name in (
             "codec", "compiled", "kept", "lanes", "loops", "rounding", "tables")),
         *(f"hdl/spec/{name}.py" for name in ("activations", "formats", "tables")))
_SOURCES = (*_BOTH, "hdl/spec/timing.py", "compiler/checkpoints/reference.py",
            *(f"sim/campaigns/accuracy/{name}.py" for name in ("arithmetic", "compute")),
            *(f"sim/verify/{name}.py" for name in (
                "arithmetic", "attention", "by_row", "coded", "expected", "fixed", "static",
                "tensors")),
            *(f"sim/model/{name}.py" for name in ("accumulate", "exact", "fixed")))
_PRIOR = (*_BOTH, *(f"sim/campaigns/accuracy/{name}.py" for name in ("prior", "schemes")))
_SIZES = {"minilm": 25.0, "smollm2": 300.0, "digits-vit": 0.2}  # of a position, BERT-tiny's is 1


@dataclass(frozen=True)
class _Part:
    """Examples ``numbers`` of a cell."""

    cell: Cell
    numbers: tuple[int, ...]


def examples_of(cell: Cell) -> Task:
    """The task of a cell with its examples; ``ValueError``, ``ModelUnavailable``."""
    return task_of(cell.task, cell.count, cell.tokens)


def measured(cells: Sequence[Cell], jobs: int = 1, scheduler: str | None = None, *,
             fresh: bool = False, tell: Callable[[float, str], None] = lambda share, where: None
             ) -> Iterator[tuple[Cell, Array]]:
    """Each of ``cells`` with what its model gives for every example (``compute``), as soon as it
    is known. Parts that were computed before are read, unless ``fresh``; others are kept at once.
    ``tell`` hears the share done. ``ValueError``, ``ModelUnavailable``."""
    parts = {cell: _parts(cell) for cell in dict.fromkeys(cells)}
    paths = {part: _path(part) for own in parts.values() for part in own}
    found = {} if fresh else {part: np.load(path) for part, path in paths.items() if path.exists()}
    todo = [part for part in paths if part not in found]
    waiting = {cell: sum(part not in found for part in own) for cell, own in parts.items()}
    total, done = sum(map(_cost, todo)), 0.0
    yield from ((cell, _joined(own, found)) for cell, own in parts.items() if not waiting[cell])
    for part, rows in shared(_computed, todo, jobs, scheduler):
        found[part] = rows
        _keep(paths[part], rows)
        waiting[part.cell] -= 1
        done += _cost(part)
        tell(done / total, str(part.cell))
        if not waiting[part.cell]:
            yield part.cell, _joined(parts[part.cell], found)


def _computed(part: _Part) -> tuple[_Part, Array]:
    """In a worker."""
    of = computed if part.cell.scheme is None else prior.computed
    return part, of(part.cell, part.numbers)


def _parts(cell: Cell) -> list[_Part]:
    """Examples of like lengths together, so that those of one length are computed at once."""
    task = examples_of(cell)
    lengths = [len(example) for example in task.examples]
    found: list[list[int]] = [[]]
    for number in sorted(range(len(lengths)), key=lambda number: (lengths[number], number)):
        if found[-1] and sum(lengths[one] for one in (*found[-1], number)) > task.positions:
            found.append([])
        found[-1].append(number)
    return [_Part(cell, tuple(numbers)) for numbers in found]


def _path(part: _Part) -> Path:
    """By the programs, the model, the numerics and the examples; not by where these stand."""
    cell, task = part.cell, examples_of(part.cell)
    inputs = hashlib.sha256()
    for number in part.numbers:
        example = task.examples[number]
        inputs.update(f"{example.dtype}{example.shape}".encode() + example.tobytes())
    numerics: object = PLAIN if cell.fmt == PLAIN else cell.scheme or [
        cell.config.as_dict(), cell.fusion, cell.reciprocal, cell.merge, *_calibrated(cell, task),
        *([] if cell.centring is None else [cell.centring, digest_of(("compiler/centred.py",))])]
    sources = _SOURCES if cell.scheme is None else _PRIOR
    text = json.dumps([digest_of(sources), task.made_by, task.metric, numerics,
                       inputs.hexdigest()])
    return build_folder() / "accuracy" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.npy"


def _calibrated(cell: Cell, task: Task) -> list[object]:
    """Scales that are not the build's own, or a balance, and what they are measured on."""
    asked = [(how, source) for how, source in (
        (cell.scales, "compiler/calibration.py"), (cell.balance, "compiler/balanced.py"))
        if how is not None]
    if not asked:
        return []
    inputs = hashlib.sha256(b"".join(values.tobytes() for values in task.calibration))
    return [*(part for how, source in asked for part in (how, digest_of((source,)))),
            inputs.hexdigest()]


def _keep(path: Path, rows: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path) as whole, whole.open("wb") as file:
        np.save(file, rows)


def _joined(parts: Sequence[_Part], found: dict[_Part, Array]) -> Array:
    """Of all examples, in their order."""
    numbers = np.concatenate([part.numbers for part in parts])
    return np.concatenate([found[part] for part in parts])[np.argsort(numbers)]


def _cost(part: _Part) -> float:
    """Of computing it, roughly, in no unit: sums that are rounded at each step take longest."""
    cell, task = part.cell, examples_of(part.cell)
    each = 1.0 if cell.fmt == PLAIN or cell.acc == "exact" else 2.0 if cell.acc == "fused" else 6.0
    return each * _SIZES.get(task.model, 1.0) * sum(
        len(task.examples[number]) for number in part.numbers)
