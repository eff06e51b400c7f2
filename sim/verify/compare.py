"""What a run left against what it should have left, byte by byte."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compiler.program.builder import read_codes
from compiler.program.lowered import LoweredProgram
from compiler.program.records import commands
from hdl.spec.commands import TENSORS
from sim.model.command import Command
from sim.verify.runner import ImageRun

__all__ = ["Comparison", "compare"]


_WRITTEN = tuple(name for name, tensor in TENSORS.items() if tensor.written)


@dataclass(frozen=True)
class Comparison:
    """Bytes of each result that were compared and that differ; ``stray``: bytes outside the
    results that are wrong."""

    compared: dict[str, int]
    differing: dict[str, int]
    stray: int = 0

    @property
    def total(self) -> int:
        return sum(self.compared.values())

    @property
    def mismatches(self) -> int:
        return sum(self.differing.values()) + self.stray


def compare(program: LoweredProgram, run: ImageRun,
            reference: Mapping[str, np.ndarray] | None = None) -> Comparison:
    """What ``run`` left of ``program`` against ``reference``, codes by a result's name; without
    one against the machine model's memory of the run.

    Stray is a byte outside the results that differs from the machine model's memory, where the run
    has one, or that no command names and that was written all the same: as the run counts writes,
    or else by its value.
    """
    if reference is None:
        if run.wanted is None:
            raise ValueError("reference must be given for a run on the machine model")
        reference = {name: read_codes(run.wanted, tensor, program.base)
                     for name, tensor in program.results.items()}
    stray = program.memory != run.memory if run.written is None else run.written != 0
    _clear_named(program, stray)
    if run.wanted is not None:
        stray |= run.memory != run.wanted
    compared, differing = {}, {}
    for name, tensor in program.results.items():
        found = np.ascontiguousarray(read_codes(run.memory, tensor, program.base))
        wanted = np.ascontiguousarray(reference[name]).astype(found.dtype)
        if found.shape != wanted.shape:
            raise ValueError(f"{name} must be {wanted.shape} as expected, not {found.shape}")
        compared[name] = found.nbytes
        differing[name] = int(np.count_nonzero(found.view(np.uint8) != wanted.view(np.uint8)))
        tensor.window(stray, program.base)[:] = False
    return Comparison(compared, differing, int(np.count_nonzero(stray)))


def _clear_named(program: LoweredProgram, marks: np.ndarray) -> None:
    """Clear ``marks``, one per byte of the memory, of every byte that a command may write."""
    for _, fields in commands(program.memory, program.address, program.base):
        command = Command(program.image.config, fields)
        for name in _WRITTEN:
            if command.uses(name):
                out = command.tensor(name)
                first = out.address - program.base
                np.lib.stride_tricks.as_strided(
                    marks[first:], (out.rows, out.columns * out.element_bytes), (out.stride, 1)
                )[:] = False
