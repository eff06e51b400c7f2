"""Tensors in files, by name: read one at a time, so that a layer costs what the layer weighs."""

import json
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from threading import RLock
from typing import Protocol

import numpy as np

from compiler.checkpoints.description import Block

__all__ = ["Checkpoint", "CheckpointError", "LazyBlocks", "Safetensors", "Shape", "Store", "Take",
           "finite", "mapped", "read_bytes"]

Shape = tuple[int, ...]
Take = Callable[[str, Shape], np.ndarray]
_KEPT = 1 << 30  # bytes of layers
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
        return finite(self.store.path, name, self.store.load(name))

    def finish(self, unused: Iterable[str], what: str) -> None:
        """Refuse tensors that were not asked for, but those that begin with one of ``unused``."""
        left = sorted(name for name in self.store.shapes.keys() - self.asked
                      if not name.startswith(tuple(unused)))
        if left:
            raise CheckpointError(f"{self.store.path}: tensor {left[0]} has no place in {what}"
                                  + (f", nor have {len(left) - 1} others" if left[1:] else ""))


class LazyBlocks(Sequence[Block]):
    """``count`` layers, each made by ``make(index)`` when it is first asked for, then kept as long
    as all that are kept take no more than a gigabyte: others are made each time.

    ``same``: of each layer the number of the first one that it is the same as.
    """

    def __init__(self, count: int, make: Callable[[int], Block], same: Sequence[int] = ()) -> None:
        self._made: dict[int, Block] = {}
        self._count, self._make, self._room = count, make, _KEPT
        self._making = RLock()  # not one layer twice, where two threads go through a model
        self.same = same or range(count)

    def unkept(self) -> "LazyBlocks":
        """The same layers, none of which is kept."""
        found = LazyBlocks(self._count, self._make, self.same)
        found._room = 0
        return found

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        index = self.same[range(len(self))[index]]
        with self._making:
            if index in self._made:
                return self._made[index]
            block = self._make(index)
            size = sum(array.nbytes for array in _arrays(block))
            if size <= self._room:
                self._room -= size
                self._made[index] = block
            return block


def _arrays(part: object) -> Iterator[np.ndarray]:
    """All arrays of a part of a description."""
    if isinstance(part, np.ndarray):
        yield part
    elif isinstance(part, tuple):
        for item in part:
            yield from _arrays(item)
    elif is_dataclass(part):
        for item in fields(part):
            yield from _arrays(getattr(part, item.name))


class Safetensors:
    """One safetensors file; ``CheckpointError`` where it is truncated or none."""

    def __init__(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = path
        try:
            with safe_open(path, framework="numpy") as file:
                self._metadata = file.metadata() or {}
                slices = {name: file.get_slice(name)
                          for name in file.keys()}  # noqa: SIM118  no mapping
                self.shapes = {name: tuple(own.get_shape()) for name, own in slices.items()}
                self._kinds = {name: own.get_dtype() for name, own in slices.items()}
            self._places = _places(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} must be a whole safetensors file: {error}") from error

    def metadata(self) -> dict[str, str]:
        """What the file says besides its tensors."""
        return self._metadata

    def load(self, name: str) -> np.ndarray:
        kind = self._kinds[name]
        if kind not in _FLOATS:
            raise CheckpointError(f"{self.path}: tensor {name} must be of type "
                                  f"{', '.join(_FLOATS)}, not {kind}")
        content = read_bytes(self.path, *self._places[name], f"tensor {name}")
        values = content.view(_dtype(kind)).reshape(self.shapes[name])
        with np.errstate(over="ignore"):  # a number beyond fp32 is told of by its reader
            return values.astype(np.float32, copy=False)


def finite(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    """``values`` of a tensor as fp32 has them; ``CheckpointError`` where one is not finite."""
    # Its ends tell, and need no memory beside a matrix of a gigabyte.
    with np.errstate(invalid="ignore"):
        ends = [values.min(), values.max()] if values.size else []
    if not np.isfinite(ends).all():
        raise CheckpointError(f"{path}: tensor {name} must be finite in fp32, but holds "
                              f"{values[~np.isfinite(values)][0]}")
    return values


def read_bytes(path: Path, start: int, size: int, what: str) -> np.ndarray:
    """``size`` bytes of a file from ``start`` on, which are ``what``; ``CheckpointError``."""
    try:
        # Read, not mapped: what has been read of a file that is mapped counts as memory.
        content = np.fromfile(path, np.uint8, size, offset=start)
    except OSError as error:
        raise CheckpointError(f"{path} must be readable: {error.strerror}") from error
    if content.size < size:
        raise CheckpointError(f"{path} must be whole: {what} ends at byte {start + size}")
    return content


def mapped(path: Path, kind: str) -> memoryview:
    """A file of that ``kind``, of which is read what is looked at; ``CheckpointError``."""
    try:
        with path.open("rb") as file:
            # An empty file cannot be mapped.
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                              if path.stat().st_size else b"")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} must be a whole {kind} file: {reason}") from error


def _places(path: Path) -> dict[str, tuple[int, int]]:
    """First byte and size of each tensor of a file whose header the library has checked."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
    return {name: (8 + size + own["data_offsets"][0],
                   own["data_offsets"][1] - own["data_offsets"][0])
            for name, own in header.items() if name != "__metadata__"}


def _dtype(kind: str) -> np.dtype:
    import ml_dtypes

    return np.dtype({"F64": "<f8", "F32": "<f4", "F16": "<f2"}.get(kind, ml_dtypes.bfloat16))


def _text(shape: Shape) -> str:
    return " × ".join(map(str, shape)) or "one value"
