"""Layers without their matrices, which are read one by one when they are placed: ``Streamed``."""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from compiler.checkpoints.description import Block, Linear

__all__ = ["Streamed", "with_matrices"]


class Streamed(Sequence[Block]):
    """``blocks``, each as ``prepare`` makes it, with stand-ins for matrices of weights.

    A stand-in has a matrix's shape and no memory; whoever reads its items gets NaN. ``contents``
    gives the matrix, by reading its layer again: a model is placed with one layer in memory, not
    all. A layer that is another one again has that one's stand-ins.
    """

    def __init__(self, blocks: Sequence[Block], prepare: Callable[[Block], Block]) -> None:
        self._blocks, self._prepare = blocks, prepare
        self._hollow: dict[int, Block] = {}
        self._places: dict[int, tuple[np.ndarray, int, int]] = {}
        self._open: tuple[int, list[np.ndarray]] = -1, []

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        index = self._first(range(len(self))[index])
        if index not in self._hollow:
            self._hollow[index] = self._made_hollow(index)
        return self._hollow[index]

    def _first(self, index: int) -> int:
        """The number of the first layer that this one is the same as."""
        same = getattr(self._blocks, "same", None)
        if same is not None:
            return same[index]
        block = self._blocks[index]
        return next(i for i in range(index + 1) if self._blocks[i] is block)

    def _made_hollow(self, index: int) -> Block:
        matrices: list[np.ndarray] = []
        found: dict[int, np.ndarray] = {}

        def stand_in(matrix: np.ndarray) -> np.ndarray:
            if id(matrix) not in found:
                own = np.broadcast_to(np.float32(np.nan), matrix.shape)
                found[id(matrix)] = own
                self._places[id(own)] = own, index, len(matrices)
                matrices.append(matrix)
            return found[id(matrix)]

        block = with_matrices(self._prepare(self._blocks[index]), stand_in)
        self._open = index, matrices
        return block

    def contents(self, array: np.ndarray) -> np.ndarray:
        """The matrix that ``array`` stands for; itself where it stands for none."""
        place = self._places.get(id(array))
        if place is None:
            return array
        _, index, number = place
        if self._open[0] != index:
            matrices: dict[int, np.ndarray] = {}
            self._open = -1, []  # not two layers at once
            with_matrices(self._prepare(self._blocks[index]),
                           lambda matrix: matrices.setdefault(id(matrix), matrix))
            self._open = index, list(matrices.values())
        return self._open[1][number]

    def close(self) -> None:
        """Keep no layer's matrices: what is asked for later is read again."""
        self._open = -1, []


def with_matrices(part: Any, change: Callable[[np.ndarray], np.ndarray]) -> Any:
    """``part`` with what ``change`` makes of each matrix of a linear layer, in their order."""
    if isinstance(part, Linear):
        return replace(part, weight=change(part.weight))
    if isinstance(part, tuple):
        return tuple(with_matrices(item, change) for item in part)
    if is_dataclass(part) and not isinstance(part, type):
        own = {item.name: getattr(part, item.name) for item in fields(part)}
        return replace(part, **{name: with_matrices(value, change) for name, value in own.items()
                                if is_dataclass(value) or isinstance(value, tuple)})
    return part
