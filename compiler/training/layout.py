"""All trained arrays in one matrix, so that an update is a few commands whatever they are."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import row_columns

__all__ = ["Layout", "Place"]

_ALIGNED = 8  # items: a beat of the usual bus


@dataclass(frozen=True)
class Place:
    """``rows`` × ``columns`` items without gaps from item ``start`` on. ``transposed``: the array
    is columns × rows."""

    start: int
    rows: int
    columns: int
    transposed: bool = False

    @property
    def end(self) -> int:
        return self.start + self.rows * self.columns


@dataclass(frozen=True)
class Layout:
    """Where each trained array lies in a matrix of ``rows`` × ``columns`` items.

    B of an adapter lies transposed, rank × outputs, so that all rows are long. Items between arrays
    and after the last are 0 and stay so. ``groups``: of so many rows, as many in each, the squares
    are rows that fit on chip.
    """

    places: Mapping[str, Place]
    rows: int
    columns: int
    groups: int = 1

    @classmethod
    def of(cls, shapes: Mapping[str, tuple[int, ...]], config: AcceleratorConfig) -> "Layout":
        """Of arrays of ``shapes`` by name. Rows are as long as the matrix is high, about, as far as
        they fit on chip: the squares of all rows are a row again, or one of each group."""
        places, cursor = {}, 0
        for name, shape in shapes.items():
            rows, columns = (1, *shape)[-2:]
            transposed = name.endswith(".lora_b")
            rows, columns = (columns, rows) if transposed else (rows, columns)
            places[name] = Place(cursor, rows, columns, transposed)
            cursor = -(-places[name].end // _ALIGNED) * _ALIGNED
        most = row_columns(config)
        if cursor > most ** 3:
            raise ValueError(f"trained items must be at most {most ** 3} in this build, "
                             f"not {cursor}; a larger acc_depth takes more")
        columns = min(1 << max(3, math.isqrt(cursor).bit_length() - 1), most)
        if columns * most < cursor and columns < most:
            columns *= 2
        rows = max(-(-cursor // columns), columns)
        groups = -(-rows // most)
        return cls(places, groups * -(-rows // groups), columns, groups)

    def adjacent(self, names: Sequence[str]) -> bool:
        """Whether the arrays are one below the other, of one width."""
        places = [self.places[name] for name in names]
        return all(above.end == below.start and above.columns == below.columns
                   for above, below in pairwise(places))

    def matrix(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        """All arrays in their places, rows × columns."""
        flat = np.zeros(self.rows * self.columns)
        for name, place in self.places.items():
            values = np.asarray(arrays[name])
            flat[place.start:place.end] = (values.T if place.transposed else values).ravel()
        return flat.reshape(self.rows, self.columns)

    def arrays(self, matrix: np.ndarray, shapes: Mapping[str, tuple[int, ...]]
               ) -> dict[str, np.ndarray]:
        """The inverse of ``matrix``."""
        flat, found = matrix.ravel(), {}
        for name, place in self.places.items():
            values = flat[place.start:place.end].reshape(place.rows, place.columns)
            found[name] = (values.T if place.transposed else values).reshape(shapes[name])
        return found
