"""Combinations of format, accumulator and softmax mode that a build can be made of: ``cells``."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from hdl.spec.config import ACCUMULATORS, SOFTMAX_MODES, AcceleratorConfig
from hdl.spec.formats import FORMATS, format_named

__all__ = ["Cell", "cells", "refusals", "sample"]


@dataclass(frozen=True)
class Cell:
    """One combination that a build can be made of."""

    fmt: str
    acc: str
    softmax: str

    def config(self, dim: int, functions: str = "all") -> AcceleratorConfig:
        return AcceleratorConfig(self.fmt, dim=dim, acc=self.acc, softmax=self.softmax,
                                 functions=functions)

    def __str__(self) -> str:
        return f"{self.fmt} {self.acc} {self.softmax}"


def _judged(dim: int, functions: str) -> Iterator[tuple[Cell, str | None]]:
    """Every combination and why the configuration refuses it, ``None`` where it does not."""
    for names in product(FORMATS, ACCUMULATORS, SOFTMAX_MODES):
        cell, reason = Cell(*names), None
        try:
            cell.config(dim, functions)
        except ValueError as error:
            reason = str(error)
        yield cell, reason


def cells(dim: int = 4, functions: str = "all") -> list[Cell]:
    """Every combination that the configuration accepts."""
    return [cell for cell, reason in _judged(dim, functions) if reason is None]


def refusals(dim: int = 4, functions: str = "all") -> dict[str, list[Cell]]:
    """Every combination that it refuses, by its reason."""
    found: dict[str, list[Cell]] = {}
    for cell, reason in _judged(dim, functions):
        if reason is not None:
            found.setdefault(reason, []).append(cell)
    return found


def sample(every: Sequence[Cell]) -> list[Cell]:
    """One cell per format; together they touch each accumulator and each mode. The first format's
    is its build without options, which others share."""
    chosen: list[Cell] = []
    for index, fmt in enumerate(dict.fromkeys(cell.fmt for cell in every)):
        accs = list(dict.fromkeys(cell.acc for cell in every if cell.fmt == fmt))
        modes = list(dict.fromkeys(cell.softmax for cell in every if cell.fmt == fmt))
        own = SOFTMAX_MODES.index(format_named(every[0].fmt).default_softmax)
        chosen.append(Cell(fmt, accs[index % len(accs)],
                           modes[(own + index + index // len(modes)) % len(modes)]))
    return chosen
