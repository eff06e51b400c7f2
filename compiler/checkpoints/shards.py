"""Tensors in several files, with an index that says which is where: ``Shards``."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError, Shape, Store
from compiler.checkpoints.settings import read_json

__all__ = ["Shards"]


class Shards:
    """``shapes`` of all files' tensors. ``opened``: makes a store of one of the files, which lie
    next to ``path``, the index; each is opened once. ``CheckpointError`` as for one file, and where
    index and files disagree."""

    def __init__(self, path: Path, opened: Callable[[Path], Store]) -> None:
        self.path = path
        places = read_json(path, dict).get("weight_map")
        if not isinstance(places, dict) or not places or not all(
                isinstance(name, str) for name in places.values()):
            raise CheckpointError(f"{path}: weight_map must name a file for each tensor, "
                                  f"not {str(places)[:40]}")
        files: dict[str, Store] = {}
        for name in sorted(set(places.values())):
            if Path(name).name != name:
                raise CheckpointError(f"{path}: files must lie next to the index, not at {name!r}")
            files[name] = opened(path.parent / name)
        self._stores = {tensor: files[name] for tensor, name in places.items()}
        self.shapes: dict[str, Shape] = {}
        for tensor, store in self._stores.items():
            if tensor not in store.shapes:
                raise CheckpointError(f"{path}: tensor {tensor} must be in {store.path.name}, "
                                      "which does not hold it")
            self.shapes[tensor] = store.shapes[tensor]
        for name, store in files.items():
            left = sorted(set(store.shapes) - {tensor for tensor, place in places.items()
                                               if place == name})
            if left:
                raise CheckpointError(f"{path}: tensor {left[0]} of {name} is not in the index"
                                      + (f", nor are {len(left) - 1} others" if left[1:] else ""))

    def load(self, name: str) -> np.ndarray:
        """The tensor as fp32; ``CheckpointError`` for a type that cannot be read."""
        return self._stores[name].load(name)
