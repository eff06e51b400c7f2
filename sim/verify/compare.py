"""The results of a run against the codes that they should be, byte by byte."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compiler.program.builder import read_codes
from compiler.program.lowered import LoweredProgram

__all__ = ["Comparison", "compare_codes"]


@dataclass(frozen=True)
class Comparison:
    """Bytes of each result that were compared and that differ."""

    compared: dict[str, int]
    differing: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.compared.values())

    @property
    def mismatches(self) -> int:
        return sum(self.differing.values())


def compare_codes(program: LoweredProgram, memory: np.ndarray,
                  reference: Mapping[str, np.ndarray]) -> Comparison:
    """``memory`` behind a run of ``program`` against ``reference``, codes by a result's name."""
    compared, differing = {}, {}
    for name, tensor in program.results.items():
        found = np.ascontiguousarray(read_codes(memory, tensor, program.base))
        wanted = np.ascontiguousarray(reference[name]).astype(found.dtype)
        if found.shape != wanted.shape:
            raise ValueError(f"{name} must be {wanted.shape} as expected, not {found.shape}")
        compared[name] = found.nbytes
        differing[name] = int(np.count_nonzero(found.view(np.uint8) != wanted.view(np.uint8)))
    return Comparison(compared, differing)
