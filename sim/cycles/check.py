"""The cycle model against the generated Verilog: ``python -m sim.cycles --check``."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.program.builder import ProgramBuilder
from compiler.program.records import commands
from gen.cli import counted
from hdl.spec.config import AcceleratorConfig
from sim.cycles.bound import Bound
from sim.cycles.cases import cases
from sim.cycles.simulate import IDEAL, Memory, simulate
from sim.harness.accelerator import Accelerator
from sim.harness.stalls import StallProfile

__all__ = ["COUNTERS", "TOLERANCE", "CheckedCase", "compare", "measure", "table"]

TOLERANCE = 0.02
COUNTERS = ("tiles", "array_rows", "stall_input", "stall_weight", "stall_accumulator",
            "vector_beats", "stall_vector", "stall_operand", "read_bursts", "read_beats",
            "write_beats")
"""Counters of the hardware that the model counts too."""


@dataclass(frozen=True)
class CheckedCase:
    """A program on both: cycles of the counter ACTIVE, the least that these can be, and each of
    ``COUNTERS``: RTL, model."""

    name: str
    dim: int
    rtl: int
    model: int
    bound: Bound
    counters: dict[str, tuple[int, int]]

    @property
    def error(self) -> float:
        return self.model / self.rtl - 1

    @property
    def fails(self) -> bool:
        """Whether the model is beyond its tolerance or the bound beyond the cycles."""
        return abs(self.error) > TOLERANCE or self.rtl < self.bound.cycles

    @property
    def differing(self) -> list[str]:
        """Counters that differ at all."""
        return [name for name, (rtl, model) in self.counters.items() if rtl != model]


def measure(accelerator: Accelerator, name: str, memory: np.ndarray, address: int,
            behind: Memory = IDEAL) -> CheckedCase:
    """Run the program at ``address`` on a design fresh from reset and on the model, both with the
    memory ``behind`` their bus.

    ``RuntimeError`` where it does not end well on RTL.
    """
    fields = [fields for _, fields in commands(memory, address)]
    accelerator.reset()
    result = accelerator.run(memory.copy(), address, stalls=StallProfile(
        "checked", latency=(behind.latency, behind.latency), outstanding=behind.outstanding,
        dram=behind.dram))
    if result.error is not None or result.violations:
        raise RuntimeError(f"{name} ended with {result.error}, {result.violations}")
    run = simulate(accelerator.config, fields, memory=behind, address=address)
    counters = {key: (result.counters[key], run.total(key)) for key in COUNTERS}
    return CheckedCase(name, accelerator.config.dim, result.counters["active"], run.active,
                      run.bound, counters)


def compare(accelerator: Accelerator, names: Sequence[str] | None = None, quiet: bool = True,
            behind: Memory = IDEAL) -> list[CheckedCase]:
    """All cases of the build's array, or those named."""
    known = cases(accelerator.config.dim, accelerator.config.functions)
    found, chosen = [], list(known if names is None else names)
    for name in counted(f"dim {accelerator.config.dim}: cases", chosen, len(chosen), quiet=quiet):
        builder = ProgramBuilder(accelerator.config)
        known[name](builder)
        found.append(measure(accelerator, name, *builder.build(), behind))
    return found


def table(rows: Sequence[CheckedCase], behind: Memory = IDEAL) -> list[str]:
    """One line per case below a heading, and a verdict, which names the memory ``behind``."""
    lines = [f"{'case':36} {'dim':>3} {'RTL':>8} {'model':>8} {'error':>7} {'bound':>8} "
             f"{'×bound':>6} {'limit':7}  counters that differ"]
    for row in rows:
        lines.append(f"{row.name:36} {row.dim:3} {row.rtl:8} {row.model:8} {row.error:7.2%} "
                     f"{row.bound.cycles:8} {row.bound.ratio(row.rtl):6.2f} {row.bound.limit:7}  "
                     f"{', '.join(row.differing) or '-'}")
    below = sum(row.rtl < row.bound.cycles for row in rows)
    beyond = sum(abs(row.error) > TOLERANCE for row in rows)
    worst = max((abs(row.error) for row in rows), default=0)
    equal = sum(row.model == row.rtl for row in rows)
    lines.append(f"{len(rows)} compared, {beyond} beyond {TOLERANCE:.0%}, the worst {worst:.2%}, "
                 f"{behind}; {equal} to the cycle; {below} below the bound")
    return lines


def build(fmt: str, dim: int, **options) -> Accelerator:
    """The Verilated design to compare with."""
    return Accelerator(AcceleratorConfig(fmt, dim=dim, **options))
