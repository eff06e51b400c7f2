"""The committed golden vectors, for tests that give them to the hardware."""

from collections.abc import Iterator

import numpy as np

from tools.vectors.store import Group, load, number

__all__ = ["column", "groups", "reals", "words"]


def groups(unit: str, **choice: object) -> Iterator[tuple[Group, tuple[str, ...]]]:
    """Groups of ``unit`` whose choice is ``choice`` where that says something, with the fields."""
    file = load(unit)
    for group in file.groups:
        if all(group.choice.get(name) == wanted for name, wanted in choice.items()):
            yield group, tuple(file.fields)


def column(found: tuple[Group, tuple[str, ...]], name: str) -> list:
    group, fields = found
    return group.column(fields, name)


def words(found: tuple[Group, tuple[str, ...]], name: str, bits: int = 64) -> np.ndarray:
    """A field of words, uint64; above 64 ``bits`` rows of 32-bit words, the lowest first."""
    raw = [number(text) for text in column(found, name)]
    if bits <= 64:
        return np.array(raw, np.uint64)
    return np.array([[word >> 32 * index & 0xFFFFFFFF for index in range(-(-bits // 32))]
                     for word in raw], np.uint32)


def reals(found: tuple[Group, tuple[str, ...]], name: str) -> np.ndarray:
    """A field of numbers, float64."""
    return np.array([float.fromhex(text) for text in column(found, name)])
