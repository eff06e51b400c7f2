"""The runs of the study: a cell is one choice of everything, a group the cells of one question."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from compiler.training.gradients.softmax import STUDIED, usual_backward
from compiler.training.tasks import TASKS
from compiler.training.update import MASTERS
from hdl.spec.config import SOFTMAX_MODES, AcceleratorConfig
from hdl.spec.formats import format_named

__all__ = ["GROUPS", "STUDY_TASKS", "Cell", "cells_of"]

PLAIN = "fp32"
STUDY_TASKS = ("digits-negative-transposed", "digits-transposed", "movie-reviews")
_FORMATS = ("posit8", "posit8es2", "fp8", "bf16")
_RANKS = (1, 2, 4, 8, 16)
# Model, rank, rate, updates of each task: digits 25 times through its images, sentences twice.
_DIGITS = ("digits-vit", 4, 4e-3, 1050)
_SENTENCES = ("bert-tiny", 8, 1e-3, 466)
# Updates and their sequences for questions of many cells: of all but the first task a third of the
# images' passes, and an eighth of the sentences once.
_SHORT = {"digits-transposed": (350, 32), "movie-reviews": (58, 16)}


@dataclass(frozen=True)
class Cell:
    """One run. ``fmt`` fp32: nothing is rounded. ``softmax``, ``backward`` None: the format's own
    mode, and ``ordinary`` with ``pwl``, else ``centred``."""

    task: str
    fmt: str = "posit8"
    softmax: str | None = None
    backward: str | None = None
    scaling: bool = True
    masters: str = "pair"
    rank: int | None = None
    rate: float | None = None
    steps: int | None = None
    seed: int = 0
    batch: int = 32

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, not {self.task!r}")
        _, rank, rate, steps = self._usual
        chosen = {"rank": rank, "rate": rate, "steps": steps}
        if self.fmt == PLAIN:
            chosen |= {"softmax": PLAIN, "backward": "ordinary", "masters": "float"}
            object.__setattr__(self, "scaling", False)
            object.__setattr__(self, "masters", "float")
        else:
            softmax = AcceleratorConfig(self.fmt, softmax=self.softmax).softmax
            chosen |= {"softmax": softmax, "backward": usual_backward(softmax)}
        for name, value in chosen.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name, allowed in (("backward", STUDIED), ("masters", MASTERS)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, "
                                 f"not {getattr(self, name)!r}")

    @property
    def _usual(self) -> tuple[str, int, float, int]:
        return _DIGITS if self.task.startswith("digits") else _SENTENCES

    @property
    def model(self) -> str:
        return self._usual[0]

    def __str__(self) -> str:
        parts = [self.task, self.fmt]
        if self.fmt != PLAIN:
            parts += [self.softmax, self.backward, f"masters {self.masters}",
                      "scaled" if self.scaling else "unscaled"]
        return " ".join([*parts, f"rank {self.rank}", f"rate {self.rate:g}",
                         f"{self.steps} updates of {self.batch}", f"seed {self.seed}"])


def _short(task: str, *fmt: str, **choices: Any) -> Cell:
    """A cell of a question that has many."""
    steps, batch = _SHORT.get(task, (None, 32))
    return Cell(task, *fmt, steps=steps, batch=batch, **choices)


def _backward(task: str) -> Iterator[Cell]:
    yield _short(task, PLAIN)
    for softmax, backward in product(SOFTMAX_MODES, STUDIED):
        yield _short(task, softmax=softmax, backward=backward)


def _formats(task: str) -> Iterator[Cell]:
    """Each format in the mode that it has of itself; those of 8 bits on images in the paper's other
    one too."""
    yield Cell(task, PLAIN)
    for fmt in _FORMATS:
        yield Cell(task, fmt)
        if format_named(fmt).storage_bits == 8 and task.startswith("digits"):
            own = Cell(task, fmt).softmax
            yield Cell(task, fmt, softmax="pwl" if own != "pwl" else "approx_shifted")


def _scaling(task: str) -> Iterator[Cell]:
    yield Cell(task, PLAIN)
    for fmt, scaling in product(("posit8", "fp8"), (True, False)):
        yield Cell(task, fmt, scaling=scaling)


def _masters(task: str) -> Iterator[Cell]:
    usual = Cell(task).rate
    for rate in (usual, usual / 4):
        yield _short(task, PLAIN, rate=rate)
        for masters in MASTERS:
            yield _short(task, masters=masters, rate=rate)


def _rank(task: str) -> Iterator[Cell]:
    for fmt, rank in product((PLAIN, "posit8"), _RANKS):
        yield _short(task, fmt, rank=rank)


GROUPS: dict[str, Callable[[str], Iterator[Cell]]] = {
    "backward": _backward, "formats": _formats, "scaling": _scaling, "masters": _masters,
    "rank": _rank}


def cells_of(group: str, task: str, seed: int) -> list[Cell]:
    """The cells of one question on one task with one seed."""
    return [replace(cell, seed=seed) for cell in GROUPS[group](task)]
