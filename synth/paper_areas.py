"""Areas beside the paper's figures: units at three clocks, whole accelerators: ``Areas``.

The clocks stand for the paper's 5, 200 and 400 MHz in 40 nm. Its process cannot be had; an inverter
that drives four takes there about ``FO4_40`` by rule of thumb, and in the library at hand what its
tables say: by that ratio the periods are longer. At the relaxed one units are mapped for area
(script ``quick``), at the others for the period (``timed``: fan-out buffered, cells sized). A MAC
and a lane take the least latency that meets the period (``pe_latency``, ``lane_latency``), or,
where none does, the fastest. Paths are without the register's own delay and setup, for which
``REGISTER`` is taken off a period.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil

from gen.block import design_block
from gen.cached import generated
from hdl.spec.config import AcceleratorConfig
from synth.flow import REGISTER, Flow
from synth.liberty import Liberty, Pin
from synth.published import CLOCKS, MHZ
from synth.units import Breakdown, apart, breakdown

__all__ = ["FO4_40", "Areas", "Leaf", "Unit", "fo4", "periods"]

FO4_40 = 0.030
"""ns of an inverter that drives four, 40 nm at 0.9 V, of low power: an assumption."""
_LATENCY = {"mac": ("pe_latency", 2), "pe": ("pe_latency", 2), "lane": ("lane_latency", 4)}
_SIZED = 0.3
VECTOR = ("lanes", "unit")
"""Rows of a breakdown that are the vector unit."""


def fo4(library: Liberty) -> float:
    """ns of the smallest inverter that drives four of itself, edges as such a chain has them."""
    inverters = [(cell.pins[cell.inputs[0]].load, pin) for cell in library.cells.values()
                 if len(cell.inputs) == 1 and cell.flop is None for pin in cell.pins.values()
                 if pin.arcs and pin.function is not None and pin.function.text.startswith("~")]
    if not inverters:
        raise ValueError("library must have an inverter with delays")
    load, smallest = min(inverters, key=lambda one: one[0])
    return _chained(smallest, 4 * load)


def _chained(pin: Pin, load: float) -> float:
    arc, slew = pin.arcs[0], (0.1, 0.1)
    for _ in range(20):
        slew = arc.rise_slew.at(load, slew[1]), arc.fall_slew.at(load, slew[0])
    return (arc.rise.at(load, slew[1]) + arc.fall.at(load, slew[0])) / 2


def periods(library: Liberty) -> dict[str, float]:
    """ns of each clock."""
    ratio = fo4(library) / FO4_40
    return {clock: round(1000 / MHZ[clock] * ratio, 1) for clock in CLOCKS}


@dataclass(frozen=True)
class Unit:
    """A block of a build of ``fmt``; ``softmax`` where it matters."""

    block: str
    fmt: str
    softmax: str = "pwl"


@dataclass(frozen=True)
class Leaf:
    """``latency``: of a MAC or a lane. ``meets``: whether its longest path fits the period."""

    gates: float
    delay: float
    latency: int
    meets: bool


class Areas:
    """``leaves`` by unit and clock, ``wholes`` by format, softmax and D = L."""

    def __init__(self, flows: Mapping[str, Flow], periods: Mapping[str, float]) -> None:
        self.flows, self.periods = flows, periods
        self.leaves: dict[tuple[Unit, str], Leaf] = {}
        self.wholes: dict[tuple[str, str, int], Breakdown] = {}

    @staticmethod
    def config(unit: Unit, latency: int = 1) -> AcceleratorConfig:
        name, _ = _LATENCY.get(unit.block, ("pe_latency", 1))
        return AcceleratorConfig(
            fmt=unit.fmt, softmax=unit.softmax, dim=16, lanes=16,
            functions="scales" if unit.fmt == "int8" else "softmax",
            pe_latency=latency if name == "pe_latency" else 1,
            lane_latency=latency if name == "lane_latency" else 1)

    def measure_leaves(self, units: Iterable[Unit], clocks: Iterable[str] = CLOCKS) -> None:
        """Each unit at each clock."""
        for clock in clocks:
            period = self.periods[clock]
            target = period - REGISTER
            open_units = {unit: self._first(unit, target) for unit in dict.fromkeys(units)}
            while open_units:
                done = self._mapped(clock, open_units)
                again: dict[Unit, int] = {}
                for unit, leaf in done.items():
                    best = self.leaves.get((unit, clock))
                    meets = leaf.delay <= target
                    if best is None or meets or leaf.delay < best.delay:
                        self.leaves[unit, clock] = replace(leaf, meets=meets)
                    if not meets and leaf.latency < _LATENCY.get(unit.block, ("", 1))[1]:
                        again[unit] = leaf.latency + 1
                open_units = again

    def _first(self, unit: Unit, target: float) -> int:
        """The least latency worth a trial: what mapping for a period takes off a path is not more
        than ``_SIZED`` of it, and a register halves it at best."""
        known = self.leaves.get((unit, CLOCKS[0]))
        most = _LATENCY.get(unit.block, ("", 1))[1]
        return 1 if known is None else min(most, max(1, ceil(
            (1 - _SIZED) * known.delay * known.latency / target)))

    def _mapped(self, clock: str, units: Mapping[Unit, int]) -> dict[Unit, Leaf]:
        designs = [design_block(unit.block, self.config(unit, latency))
                   for unit, latency in units.items()]
        reports = self.flows[clock].measure_all(designs)
        return {unit: Leaf(report.gates, report.delay, latency, True)
                for (unit, latency), report in zip(units.items(), reports, strict=True)}

    def measure_wholes(self, builds: Sequence[tuple[str, str]], dims: Sequence[int]) -> None:
        """Accelerators of (format, softmax) with D = L, mapped for area."""
        keys = [(*build, dim) for dim in dims for build in builds]
        designs = [generated(AcceleratorConfig(fmt=fmt, softmax=softmax, dim=dim, lanes=dim,
                                               functions="softmax")) for fmt, softmax, dim in keys]
        reports = self.flows["relaxed"].measure_all(designs, set().union(*map(apart, designs)))
        for key, made, report in zip(keys, designs, reports, strict=True):
            self.wholes[key] = breakdown(made, report)

    def rows(self, fmt: str, softmax: str, dim: int, clock: str) -> dict[str, float]:
        """Gates of a whole by row: PEs and lanes as at ``clock``, the rest for area."""
        found = dict(self.wholes[fmt, softmax, dim].gates)
        pe, lane = Unit("pe", fmt), Unit("lane", fmt, softmax)
        found["PEs"] = dim * dim * self.leaves[pe, clock].gates
        found["lanes"] = dim * self.leaves[lane, clock].gates
        return found

    def vector(self, fmt: str, softmax: str, lanes: int, clock: str) -> float:
        """Gates of the vector unit."""
        found = self.rows(fmt, softmax, lanes, clock)
        return sum(found[row] for row in VECTOR)
