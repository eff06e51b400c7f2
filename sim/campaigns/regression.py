"""One random program on the Verilated accelerator and on the model, compared byte by byte."""

from functools import cache
from typing import Any

import numpy as np

from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import Case, stray_writes
from sim.harness.accelerator import Accelerator
from sim.harness.stalls import PROFILES
from sim.model.machine import Machine

__all__ = ["LIMIT", "STUCK_CYCLES", "TINY", "compare", "small_accelerator"]

LIMIT = 2_000_000
STUCK_CYCLES = 1024
TINY: dict[str, Any] = {"input_depth": 64, "weight_depth": 32, "acc_depth": 16, "row_depth": 8,
        "stuck_cycles": STUCK_CYCLES}


@cache
def small_accelerator(fmt: str, **changes: Any) -> Accelerator:
    """D = 4 and small buffers, so that small shapes already need several blocks and panels."""
    return Accelerator(AcceleratorConfig(fmt, **({"dim": 4} | TINY | changes)))


def compare(machine: Accelerator, case: Case, profile: str, seed: int, *,
            rewrites: bool = False) -> int:
    """Bytes compared; ``AssertionError`` on the first difference.

    Every byte of the image, how often each was written (``rewrites``: results more than once),
    the ending, the counters that the model or the harness knows, and the bus rules must agree.
    """
    expected, memory = case.memory.copy(), case.memory.copy()
    outcome = Machine(machine.config).run(expected, case.address, case.base)
    result = machine.run(memory, case.address, case.base, stalls=PROFILES[profile], seed=seed,
                         max_cycles=LIMIT)
    assert (result.error, result.violations) == (outcome.error, []), \
        f"{case.label}: {result.error}, expected {outcome.error}; {result.violations}"
    wrong = np.flatnonzero(memory != expected)
    assert not wrong.size, (f"{case.label}: {wrong.size} bytes differ, the first at "
                            f"{case.base + wrong[0]:#x}: {memory[wrong[0]]:#x}, "
                            f"expected {expected[wrong[0]]:#x}")
    written = np.minimum(result.written, 1) if rewrites else result.written
    stray = stray_writes(case, written)
    assert not stray, f"{case.label}: {stray}"
    known = {"saturations": outcome.saturations, "nars": outcome.nars,
             "commands": outcome.commands}
    known |= {name: result.bus[name]
              for name in ("read_bursts", "read_beats", "write_bursts", "write_beats")}
    found = {name: result.counters[name] for name in known}
    assert found == known, f"{case.label}: {found}, expected {known}"
    return sum(tensor.rows * tensor.row_bytes for tensor in case.outputs)
