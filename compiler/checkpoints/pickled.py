"""Tensors of ``pytorch_model.bin``: ``Pickled`` reads them without running anything of the file.

Such a file is a ZIP archive of storages and of one pickle, which says by names of functions how
tensors are made of them. The few names that describe plain tensors stand for data here; every other
one is refused before it is looked up.
"""

import pickle
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError, Shape

__all__ = ["Pickled"]

# The pickle of the largest models takes some hundred kilobytes.
_LARGEST_PICKLE = 16 << 20
_LEGACY = bytes.fromhex("80028a0a6cfc9c46f920")
_DAMAGE = (pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError, AttributeError,
           MemoryError, OverflowError, zipfile.BadZipFile,
           RuntimeError)  # of zipfile, for a member that is encrypted; RecursionError is one
_FLOATS = {"FloatStorage": "<f4", "HalfStorage": "<f2", "DoubleStorage": "<f8",
           "BFloat16Storage": "bfloat16"}
_OTHERS = {"LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1",
           "ByteStorage": "u1", "BoolStorage": "?"}


class _Storage(NamedTuple):
    kind: str
    key: str
    items: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: Shape
    strides: tuple[int, ...]


class _Kind(str):
    """The name of a type of storage."""


def _tensor(storage: object, offset: Any, shape: object, strides: object, *_: object) -> _Tensor:
    if not isinstance(storage, _Storage) or not isinstance(shape, tuple | list) or not (
            isinstance(strides, tuple | list) and len(strides) == len(shape)):
        raise ValueError("a tensor must be made of a storage, a place, a shape and strides")
    numbers = [offset, *shape, *strides]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError(f"shape and strides must be whole numbers of at least 0, not {numbers}")
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if prod(shape) > storage.items or (prod(shape) and last >= storage.items):
        raise ValueError(f"a tensor must lie inside its storage of {storage.items} items")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: object, *_: object) -> object:
    return tensor


_KNOWN: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("collections", "OrderedDict"): OrderedDict,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and name in _FLOATS | _OTHERS:
            return _Kind(name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is none of what tensors "
                                     "are made of")

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage" or not (
                isinstance(pid[1], _Kind) and isinstance(pid[2], str) and type(pid[4]) is int):
            raise pickle.UnpicklingError(f"a storage must be told by kind, key and size, not {pid}")
        return _Storage(str(pid[1]), pid[2], pid[4])


class Pickled:
    """``shapes`` of the tensors by name; ``CheckpointError`` for what is damaged, of another kind
    or holds anything but tensors."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                if file.read(len(_LEGACY)) == _LEGACY:
                    raise ValueError("it is of the form from before PyTorch 1.6; torch.save of a "
                                     "later release writes the one that is read")
            self._archive = zipfile.ZipFile(path)
            self._tensors = self._read()
        except OSError as error:
            raise CheckpointError(f"{path} must be readable: {error.strerror}") from error
        except _DAMAGE as error:
            raise CheckpointError(f"{path} must be a whole file of tensors as torch.save writes "
                                  f"it: {error or type(error).__name__}") from error
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}

    def _read(self) -> dict[str, _Tensor]:
        members = self._archive.infolist()
        names = [member.filename for member in members]
        packed = [member for member in members if member.compress_type != zipfile.ZIP_STORED]
        if packed or len(set(names)) != len(names):
            raise ValueError("members of the archive must be stored as they are, each once")
        found = [name for name in names if name.split("/")[1:] == ["data.pkl"]]
        if len(found) != 1:
            raise ValueError("the archive must hold one data.pkl")
        self._root = found[0].removesuffix("data.pkl")
        if f"{self._root}byteorder" in names and self._member("byteorder", 16) != b"little":
            raise ValueError("numbers must be stored with their low byte first")
        if self._archive.getinfo(found[0]).file_size > _LARGEST_PICKLE:
            raise ValueError(f"data.pkl must be of at most {_LARGEST_PICKLE} bytes")
        with self._archive.open(found[0]) as file:
            values = _Reader(file).load()
        if not isinstance(values, dict) or not values:
            raise ValueError(f"it must hold tensors by name, not {type(values).__name__}")
        for name, tensor in values.items():
            if not isinstance(name, str) or not isinstance(tensor, _Tensor):
                raise ValueError(f"it must hold tensors by name alone, not {name!r} of type "
                                 f"{type(tensor).__name__}")
            self._check(name, tensor.storage)
        return dict(values)

    def _check(self, name: str, storage: _Storage) -> None:
        size = storage.items * _dtype(storage.kind).itemsize
        stored = self._archive.getinfo(f"{self._root}data/{storage.key}").file_size
        if stored != size:
            raise ValueError(f"the storage of {name} must be of {size} bytes, not {stored}")

    def _member(self, name: str, most: int) -> bytes:
        with self._archive.open(self._root + name) as file:
            return file.read(most)

    def load(self, name: str) -> np.ndarray:
        """The tensor as fp32; ``CheckpointError`` for one that is no float or damaged."""
        tensor = self._tensors[name]
        storage, kind = tensor.storage, _dtype(tensor.storage.kind)
        if storage.kind not in _FLOATS:
            raise CheckpointError(f"{self.path}: tensor {name} must be of type "
                                  f"{', '.join(_FLOATS)}, not {storage.kind}")
        try:
            content = self._member(f"data/{storage.key}", storage.items * kind.itemsize)
            values = np.frombuffer(content, kind, storage.items)
        except (OSError, *_DAMAGE) as error:
            raise CheckpointError(f"{self.path}: tensor {name} must be whole: {error}") from error
        strides = [stride * kind.itemsize for stride in tensor.strides]
        view = np.lib.stride_tricks.as_strided(values[tensor.offset:], tensor.shape, strides)
        with np.errstate(over="ignore"):  # a number beyond fp32 is told of by its reader
            return np.ascontiguousarray(view).astype(np.float32, copy=False)


def _dtype(kind: str) -> np.dtype:
    import ml_dtypes

    name = (_FLOATS | _OTHERS)[kind]
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
