"""A program image run on the machine model or on the generated Verilog."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.program.image import ProgramImage
from hdl.spec.commands import ErrorCause
from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine
from sim.verify.progress import Progress, milestones

__all__ = ["ImageRun", "RunError", "cycle_limit", "must_end", "on_machine", "on_rtl"]


class RunError(RuntimeError):
    """A run that did not end well; the message is one line."""


@dataclass(frozen=True)
class ImageRun:
    """``memory`` after a run on ``where``, and its seconds; of RTL also the build's seconds, the
    cycles, how often each byte was written, and the machine model's memory (``wanted``)."""

    where: str
    memory: np.ndarray
    seconds: float = 0.0
    built: float = 0.0
    cycles: int = 0
    written: np.ndarray | None = None
    wanted: np.ndarray | None = None

    @property
    def mismatches(self) -> int:
        """Bytes of the memory that differ from the machine model's; 0 where that is not known."""
        return 0 if self.wanted is None else int(np.count_nonzero(self.memory != self.wanted))


def must_end(what: str, error: ErrorCause | None, address: int, violations: Sequence[str] = ()
             ) -> None:
    """``RunError`` where ``what`` stopped with an error, or broke rules of the bus."""
    if error is not None:
        raise RunError(f"the {what} stopped with {error.name} at {address:#x}")
    if violations:
        raise RunError(f"AXI rules broken {len(violations)} times, first: {violations[0]}")


def on_machine(image: ProgramImage, config: AcceleratorConfig, quiet: bool = False) -> ImageRun:
    """On the machine model of ``config``; ``quiet``: without progress on standard error."""
    memory, started = image.memory.copy(), time.monotonic()
    with Progress("machine", config, memory, image.address, image.base, quiet=quiet) as told:
        outcome = Machine(config).run(memory, image.address, image.base, progress=told.after)
    must_end("machine model", outcome.error, outcome.error_address)
    return ImageRun("machine model", memory, time.monotonic() - started)


def on_rtl(image: ProgramImage, config: AcceleratorConfig, quiet: bool = False, *,
           seed: int = 0, optimise: str = "-O1") -> ImageRun:
    """On the generated Verilog of ``config`` through AXI, and on the machine model for comparison.

    ``optimise``: as for ``sim.harness.accelerator.Accelerator``.
    """
    from sim.harness.accelerator import Accelerator, HungError
    from sim.harness.verilate import ToolError

    wanted = on_machine(image, config, quiet).memory
    memory, started = image.memory.copy(), time.monotonic()
    try:
        accelerator = Accelerator(config, optimise=optimise)
        built = time.monotonic()
        with Progress("RTL", config, memory, image.address, image.base, quiet=quiet) as told:
            result = accelerator.run(memory, image.address, image.base, seed=seed,
                                     max_cycles=cycle_limit(image, config), progress=told.at_cycle)
    except (HungError, ToolError) as error:
        raise RunError(str(error)) from error
    must_end("accelerator", result.error, result.error_address, result.violations)
    return ImageRun("RTL on Verilator", memory, time.monotonic() - built, built - started,
                    result.cycles, result.written, wanted)


def cycle_limit(image: ProgramImage, config: AcceleratorConfig) -> int:
    """Cycles that no working program needs: one for each multiply-accumulate, and the memory ten
    times."""
    work = milestones(config, image.memory, image.address, image.base)
    return 1_000_000 + (work[-1][0] if work else 0) + 10 * image.memory.size
