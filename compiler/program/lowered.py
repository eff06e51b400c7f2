"""What lowering gives: a program in its image, and where it leaves what it computes."""

from dataclasses import dataclass

import numpy as np

from compiler.program.image import ProgramImage
from compiler.program.tensor import Tensor

__all__ = ["LoweredProgram"]


@dataclass(frozen=True)
class LoweredProgram:
    """A program with the memory that it works on.

    ``results`` maps the names that the lowering gives to tensors in that memory. ``macs`` counts
    the multiply-accumulates of the GEMMs' shapes. ``written``: for each command the name of the
    tensor that it writes, empty for a fence and the end.
    """

    image: ProgramImage
    results: dict[str, Tensor]
    macs: int
    written: tuple[str, ...] = ()

    @property
    def memory(self) -> np.ndarray:
        return self.image.memory

    @property
    def address(self) -> int:
        return self.image.address

    @property
    def base(self) -> int:
        return self.image.base
