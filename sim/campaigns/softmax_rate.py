"""How fast a softmax runs: part of ``python -m sim.throughput``.

Alone: VECTOR on stored scores, three passes of the lanes. Fused: the epilogue of a GEMM whose K is
one tile, so that the lanes are the limit, in two passes after its row maxima. Deferred, in builds
with scales: the same in one pass, and a beat a row for what its codes are divided by. A rate is
elements per hardware's ACTIVE cycle (issue of the first command to the last write response), a
share is of the L / passes elements that the lanes could at best.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.lowering import lists
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.records import commands as records
from sim.cycles.bound import Bound, program_bound
from sim.harness.accelerator import Accelerator
from sim.harness.stalls import PROFILES

__all__ = ["CASES", "COLUMNS", "DEFERRED", "LEAST", "Rate", "measure", "table"]

LEAST = 0.90
CASES = (("alone", 128, 1), ("alone", 512, 1), ("alone", 128, 8), ("fused", 512, 1),
         ("fused", 128, 8))
"""(kind, rows, commands) for which a share of ``LEAST`` is promised at D = L = 16.

A single fused command of 128 rows misses it: nothing hides the filling of the first bank, which
must be complete before a row's maximum is known, and it is a quarter of that command's beats.
"""
DEFERRED = tuple(("deferred", rows, commands, columns) for rows, commands, columns in (
    (512, 1, 128), (128, 8, 128), (128, 8, 256), (128, 8, 512)))
_PASSES = {"alone": 3, "fused": 2, "deferred": 1}
COLUMNS = 128


@dataclass(frozen=True)
class Rate:
    """``commands`` softmaxes over ``rows`` rows of ``columns`` scores: ACTIVE cycles and the least
    that these can be, beats of the lanes."""

    kind: str
    lanes: int
    rows: int
    commands: int
    cycles: int
    bound: Bound
    beats: int
    columns: int = COLUMNS

    @property
    def passes(self) -> int:
        return _PASSES[self.kind]

    @property
    def elements_per_cycle(self) -> float:
        return self.commands * self.rows * self.columns / self.cycles

    @property
    def share(self) -> float:
        return self.elements_per_cycle * self.passes / self.lanes


def measure(accelerator: Accelerator, kind: str, rows: int, commands: int,
            columns: int = COLUMNS) -> Rate:
    """Run them on operands of their own. ``RuntimeError`` where the program does not end, the bus
    rules are broken or the lanes did not make the passes that the rate is taken for."""
    config = accelerator.config
    builder = ProgramBuilder(config)
    rng = np.random.default_rng(rows)

    def operand(*shape: int):
        return builder.constant(rng.standard_normal(shape))

    for _ in range(commands):
        out = builder.empty(rows, columns)
        if kind == "deferred":
            builder.gemm(operand(rows, config.dim), operand(config.dim, columns), out,
                         lists.deferred_softmax(0.25, builder.empty(rows, 1, "bf16")))
        elif kind == "fused":
            builder.gemm(operand(rows, config.dim), operand(config.dim, columns), out,
                         Epilogue(scale=0.25, softmax=True))
        else:
            builder.vector(operand(rows, columns), out, Epilogue(softmax=True))
    memory, address = builder.build()
    least = program_bound(config, [fields for _, fields in records(memory, address)],
                          PROFILES["ideal"].latency[0])
    result = accelerator.run(memory, address)
    counters = result.counters
    rate = Rate(kind, config.lanes, rows, commands, counters["active"], least,
                counters["vector_beats"], columns)
    beats = commands * rows * (rate.passes * -(-columns // config.lanes) + (kind == "deferred"))
    if result.error is not None or result.violations or rate.beats != beats:
        raise RuntimeError(f"{commands} softmaxes of {rows} rows ended with {result.error}, "
                           f"{result.violations}, {rate.beats} beats of {beats}")
    return rate


def table(rates: Sequence[Rate]) -> list[str]:
    """One line per measurement, below a heading."""
    lines = [f"{'softmax':>9} {'rows':>5} {'commands':>8} {'cycles each':>11} "
             f"{'×bound':>6} {'elements/cycle':>14} {'of L/passes':>11} {'target':>6}"]
    for rate in rates:
        promised = rate.lanes == 16 and (rate.kind, rate.rows, rate.commands) in CASES
        shape = str(rate.rows) + f"×{rate.columns}" * (rate.columns != COLUMNS)
        lines.append(
            f"{rate.kind:>9} {shape:>5} {rate.commands:8} "
            f"{rate.cycles / rate.commands:11.1f} {rate.bound.ratio(rate.cycles):6.3f} "
            f"{rate.elements_per_cycle:14.2f} "
            f"{rate.share:11.2%} {f'{LEAST:.0%}' if promised else '-':>6}")
    return lines
