"""A transformer's program on the machine model or on RTL, and what it left against what it should.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine
from sim.program import read_codes
from sim.progress import Progress

from .compare import Comparison, compare_codes
from .lower import TransformerProgram

__all__ = ["Run", "RunError", "on_machine", "on_rtl"]


class RunError(RuntimeError):
    """A run that cannot be compared; the message is one line."""


@dataclass(frozen=True)
class Run:
    """``memory`` behind a run, how the results compare, seconds; on RTL also how many bytes outside
    the results differ from the machine model's, the build's seconds, cycles and counters."""

    where: str
    memory: np.ndarray
    comparison: Comparison
    seconds: float
    stray: int = 0
    built: float | None = None
    cycles: int | None = None
    counters: Mapping[str, int] | None = None


def _machine_memory(config: AcceleratorConfig, program: TransformerProgram,
                    progress: bool | None) -> np.ndarray:
    memory = program.memory.copy()
    with _progress("machine", config, program, progress) as shown:
        outcome = Machine(config).run(memory, program.address, program.base,
                                      progress=shown.after)
    if outcome.error is not None:
        raise RunError(f"the machine model stopped with {outcome.error.name} "
                       f"at {outcome.error_address:#x}")
    return memory


def _progress(label: str, config: AcceleratorConfig, program: TransformerProgram,
              shown: bool | None) -> Progress:
    return Progress(label, config, program.memory, program.address, program.base, shown=shown)


def on_machine(config: AcceleratorConfig, program: TransformerProgram,
               reference: Mapping[str, np.ndarray], progress: bool | None = None) -> Run:
    """On the machine model, against codes that no program made. ``progress``: ``shown`` of
    ``sim.progress.Progress``."""
    started = time.monotonic()
    memory = _machine_memory(config, program, progress)
    spent = time.monotonic() - started
    return Run("machine model", memory, compare_codes(program, memory, reference), spent)


def on_rtl(config: AcceleratorConfig, program: TransformerProgram, seed: int = 0,
           optimise: str = "-O1", progress: bool | None = None) -> Run:
    """On the generated Verilog through AXI, every byte of memory against the machine model.

    ``optimise``: as for ``sim.harness.accelerator.Accelerator``; ``progress`` as ``on_machine``.
    """
    from sim.harness.accelerator import Accelerator, HungError
    from sim.harness.verilate import ToolError

    wanted = _machine_memory(config, program, progress)
    reference = {name: read_codes(wanted, tensor, program.base)
                 for name, tensor in program.results.items()}
    memory = program.memory.copy()
    started = time.monotonic()
    try:
        accelerator = Accelerator(config, optimise=optimise)
        built = time.monotonic()
        with _progress("RTL", config, program, progress) as shown:
            result = accelerator.run(memory, program.address, program.base, seed=seed,
                                     max_cycles=_limit(config, program),
                                     progress=shown.at_cycle)
    except (HungError, ToolError) as error:
        raise RunError(str(error)) from error
    spent = time.monotonic() - built
    if result.error is not None:
        raise RunError(f"the accelerator stopped with {result.error.name} "
                       f"at {result.error_address:#x}")
    if result.violations:
        raise RunError(f"AXI rules broken {len(result.violations)} times, "
                       f"first: {result.violations[0]}")
    stray = memory != wanted
    for tensor in program.results.values():
        tensor.window(stray, program.base)[:] = False
    return Run("RTL on Verilator", memory, compare_codes(program, memory, reference), spent,
               int(np.count_nonzero(stray)), built - started, result.cycles, result.counters)


def _limit(config: AcceleratorConfig, program: TransformerProgram) -> int:
    """Cycles that no working program needs: the array at a hundredth, the memory ten times."""
    return 1_000_000 + 100 * program.macs // config.dim ** 2 + 10 * program.memory.size
