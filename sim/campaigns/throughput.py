"""How busy the array is: ``python -m sim.throughput``.

GEMMs of M = N = K on the generated Verilog, one cold and eight back to back (``--commands``),
16-byte aligned, on a memory of one beat per cycle and channel, 30 cycles latency and 16 bursts
outstanding. Utilisation is the MACs of the shapes over D² times the hardware's ACTIVE cycles,
which run from the issue of the first command to the last write response; the stalls come from the
hardware's counters as well, and next to the cycles stands their ratio to the least that any
execution takes (``sim.cycles.bound``). After them the rates of softmaxes
(``sim.softmax_rate``).
Exit code 1 when a figure misses its target, 2 for a wrong argument.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compiler.program.builder import ProgramBuilder
from compiler.program.records import commands as records
from gen.cli import Parser, add_config_flags, add_quiet, config_from, counted, integer
from hdl.spec.commands import Function, members
from sim.campaigns import softmax_rate
from sim.cycles.bound import Bound, program_bound
from sim.harness.accelerator import Accelerator
from sim.harness.stalls import PROFILES

__all__ = ["TARGETS", "Measurement", "main", "measure", "table"]

BACK_TO_BACK = 8
TARGETS = {(128, 1): 0.90, (128, BACK_TO_BACK): 0.95, (512, 1): 0.97, (512, BACK_TO_BACK): 0.99}
"""Least utilisation by (M = N = K, commands), at D = 16 with 8-bit operands."""
_STALLS = ("stall_input", "stall_weight", "stall_accumulator")


@dataclass(frozen=True)
class Measurement:
    """``commands`` GEMMs of M = N = K = ``size``: ACTIVE cycles and the least that these can be,
    rows fed, cycles by cause."""

    dim: int
    size: int
    commands: int
    cycles: int
    bound: Bound
    rows: int
    stalls: dict[str, int]

    @property
    def utilisation(self) -> float:
        return self.commands * self.size ** 3 / (self.dim ** 2 * self.cycles)

    @property
    def ends(self) -> int:
        """Cycles in which the array neither worked nor waited: before the first row, after the
        last, between commands."""
        return self.cycles - self.rows - sum(self.stalls.values())


def measure(accelerator: Accelerator, size: int, commands: int, **layout: Any) -> Measurement:
    """Run ``commands`` GEMMs on operands of their own; ``layout``: flags of the builder's ``gemm``.

    ``RuntimeError`` where the program does not end or the bus rules are broken.
    """
    config = accelerator.config
    builder = ProgramBuilder(config)
    rng = np.random.default_rng(size)
    for _ in range(commands):
        a, b = (builder.constant(rng.standard_normal((size, size))) for _ in range(2))
        builder.gemm(a, b, builder.empty(size, size), **layout)
    memory, address = builder.build()
    least = program_bound(config, [fields for _, fields in records(memory, address)],
                          PROFILES["ideal"].latency[0])
    result = accelerator.run(memory, address)
    if result.error is not None or result.violations:
        raise RuntimeError(f"{commands} GEMMs of {size} ended with {result.error}, "
                           f"{result.violations}")
    count = result.counters
    return Measurement(config.dim, size, commands, count["active"], least, count["array_rows"],
                       {name: count[name] for name in _STALLS})


def table(rows: Sequence[Measurement]) -> list[str]:
    """One line per measurement, below a heading."""
    lines = [f"{'M = N = K':>9} {'commands':>8} {'cycles each':>11} {'×bound':>6} "
             f"{'utilisation':>11} {'target':>6} {'input':>6} {'weight':>6} "
             f"{'bank':>6} {'ends':>6}"]
    for row in rows:
        target = TARGETS.get((row.size, row.commands)) if row.dim == 16 else None
        waits = " ".join(f"{row.stalls[name]:6}" for name in _STALLS)
        lines.append(f"{row.size:9} {row.commands:8} {row.cycles / row.commands:11.1f} "
                     f"{row.bound.ratio(row.cycles):6.3f} {row.utilisation:11.2%} "
                     f"{f'{target:.0%}' if target else '-':>6} "
                     f"{waits} {row.ends:6}")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.throughput", description=__doc__.split(":")[0] + ".")
    add_config_flags(parser, output=False)
    parser.add_argument("--sizes", type=integer(1), nargs="+", default=[128, 512], metavar="N",
                        help="M = N = K of the GEMMs (128 512)")
    parser.add_argument("--commands", type=integer(1), nargs="+", default=[1, BACK_TO_BACK],
                        metavar="N", help=f"GEMMs, one after another (1 {BACK_TO_BACK})")
    add_quiet(parser)
    parser.add_argument("--no-softmax", action="store_true", help="GEMMs only")
    for name in "ab":
        parser.add_argument(f"--{name}-transposed", action="store_true",
                            help=f"{name.upper()} is stored transposed")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 where no target is missed."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        config = config_from(options)
    except ValueError as error:
        parser.error(str(error))
    accelerator = Accelerator(config)
    work = [(size, commands) for size in options.sizes for commands in options.commands]
    rows = [measure(accelerator, size, commands, a_transposed=options.a_transposed,
                    b_transposed=options.b_transposed)
            for size, commands in counted("GEMMs", work, len(work), quiet=options.quiet)]
    print(f"{config.fmt}, dim {config.dim}, lanes {config.lanes}; stalls and ends in cycles")
    print("\n".join(table(rows)))
    judged = config.dim == 16 and config.format.storage_bytes == 1
    missed = [row for row in rows
              if judged and row.utilisation < TARGETS.get((row.size, row.commands), 0)]
    slow = []
    if not options.no_softmax and Function.EXP in members("function", config):
        cases = [("fused", 128, 1, softmax_rate.COLUMNS),
                 *((*case, softmax_rate.COLUMNS) for case in softmax_rate.CASES),
                 *(softmax_rate.DEFERRED if config.scales else ())]
        rates = [softmax_rate.measure(accelerator, *case)
                 for case in counted("softmax", cases, len(cases), quiet=options.quiet)]
        print("\n".join(softmax_rate.table(rates)))
        slow = [rate for rate in rates[1:1 + len(softmax_rate.CASES)]
                if judged and rate.share < softmax_rate.LEAST]
    for rate in slow:
        print(f"missed: softmax of {rate.rows} rows, {rate.commands} commands, {rate.share:.2%}",
              file=sys.stderr)
    for row in missed:
        print(f"missed: {row.size}³, {row.commands} commands, {row.utilisation:.2%}",
              file=sys.stderr)
    return int(bool(missed or slow))
