"""``python -m synth.units``: where the gate-equivalents of an accelerator are, at several D.

Every unit of ``core.py`` and ``top.py`` is mapped on its own, so that no gate is two units'; PEs
and lanes stand apart from the array and the vector unit that hold them. Memory bits are counted,
not mapped.
"""

import sys
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from gen.cli import Parser, add_config_flags, add_quiet, config_from, deliver, integer, piped
from gen.design import Design
from gen.top import design
from synth.flow import Flow, Report
from synth.library import LibraryMissing, add_library, library_named
from synth.yosys import YosysError

__all__ = ["BIT", "KINDS", "REST", "Breakdown", "apart", "breakdown", "main", "parts",
           "rows"]

BIT = 0.3
"""Gate-equivalents of a memory bit: an assumption (six transistors, dense, with their periphery),
as no library here has memories."""
KINDS = {"pe": "PEs", "lane": "lanes"}
"""Leaves that have a row of their own, by the beginning of their modules' names."""
REST = "between the units"


def parts(described: Design) -> dict[str, str]:
    """Each unit of the top and of its core, and the module that it is."""
    core = f"{described.top}__core"
    found = {}
    for parent in (described.top, core):
        for name in described.modules[parent].cells:
            if name.startswith(f"{parent}__") and name != core:
                found[name.removeprefix(f"{parent}__")] = name
    return found


def kind(module: str) -> str | None:
    """The row of a module that has one wherever it stands."""
    return next((row for start, row in KINDS.items() if module.startswith(f"{start}_")), None)


def apart(described: Design) -> set[str]:
    """Modules to map on their own: those of ``parts``, PEs and lanes, each with what is private to
    it."""
    return {*parts(described).values(),
            *(name for name in described.counts if kind(name) and "__" not in name)}


def rows(described: Design, mapped: Collection[str]) -> dict[str, Counter[str]]:
    """Instances of the units ``mapped`` by row, PEs and lanes first; each instance is in one."""
    found: dict[str, Counter[str]] = {row: Counter() for row in KINDS.values()}
    rest = Counter({unit: described.counts[unit] for unit in mapped})
    for row, module in parts(described).items():
        for unit, times in described.counts_under(module).items():
            if unit in mapped:
                found.setdefault(kind(unit) or row, Counter())[unit] += times
                rest[unit] -= times
    for unit, times in (+rest).items():
        found.setdefault(kind(unit) or REST, Counter())[unit] += times
    return found


@dataclass(frozen=True)
class Breakdown:
    """``gates``: of each row, PEs and lanes first; their sum is the whole. ``memory_bits``."""

    gates: Mapping[str, float]
    memory_bits: int

    @property
    def whole(self) -> float:
        return sum(self.gates.values())

    @property
    def overhead(self) -> float:
        """What is neither PE nor lane."""
        return self.whole - sum(self.gates[row] for row in KINDS.values())


def breakdown(described: Design, report: Report) -> Breakdown:
    """Rows of a design that was mapped with its modules of ``apart`` apart."""
    return Breakdown({row: sum(report.units[unit].gates * times for unit, times in units.items())
                      for row, units in rows(described, report.units).items()}, report.memory_bits)


def _table(found: Mapping[int, Breakdown]) -> list[str]:
    """Units by size, the largest first; shares of the whole at each D."""
    rows = {row for one in found.values() for row in one.gates} - set(KINDS.values())
    by_size = sorted(rows, key=lambda row: -max(one.gates.get(row, 0) for one in found.values()))
    lines = [f"{'unit':22}" + "".join(f"{f'D = {dim}':>12}{'':8}" for dim in found)]
    for row in (*KINDS.values(), *by_size):
        lines.append(f"{row:22}" + "".join(
            f"{one.gates.get(row, 0):12,.0f}{one.gates.get(row, 0) / one.whole:8.1%}"
            for one in found.values()))
    lines.append(f"{'neither PE nor lane':22}" + "".join(
        f"{one.overhead:12,.0f}{one.overhead / one.whole:8.1%}" for one in found.values()))
    for name, field in (("all", "whole"), ("memory bits", "memory_bits")):
        lines.append(f"{name:22}" + "".join(f"{getattr(one, field):12,.0f}{'':8}"
                                            for one in found.values()))
    return [line.rstrip() for line in lines]


def _parser() -> Parser:
    parser = Parser(prog="synth.units", description=__doc__.splitlines()[0])
    add_library(parser)
    parser.add_argument("--dim", type=integer(1), nargs="+", default=[4, 8, 16, 32], metavar="N",
                        help="D, rows and columns of the array, several (4 8 16 32)")
    add_config_flags(parser, output=False, functions="softmax",
                     only=("fmt", "lanes", "acc", "softmax", "functions", "lane_kind", "bus_bytes"))
    add_quiet(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        configs = {dim: config_from(arguments, dim=dim) for dim in dict.fromkeys(arguments.dim)}
        flow = Flow(library_named(arguments.library, arguments.liberty), quiet=arguments.quiet)
        designs = [design(config) for config in configs.values()]
        reports = flow.measure_all(designs, set().union(*map(apart, designs)))
    except (ValueError, LibraryMissing, YosysError) as error:
        parser.error(str(error))
    first = next(iter(configs.values()))
    found = {dim: breakdown(*each)
             for dim, each in zip(configs, zip(designs, reports, strict=True), strict=True)}
    text = [f"Gate-equivalents by unit; {first.fmt}, accumulator {first.acc}, functions "
            f"{first.functions}, softmax {first.softmax}", *flow.describe(), "", *_table(found)]
    return deliver(parser, None, lambda: "\n".join(text) + "\n")


if __name__ == "__main__":
    sys.exit(piped(main))
