"""``python -m synth.clock``: how long the longest path of each unit takes, and which latencies of a
build meet a clock period.

Units are those of ``synth.units``, each mapped on its own with its fan-out buffered: paths between
registers, ports and the units inside. What a register takes itself, setup and clock to output,
comes on top, as does every wire.
"""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from gen.cached import generated
from gen.cli import Parser, add_config_flags, add_quiet, config_from, deliver, piped, real
from hdl.spec.config import AcceleratorConfig
from synth.flow import SCRIPTS, Flow
from synth.hierarchy import Hierarchy
from synth.library import LibraryMissing, add_library, library_named
from synth.units import apart, rows
from synth.yosys import YosysError, yosys_version

__all__ = ["KNOBS", "Knob", "choose", "delays", "main"]


@dataclass(frozen=True)
class Knob:
    """A value of the configuration that shortens the paths of one row, and what it may be, where
    the rest of the configuration lets it."""

    row: str
    values: tuple[int, ...]


KNOBS = {"pe_latency": Knob("PEs", (1, 2, 3)), "lane_latency": Knob("lanes", (1, 2, 3, 4)),
         "sum_ways": Knob("unit", (1, 2, 4))}


def delays(flow: Flow, config: AcceleratorConfig, only: str | None = None) -> dict[str, float]:
    """ns of the longest path of each row, or of row ``only``; ``YosysError``."""
    made = generated(config)
    tree = Hierarchy(made, apart(made))
    mapped = {unit for unit in tree.units if not tree.modules[unit].is_memory}
    found = rows(made, mapped)  # a unit that several hold is in the row of each
    wanted = {row: units for row, units in found.items() if units and only in (None, row)}
    done = flow.map_units([tree.unit(unit) for unit in set().union(*wanted.values())], "clock")
    ns = {unit.name: one.delay for unit, one in done.items()}
    return {row: max(ns[unit] for unit in units) for row, units in wanted.items()}


def choose(flow: Flow, config: AcceleratorConfig, period: float) -> AcceleratorConfig:
    """``config`` with the least of each latency whose row then meets ``period`` ns, or with the one
    that comes nearest."""
    for name, knob in KNOBS.items():
        best = float("inf")
        for tried in _allowed(config, name, knob.values):
            delay = delays(flow, tried, knob.row).get(knob.row, 0.0)
            if delay < best:
                best, chosen = delay, tried
            if delay <= period:
                break
        config = chosen
    return config


def _allowed(config: AcceleratorConfig, name: str, values: Sequence[int]
             ) -> list[AcceleratorConfig]:
    """``config`` with each value that it lets ``name`` have."""
    found = []
    for value in values:
        with suppress(ValueError):  # a third register of a PE that rounds, ways of exact sums
            found.append(replace(config, **{name: value}))  # type: ignore[arg-type]
    return found


def _verdict(config: AcceleratorConfig, found: Mapping[str, float], period: float) -> str:
    """One line: the latencies that meet ``period``, or the path that does not."""
    told = " ".join(f"--{name.replace('_', '-')} {getattr(config, name)}" for name in KNOBS)
    row = max(found, key=found.__getitem__)
    if found[row] <= period:
        return f"{told} meets {period:g} ns: the longest path takes {found[row]:.1f} ns, in {row}"
    late = sum(delay > period for delay in found.values())
    return (f"{period:g} ns is not met, at {told} either: {row} takes {found[row]:.1f} ns; "
            f"{late} of {len(found)} rows are longer")


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="synth.clock", description=__doc__.splitlines()[0])
    add_library(parser)
    add_config_flags(parser, output=False, dim=4)
    parser.add_argument("--period-ns", type=real(0), metavar="NS",
                        help="choose pe_latency, lane_latency and sum_ways that meet it")
    add_quiet(parser)
    arguments = parser.parse_args(argv)
    period = arguments.period_ns
    try:
        config = config_from(arguments)
        flow = Flow(library_named(arguments.library, arguments.liberty), quiet=arguments.quiet)
        if period is not None:
            config = choose(flow, config, period)
        found = delays(flow, config)
    except (ValueError, LibraryMissing, YosysError) as error:
        parser.error(str(error))
    lines = [f"Longest paths by unit, ns; {config.fmt}, D {config.dim}, accumulator {config.acc}, "
             f"functions {config.functions}, softmax {config.softmax}, "
             + ", ".join(f"{name} {getattr(config, name)}" for name in KNOBS),
             f"{yosys_version()}; library {flow.library}; script {SCRIPTS['clock']}", "",
             *(f"{row:22}{delay:8.1f}"
               for row, delay in sorted(found.items(), key=lambda item: -item[1]))]
    if period is not None:
        lines += ["", _verdict(config, found, period)]
    met = period is None or max(found.values()) <= period
    return deliver(parser, None, lambda: "\n".join(lines) + "\n") or (0 if met else 1)


if __name__ == "__main__":
    sys.exit(piped(main))
