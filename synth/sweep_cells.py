"""Builds of a sweep and what is measured of each: ``Cell``, ``measured``.

A cell's result is kept by its configuration, the sources that it follows from, the library and the
tools, so that a sweep that was stopped goes on where it was.
"""

import hashlib
import json
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

from gen.cached import generated
from gen.cli import PERIOD_NS, appearing, config_from, surroundings_from
from gen.cli.folders import build_folder
from gen.top import design
from hdl.spec.config import AcceleratorConfig
from hdl.spec.surroundings import Surroundings
from sim.campaigns.sources import digest_of
from sim.inference.workers import shared
from synth.flow import REGISTER, Flow
from synth.fpga import CELLS, SRAM, nextpnr_version, place
from synth.library import LIBRARIES, Library, library_named
from synth.units import BIT, apart, breakdown
from synth.yosys import yosys_version

__all__ = ["AREA_ALONE", "Cell", "Result", "cells", "frontier", "measured"]

AREA_ALONE = 0.0
"""A period that asks for none: mapped for area."""
_SOURCES = ("hdl", "gen", *(f"synth/{name}.py" for name in (
    "flow", "fpga", "hierarchy", "library", "sweep_cells", "units")))
"""What a result follows from, its cell aside."""

Result = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """``period_ns``: what is asked for. ``lanes``, ``acc``, ``softmax``: those that the
    configuration settles on; what is not named is as usual for ``target``. ``library``: a name of
    ``synth.library``, or a Liberty file's path."""

    fmt: str
    dim: int
    lanes: int
    acc: str
    softmax: str
    functions: str
    period_ns: float
    target: str
    library: str

    @property
    def config(self) -> AcceleratorConfig:
        return _config(self.target, fmt=self.fmt, dim=self.dim, lanes=self.lanes, acc=self.acc,
                       softmax=self.softmax, functions=self.functions)

    @property
    def surroundings(self) -> Surroundings:
        return surroundings_from(Namespace(target=self.target))

    @property
    def key(self) -> str:
        tool = _library(self.library).digest if self.target == "asic" else nextpnr_version()
        said = json.dumps([asdict(self), digest_of(_SOURCES), yosys_version(), tool],
                          sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:32]


def _config(target: str, **values: Any) -> AcceleratorConfig:
    """The configuration that command lines with these flags name; ``ValueError``."""
    return config_from(Namespace(target=target), **{
        name: value for name, value in values.items() if value is not None})


@cache
def _library(name: str) -> Library:
    """What ``Cell.library`` names."""
    return library_named(name) if name in LIBRARIES else library_named(liberty=name)


def cells(fmt: Sequence[str], dim: Sequence[int], lanes: Sequence[int | None],
          acc: Sequence[str | None], period_ns: Sequence[float], target: Sequence[str],
          softmax: str | None, functions: str, library: str) -> tuple[list[Cell], int]:
    """Every build of the product that there is, each once, and how many the configuration
    refuses; ``ValueError`` with the first reason where it refuses all."""
    found: dict[Cell, None] = {}
    refused: list[str] = []
    for one, d, many, sums, where in product(fmt, dim, lanes, acc, target):
        try:
            config = _config(where, fmt=one, dim=d, lanes=many, acc=sums, softmax=softmax,
                             functions=functions)
        except ValueError as error:
            refused.append(str(error))
            continue
        for period in period_ns:
            found[Cell(one, config.dim, config.lanes, config.acc, config.softmax,
                       config.functions, period, where,
                       library if where == "asic" else "")] = None
    if not found:
        raise ValueError(refused[0])
    return list(found), len(refused)


def measured(work: Sequence[Cell], jobs: int, scheduler: str | None = None, fresh: bool = False
             ) -> Iterator[tuple[Cell, Result]]:
    """The result of each cell as it comes; those that are kept first. ``SetError`` where workers
    end; ``YosysError``, ``PlacingError``, ``ToolMissing``, ``LibraryMissing``."""
    missing = []
    for cell in work:
        place = _place(cell)
        if fresh or not place.is_file():
            missing.append(cell)
        else:
            yield cell, json.loads(place.read_text())
    # One cell has all cores, several a core each.
    function = partial(_result, jobs=jobs if len(missing) < 2 and scheduler is None else 1)
    for cell, result in shared(function, missing, jobs, scheduler):
        place = _place(cell)
        place.parent.mkdir(parents=True, exist_ok=True)
        with appearing(place) as part:
            part.write_text(json.dumps(result))
        yield cell, result


def _place(cell: Cell) -> Path:
    return build_folder() / "sweep" / f"{cell.key}.json"


def _result(cell: Cell, jobs: int) -> tuple[Cell, Result]:
    """In a worker: gates or LUTs, memory bits, ns, billions of products a second."""
    found = _asic(cell, jobs) if cell.target == "asic" else _fpga(cell)
    period = max(found["ns"], cell.period_ns)
    return cell, {**found, "period": period, "meets": found["ns"] <= (cell.period_ns or period),
                  "gmacs": cell.dim ** 2 / period}


def _asic(cell: Cell, jobs: int) -> Result:
    # Fan-out is buffered in any case: a delay without it says nothing of a whole.
    target = cell.period_ns - REGISTER if cell.period_ns else 1000.0
    flow = Flow(_library(cell.library), "timed", period_ns=target, jobs=jobs)
    made = generated(cell.config)
    report = flow.measure_all([made], apart(made))[0]
    parts = breakdown(made, report)
    slowest = max(report.units.values(), key=lambda unit: unit.delay)
    return {"gates": report.gates, "pes": parts.gates["PEs"], "lanes_gates": parts.gates["lanes"],
            "memory_bits": report.memory_bits, "area": report.gates + BIT * report.memory_bits,
            "ns": slowest.delay + REGISTER, "slowest": slowest.unit}


def _fpga(cell: Cell) -> Result:
    """As ``python -m synth.fpga --target fpga`` places it; registers without those for pins."""
    made = design(cell.config, sram=SRAM, surroundings=cell.surroundings)
    placed = place(made, cell.period_ns or PERIOD_NS)
    used = {title.lower().replace(" ", "_"): placed.cells[kind][0] for title, kind in CELLS}
    used["registers"] -= placed.pins
    return {**used, "area": float(used["luts"]), "ns": 1000 / placed.mhz,
            "slowest": placed.ends[0]}


def frontier(results: Mapping[Cell, Result]) -> set[Cell]:
    """Of each target the cells that no other beats in area and in products a second."""
    def beaten(cell: Cell) -> bool:
        own = results[cell]
        return any(other.target == cell.target
                   and one["area"] <= own["area"] and one["gmacs"] >= own["gmacs"]
                   and (one["area"] < own["area"] or one["gmacs"] > own["gmacs"])
                   for other, one in results.items())

    return {cell for cell in results if not beaten(cell)}
