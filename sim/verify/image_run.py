"""An image run on the machine model or on RTL."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.program.image import ProgramImage
from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine
from sim.verify.progress import Progress, milestones

__all__ = ["RunError", "Run", "on_cocotb", "on_machine", "on_rtl"]


class RunError(RuntimeError):
    """A run that did not end well; the message is one line."""


@dataclass(frozen=True)
class Run:
    """``memory`` behind a run and its seconds; on RTL also the build's seconds, the cycles, how
    often each byte was written, the machine model's memory, how many bytes differ from it."""

    memory: np.ndarray
    seconds: float
    built: float = 0.0
    cycles: int = 0
    written: np.ndarray | None = None
    mismatches: int = 0
    wanted: np.ndarray | None = None


def on_machine(image: ProgramImage, config: AcceleratorConfig, progress: bool | None = None
               ) -> Run:
    """On the machine model of ``config``; ``progress`` as ``shown`` of ``sim.verify.progress``."""
    memory, started = image.memory.copy(), time.monotonic()
    with Progress("machine", config, memory, image.address, image.base, shown=progress) as told:
        outcome = Machine(config).run(memory, image.address, image.base, progress=told.after)
    if outcome.error is not None:
        raise RunError(f"the machine model stopped with {outcome.error.name} "
                       f"at {outcome.error_address:#x}")
    return Run(memory, time.monotonic() - started)


def on_rtl(image: ProgramImage, config: AcceleratorConfig, progress: bool | None = None, *,
           seed: int = 0, optimise: str = "-O1") -> Run:
    """On the generated Verilog of ``config`` through AXI, and on the machine model for comparison.

    ``optimise``: as for ``sim.harness.accelerator.Accelerator``.
    """
    from sim.harness.accelerator import Accelerator, HungError
    from sim.harness.verilate import ToolError

    wanted = on_machine(image, config, progress).memory
    memory, started = image.memory.copy(), time.monotonic()
    try:
        accelerator = Accelerator(config, optimise=optimise)
        built = time.monotonic()
        with Progress("RTL", config, memory, image.address, image.base, shown=progress) as told:
            result = accelerator.run(memory, image.address, image.base, seed=seed,
                                     max_cycles=_limit(image, config), progress=told.at_cycle)
    except (HungError, ToolError) as error:
        raise RunError(str(error)) from error
    if result.error is not None:
        raise RunError(f"the accelerator stopped with {result.error.name} "
                       f"at {result.error_address:#x}")
    if result.violations:
        raise RunError(f"AXI rules broken {len(result.violations)} times, "
                       f"first: {result.violations[0]}")
    return Run(memory, time.monotonic() - built, built - started, result.cycles,
               result.written, int(np.count_nonzero(memory != wanted)), wanted)


def on_cocotb(path: Path, image: ProgramImage, config: AcceleratorConfig, *, seed: int = 1,
              simulator: str = "verilator", waves: bool = False) -> tuple[int, int, Path | None]:
    """The image at ``path`` by the bench ``sim.bench.image_tb``: bytes written, cycles, and where
    the waveform lies. Every byte of memory was the machine model's, or ``RunError``."""
    from sim.bench.catalog import IMAGE, Job
    from sim.bench.runner import missing, run

    if missing(simulator):
        raise RunError(f"{simulator} is not installed")
    environment = {"OTTAVA_IMAGE": str(path.resolve()),
                   "OTTAVA_LIMIT": str(_limit(image, config))}
    report = run(Job(IMAGE, config, simulator, environment), seed, waves)
    if not report.passed:
        raise RunError(report.message)
    return report.cases, report.cycles, report.waves


def _limit(image: ProgramImage, config: AcceleratorConfig) -> int:
    """Cycles that no working program needs: one for each multiply-accumulate, and the memory ten
    times."""
    work = milestones(config, image.memory, image.address, image.base)
    return 1_000_000 + (work[-1][0] if work else 0) + 10 * image.memory.size
