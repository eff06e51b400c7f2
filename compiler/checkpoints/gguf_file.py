"""A GGUF file: settings and tensors, dequantised when they are read."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError

if TYPE_CHECKING:  # imported where it is used: other models need no gguf
    from gguf import GGUFReader

__all__ = ["GgufFile", "open_gguf"]


class GgufFile:
    """``shapes`` of the tensors as numpy has them, outputs × inputs; ``get`` for the settings.

    ``CheckpointError`` where the file is truncated or none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            reader = _reader(path)
        # The reader trusts the file: a damaged one shows as whatever its numbers lead to.
        except (OSError, ValueError, LookupError, OverflowError, MemoryError) as error:
            raise CheckpointError(f"{path} must be a whole GGUF file: {error}") from error
        self._fields = reader.fields
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.shapes = {name: tuple(int(size) for size in reversed(tensor.shape))
                       for name, tensor in self._tensors.items()}

    def get(self, name: str, default: Any = None) -> Any:
        """The setting as Python's own type, a list for an array."""
        field = self._fields.get(name)
        try:
            return default if field is None else field.contents()
        except ValueError as error:
            raise CheckpointError(f"{self.path}: {name} must be readable: {error}") from error

    def load(self, name: str) -> np.ndarray:
        from gguf import dequantize

        tensor = self._tensors[name]
        try:
            return np.asarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        except NotImplementedError as error:
            raise CheckpointError(
                f"{self.path}: tensor {name} must be of a type that the package gguf can "
                f"dequantise, F16 or Q8_0 say, not {tensor.tensor_type.name}") from error


def _reader(path: Path) -> "GGUFReader":
    """gguf's reader, which beyond the end of a file would read nothing for ever."""
    from gguf import GGUFReader

    class Reader(GGUFReader):
        def _get(self, offset, dtype, count=1, override_order=None):
            end = int(offset) + int(count) * np.dtype(dtype).itemsize
            if end > len(self.data):
                raise ValueError(f"it ends at byte {len(self.data)}, not at {end} or later")
            return super()._get(offset, dtype, count, override_order)

    return Reader(path)


def open_gguf(path: Path) -> GgufFile:
    """The file, opened anew only if it changed: a vocabulary takes seconds to walk through."""
    state = path.stat()
    return _opened(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _opened(path: Path, changed: int, size: int) -> GgufFile:
    return GgufFile(path)
