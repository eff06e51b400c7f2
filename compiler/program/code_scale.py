"""What codes of a tensor count."""

import math
from dataclasses import dataclass

import numpy as np

from compiler.program.tensor import Tensor
from hdl.spec.formats import BF16_ENCODING
from sim.model import codec

__all__ = ["CodeScale"]


@dataclass(frozen=True)
class CodeScale:
    """A code counts ``factor``, times the BF16 item of its row where there are ``items``: an item
    for each row, or one for all. ``ValueError`` for a factor that is no number above 0."""

    factor: float
    items: Tensor | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 0):
            raise ValueError(f"factor of codes must be a number above 0, not {self.factor!r}")
        items = self.items
        if items is not None and (items.encoding != BF16_ENCODING or 1 not in items.shape):
            raise ValueError(f"items of codes must be a row or a column of bf16, not "
                             f"{items.rows}×{items.columns} of {items.encoding.name}")

    def check(self, codes: Tensor) -> None:
        """``ValueError`` where ``codes`` have other rows."""
        items = self.items
        if items is not None and items.rows * items.columns not in (1, codes.rows):
            raise ValueError(f"items of {codes.name} must be 1 or {codes.rows}, not "
                             f"{items.rows * items.columns}")

    @property
    def stride(self) -> int:
        """Bytes from a row's item to the next one's; 0 where there is one for all."""
        items = self.items
        if items is None or items.rows * items.columns == 1:
            return 0
        return items.stride if items.columns == 1 else items.item_bytes

    def of_rows(self, memory: np.ndarray, base: int) -> np.ndarray:
        """What codes of each row count, rows × 1, or 1 × 1 for all."""
        if self.items is None:
            return np.full((1, 1), self.factor)
        items = codec.decode(BF16_ENCODING, self.items.codes(memory, base))
        return self.factor * items.reshape(-1, 1)
