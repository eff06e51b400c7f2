"""A GGUF file: settings and tensors, dequantised when they are read."""

import math
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError, mapped
from compiler.checkpoints.gguf_format import GgufHeader, TensorPlace, read_header

__all__ = ["GgufFile", "open_gguf"]


class GgufFile:
    """``shapes`` of the tensors as numpy has them, outputs × inputs; ``get`` for the settings.

    ``CheckpointError`` where the file is truncated or none, or where tensors lie outside it or on
    one another.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._header: GgufHeader = read_header(path, mapped(path, "GGUF"))
        self._values: dict[str, Any] = {}
        self.shapes = {name: place.shape for name, place in self._header.tensors.items()}
        self._sizes = {name: self._size(name, place)
                       for name, place in self._header.tensors.items()}
        self._check_places()

    def get(self, name: str, default: Any = None) -> Any:
        """The setting as Python's own type, a list for an array."""
        if name not in self._header.fields:
            return default
        if name not in self._values:
            self._values[name] = self._header.value(name)
        return self._values[name]

    def load(self, name: str) -> np.ndarray:
        from gguf import GGMLQuantizationType, dequantize

        place = self._header.tensors[name]
        kind = GGMLQuantizationType(place.kind)
        content = np.frombuffer(self._header.data, np.uint8, self._sizes[name], place.start)
        rows = content.reshape(*place.shape[:-1], -1)
        try:
            with np.errstate(all="ignore"):  # what is not finite is refused by whoever reads it
                values = (rows.view(np.float64).astype(np.float32)
                          if kind == GGMLQuantizationType.F64 else dequantize(rows, kind))
        except NotImplementedError as error:
            raise CheckpointError(
                f"{self.path}: tensor {name} must be of a type that the package gguf can "
                f"dequantise, F16 or Q8_0 say, not {kind.name}") from error
        return np.asarray(values, np.float32).reshape(place.shape)

    def _size(self, name: str, place: TensorPlace) -> int:
        """Its bytes."""
        from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

        try:
            block, size = GGML_QUANT_SIZES[GGMLQuantizationType(place.kind)]
        except (ValueError, KeyError):
            raise CheckpointError(f"{self.path}: tensor {name} must be of a type that the package "
                                  f"gguf knows, not {place.kind}") from None
        if place.shape[-1] % block:
            raise CheckpointError(f"{self.path}: tensor {name} must have rows of a multiple of "
                                  f"{block} items, not {place.shape[-1]}")
        return math.prod(place.shape) // block * size

    def _check_places(self) -> None:
        """Every tensor inside the file, no two on one another."""
        end, before = 0, ""
        places = self._header.tensors
        for name in sorted(places, key=lambda name: places[name].start):
            start = places[name].start
            if start < end:
                raise CheckpointError(f"{self.path}: tensors {before} and {name} must not overlap, "
                                      f"but {name} begins at byte {start}, before {end}")
            end, before = start + self._sizes[name], name
            if end > len(self._header.data):
                raise CheckpointError(f"{self.path} must be a whole GGUF file: tensor {name} ends "
                                      f"at byte {end}, the file at {len(self._header.data)}")


def open_gguf(path: Path) -> GgufFile:
    """The file, opened anew only if it changed: a vocabulary takes time to walk through."""
    try:
        state = path.stat()
    except OSError as error:
        raise CheckpointError(f"{path} must be a whole GGUF file: {error.strerror or error}"
                              ) from error
    return _opened(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1)
def _opened(path: Path, changed: int, size: int) -> GgufFile:
    return GgufFile(path)
