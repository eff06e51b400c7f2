"""A transformer's program on the machine model or on RTL, and what it left against what it should.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compiler.program.builder import read_codes
from compiler.program.lowered import LoweredProgram
from hdl.spec.config import AcceleratorConfig
from sim.verify import image_run as run
from sim.verify.compare import Comparison, compare_codes

__all__ = ["Outcome", "on_machine", "on_rtl"]


@dataclass(frozen=True)
class Outcome:
    """A run, how its results compare, and how many bytes outside them differ (on RTL)."""

    where: str
    run: run.Run
    comparison: Comparison
    stray: int = 0

    @property
    def mismatches(self) -> int:
        return self.comparison.mismatches + self.stray


def on_machine(config: AcceleratorConfig, program: LoweredProgram,
               reference: Mapping[str, np.ndarray], progress: bool | None = None) -> Outcome:
    """On the machine model, against codes that no program made; ``RunError`` of ``image_run``.

    ``progress``: ``shown`` of ``sim.verify.progress.Progress``.
    """
    done = run.on_machine(program.image, config, progress)
    return Outcome("machine model", done, compare_codes(program, done.memory, reference))


def on_rtl(config: AcceleratorConfig, program: LoweredProgram, seed: int = 0,
           progress: bool | None = None) -> Outcome:
    """On the generated Verilog through AXI, every byte of memory against the machine model."""
    done = run.on_rtl(program.image, config, progress, seed=seed)
    reference = {name: read_codes(done.wanted, tensor, program.base)
                 for name, tensor in program.results.items()}
    stray = done.memory != done.wanted
    for tensor in program.results.values():
        tensor.window(stray, program.base)[:] = False
    return Outcome("RTL on Verilator", done, compare_codes(program, done.memory, reference),
                   int(np.count_nonzero(stray)))
