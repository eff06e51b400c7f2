"""All units of the golden vectors: drawing them anew, and computing their results again."""

from collections.abc import Iterator

import numpy as np

from tools.vectors import lanes, operands, rows
from tools.vectors.store import File, Group, load

__all__ = ["RESULTS", "UNITS", "again", "different", "draw"]

UNITS = operands.UNITS | lanes.UNITS | rows.UNITS
RESULTS = dict.fromkeys(UNITS, 1) | {"gemm": 2}  # the last items of a case
SEED = 2026


def draw(unit: str) -> File:
    """The file of ``unit``, the same every time."""
    return UNITS[unit][0](np.random.default_rng([SEED, list(UNITS).index(unit)]))


def again(unit: str, group: Group) -> list[list]:
    """The results of each case of ``group``, computed by the models from its operands."""
    count = RESULTS[unit]
    operands = [list(column) for column in zip(*group.cases, strict=True)][1:-count]
    found = UNITS[unit][1](group.choice, operands)
    return [list(results) for results in found] if count > 1 else [[result] for result in found]


def different(unit: str, file: File | None = None) -> Iterator[str]:
    """A line for each case of ``unit`` whose results the models do not give."""
    file = load(unit) if file is None else file
    for group in file.groups:
        count = RESULTS[unit]
        for case, results in zip(group.cases, again(unit, group), strict=True):
            if case[-count:] != results:
                yield f"{unit} {group}: {case} has results {results}"
