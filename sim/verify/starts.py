"""What a host starts programs on: the machine model, or the generated Verilog beside it."""

from typing import TYPE_CHECKING

import numpy as np

from compiler.program.start import Ran, Start
from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine
from sim.verify.runner import RunError, must_end

if TYPE_CHECKING:
    import sim.harness.accelerator

__all__ = ["built", "machine_start", "rtl_start"]


def machine_start(config: AcceleratorConfig) -> Start:
    """Runs programs on the machine model; ``RunError``."""
    machine = Machine(config)

    def start(memory: np.ndarray, address: int, base: int) -> Ran:
        ending = machine.run(memory, address, base)
        must_end("machine model", ending.error, ending.error_address)
        return Ran(ending.saturations, ending.nars)

    return start


def built(config: AcceleratorConfig) -> "sim.harness.accelerator.Accelerator":
    """The generated Verilog of ``config``, ready to run; ``RunError``."""
    from sim.harness.accelerator import Accelerator, HungError
    from sim.harness.verilate import ToolError

    try:
        return Accelerator(config)
    except (HungError, ToolError) as error:
        raise RunError(str(error)) from error


def rtl_start(accelerator: "sim.harness.accelerator.Accelerator",
              max_cycles: int = 200_000_000) -> Start:
    """Runs programs on the generated Verilog through AXI, and on the machine model on a copy of the
    memory: ``RunError`` where a byte differs."""
    from sim.harness.accelerator import HungError

    on_machine = machine_start(accelerator.config)

    def start(memory: np.ndarray, address: int, base: int) -> Ran:
        wanted = memory.copy()
        ran = on_machine(wanted, address, base)
        try:
            result = accelerator.run(memory, address, base, max_cycles=max_cycles)
        except HungError as error:
            raise RunError(str(error)) from error
        must_end("accelerator", result.error, result.error_address, result.violations)
        different = int(np.count_nonzero(memory != wanted))
        if different:
            raise RunError(f"{different} of {memory.size} bytes differ from the machine model's")
        return Ran(ran.saturations, ran.nars, result.cycles, memory.size)

    return start
