"""Tensors in files, by name: read one at a time, so that a layer costs what the layer weighs."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from compiler.checkpoints.description import Block

__all__ = ["Checkpoint", "CheckpointError", "LazyBlocks", "Safetensors", "Shape", "Store", "Take"]

Shape = tuple[int, ...]
Take = Callable[[str, Shape], np.ndarray]
_LONGEST = 600  # characters of a message: what a file holds may be of any length
_FLOATS = ("F64", "F32", "F16", "BF16")


class CheckpointError(ValueError):
    """A checkpoint that is damaged or describes what is not supported; the message is one line."""

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())  # libraries' reasons may be several
        super().__init__(line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …")


class Store(Protocol):
    """A file of tensors."""

    path: Path
    shapes: dict[str, Shape]

    def load(self, name: str) -> np.ndarray:
        """The tensor as fp32; ``CheckpointError`` for a type that cannot be read."""
        ...


class Checkpoint:
    """The tensors of ``store`` with the shapes that a model expects.

    ``check`` and ``read`` both take a name and a shape and raise ``CheckpointError``; ``check``
    reads nothing and gives zeros that take no memory. ``finish`` refuses what was not asked for.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.asked: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.store.shapes

    def check(self, name: str, shape: Shape) -> np.ndarray:
        found = self.store.shapes.get(name)
        if found is None:
            raise CheckpointError(f"{self.store.path}: tensor {name} is missing; "
                                  f"it must be of shape {_text(shape)}")
        if found != shape:
            raise CheckpointError(f"{self.store.path}: tensor {name} must be of shape "
                                  f"{_text(shape)}, not {_text(found)}")
        self.asked.add(name)
        return np.broadcast_to(np.float32(0), shape)

    def read(self, name: str, shape: Shape) -> np.ndarray:
        """The tensor as fp32, all values finite."""
        self.check(name, shape)
        values = self.store.load(name)
        if not np.isfinite(values).all():
            raise CheckpointError(f"{self.store.path}: tensor {name} must be finite, "
                                  f"but holds {values[~np.isfinite(values)][0]}")
        return values

    def finish(self, unused: Iterable[str], what: str) -> None:
        """Refuse tensors that were not asked for, but those that begin with one of ``unused``."""
        left = sorted(name for name in self.store.shapes.keys() - self.asked
                      if not name.startswith(tuple(unused)))
        if left:
            raise CheckpointError(f"{self.store.path}: tensor {left[0]} has no place in {what}"
                                  + (f", nor have {len(left) - 1} others" if left[1:] else ""))


class LazyBlocks(Sequence[Block]):
    """``count`` layers, each made by ``make(index)`` when it is first asked for, then kept.

    ``same``: of each layer the number of the first one that it is the same as.
    """

    def __init__(self, count: int, make: Callable[[int], Block], same: Sequence[int] = ()) -> None:
        self._made: list[Block | None] = [None] * count
        self._make = make
        self._same = same or range(count)

    def __len__(self) -> int:
        return len(self._made)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        index = self._same[range(len(self))[index]]
        block = self._made[index]
        if block is None:
            block = self._made[index] = self._make(index)
        return block


class Safetensors:
    """One safetensors file; ``CheckpointError`` where it is truncated or none."""

    def __init__(self, path: Path) -> None:
        # ml_dtypes makes BF16 known to numpy, which safetensors needs to read it.
        import ml_dtypes  # noqa: F401
        from safetensors import SafetensorError, safe_open

        self.path = path
        try:
            self._file = safe_open(path, framework="numpy")
            self.shapes = {name: tuple(self._file.get_slice(name).get_shape())
                           for name in self._file.keys()}  # noqa: SIM118  no mapping
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} must be a whole safetensors file: {error}") from error

    def metadata(self) -> dict[str, str]:
        """What the file says besides its tensors."""
        return self._file.metadata() or {}

    def load(self, name: str) -> np.ndarray:
        kind = self._file.get_slice(name).get_dtype()
        if kind not in _FLOATS:
            raise CheckpointError(f"{self.path}: tensor {name} must be of type "
                                  f"{', '.join(_FLOATS)}, not {kind}")
        with np.errstate(over="ignore"):  # a number beyond fp32 is told of by its reader
            return self._file.get_tensor(name).astype(np.float32, copy=False)


def _text(shape: Shape) -> str:
    return " × ".join(map(str, shape)) or "one value"
