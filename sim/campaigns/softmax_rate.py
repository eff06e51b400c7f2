"""How fast a softmax runs: part of ``python -m sim.throughput``.

Alone: VECTOR on stored scores, three passes of the lanes. Fused: the epilogue of a GEMM whose K is
one tile, so that the lanes are the limit, in two passes after its row maxima. A rate is elements
per hardware's ACTIVE cycle (issue of the first command to the last write response), a share is of
the L / passes elements that the lanes could at best.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.records import commands as records
from sim.cycles.bound import Bound, program_bound
from sim.harness.accelerator import Accelerator
from sim.harness.stalls import PROFILES

__all__ = ["CASES", "LEAST", "Rate", "measure", "table"]

LEAST = 0.90
CASES = ((False, 128, 1), (False, 512, 1), (False, 128, 8), (True, 512, 1), (True, 128, 8))
"""(fused, rows, commands) for which a share of ``LEAST`` is promised at D = L = 16.

A single fused command of 128 rows misses it: nothing hides the filling of the first bank, which
must be complete before a row's maximum is known, and it is a quarter of that command's beats.
"""
_COLUMNS = 128


@dataclass(frozen=True)
class Rate:
    """``commands`` softmaxes over ``rows`` rows of 128 scores: ACTIVE cycles and the least that
    these can be, beats of the lanes."""

    fused: bool
    lanes: int
    rows: int
    commands: int
    cycles: int
    bound: Bound
    beats: int

    @property
    def passes(self) -> int:
        return 2 if self.fused else 3

    @property
    def elements_per_cycle(self) -> float:
        return self.commands * self.rows * _COLUMNS / self.cycles

    @property
    def share(self) -> float:
        return self.elements_per_cycle * self.passes / self.lanes


def measure(accelerator: Accelerator, fused: bool, rows: int, commands: int) -> Rate:
    """Run them on operands of their own. ``RuntimeError`` where the program does not end, the bus
    rules are broken or the lanes did not make the passes that the rate is taken for."""
    config = accelerator.config
    builder = ProgramBuilder(config)
    rng = np.random.default_rng(rows)

    def operand(*shape: int):
        return builder.constant(rng.standard_normal(shape))

    for _ in range(commands):
        out = builder.empty(rows, _COLUMNS)
        if fused:
            builder.gemm(operand(rows, config.dim), operand(config.dim, _COLUMNS), out,
                         Epilogue(scale=0.25, softmax=True))
        else:
            builder.vector(operand(rows, _COLUMNS), out, Epilogue(softmax=True))
    memory, address = builder.build()
    least = program_bound(config, [fields for _, fields in records(memory, address)],
                          PROFILES["ideal"].latency[0])
    result = accelerator.run(memory, address)
    counters = result.counters
    rate = Rate(fused, config.lanes, rows, commands, counters["active"], least,
                counters["vector_beats"])
    beats = rate.passes * commands * rows * -(-_COLUMNS // config.lanes)
    if result.error is not None or result.violations or rate.beats != beats:
        raise RuntimeError(f"{commands} softmaxes of {rows} rows ended with {result.error}, "
                           f"{result.violations}, {rate.beats} beats of {beats}")
    return rate


def table(rates: Sequence[Rate]) -> list[str]:
    """One line per measurement, below a heading."""
    lines = [f"{'softmax':>9} {'rows':>5} {'commands':>8} {'cycles each':>11} "
             f"{'×bound':>6} {'elements/cycle':>14} {'of L/passes':>11} {'target':>6}"]
    for rate in rates:
        promised = rate.lanes == 16 and (rate.fused, rate.rows, rate.commands) in CASES
        lines.append(
            f"{'fused' if rate.fused else 'alone':>9} {rate.rows:5} {rate.commands:8} "
            f"{rate.cycles / rate.commands:11.1f} {rate.bound.ratio(rate.cycles):6.3f} "
            f"{rate.elements_per_cycle:14.2f} "
            f"{rate.share:11.2%} {f'{LEAST:.0%}' if promised else '-':>6}")
    return lines
