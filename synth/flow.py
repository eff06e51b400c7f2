"""The one flow that every area and delay comes from: a design in Verilog to gate-equivalents.

``synth -flatten; dfflibmap; abc -script S; opt_clean; stat`` for each unit of the hierarchy
(``synth.hierarchy``), mapped once and multiplied by its instances. Memory macros are not mapped:
their bits stand next to the area. A unit's delay is ABC's ``stime`` of its longest combinational
path, between inputs, registers and outputs, without setup and clock-to-output times.
"""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gen.cli import counted
from gen.design import Design
from synth.hierarchy import Hierarchy, Unit
from synth.kept import kept
from synth.library import Library
from synth.yosys import YosysError, quoted, run_yosys, yosys_version

__all__ = ["REGISTER", "SCRIPTS", "Flow", "Mapped", "Report"]

_OPEN = "+strash;"
_CLOSE = "&put;stime,-p"
SCRIPTS: dict[str, str] = {
    "quick": f"{_OPEN}&get,-n;&fraig,-x;&put;scorr;dc2;dretime;strash;&get,-n;&dch,-f;&nf;{_CLOSE}",
    "best": f"{_OPEN}ifraig;scorr;&get,-n;&deepsyn,-I,2,-J,10;&dch,-f;&nf,-R,1000,-F,500;{_CLOSE}",
    # The same for units above DEEP_LIMIT gate-equivalents, whose search would take hours.
    "best-large":
        f"{_OPEN}ifraig;scorr;&get,-n;&deepsyn,-I,1,-J,4;&dch,-f;&nf,-R,1000,-F,500;{_CLOSE}",
}
_UNTIMED = SCRIPTS["quick"].removesuffix("stime,-p")
# For delays: no net has more than 8 loads.
SCRIPTS["clock"] = f"{_UNTIMED}buffer,-N,8;topo;stime,-p"
# Fan-out buffered and cells sized for the period that `abc -D` names.
SCRIPTS["timed"] = _UNTIMED + "topo;buffer,-c;topo;upsize,{D};dnsize,{D};stime,-p"
DEEP_LIMIT = 300
REGISTER = 0.5
"""ns of a period that a register takes, which no delay holds: OSU018's, from the clock and setup,
rounded up."""

_DELAY = re.compile(r"ABC: .*\bDelay =\s*([0-9.]+) ps")


@dataclass(frozen=True)
class Mapped:
    """One unit, mapped: without the units and memories inside it. Areas in gate-equivalents."""

    unit: str
    cells: int
    gates: float
    register_gates: float
    delay: float

    @property
    def logic_gates(self) -> float:
        return self.gates - self.register_gates


@dataclass(frozen=True)
class Report:
    """A design, mapped. ``units``: each distinct unit; ``counts``: its instances."""

    top: str
    units: dict[str, Mapped]
    counts: dict[str, int]
    memory_bits: int

    def _total(self, field: str) -> float:
        return sum(getattr(unit, field) * self.counts[name] for name, unit in self.units.items())

    @property
    def gates(self) -> float:
        """Gate-equivalents of everything but memory bits."""
        return self._total("gates")

    @property
    def register_gates(self) -> float:
        return self._total("register_gates")

    @property
    def cells(self) -> int:
        return int(self._total("cells"))

    @property
    def delay(self) -> float:
        """Longest combinational path inside one unit, ns."""
        return max(unit.delay for unit in self.units.values())


class Flow:
    """Maps Verilog with one library and one ABC script; remembers what it has mapped.

    Results are kept under ``build/synth-cache`` by the digest of the unit's text, the library, the
    script and the Yosys release, so that an unchanged unit is never mapped twice. ``quiet``:
    nothing is told of how far it is. ``period_ns``: of script ``timed``, what paths are to meet;
    those that are longer are made as short as its cells allow. ``jobs``: runs of Yosys at a time,
    one a core.
    """

    def __init__(self, library: Library, script: str = "quick", quiet: bool = True,
                 period_ns: float | None = None, jobs: int | None = None) -> None:
        if script not in ("quick", "best") and (script != "timed" or period_ns is None):
            raise ValueError(f"script must be one of quick, best, not {script!r}")
        self.library = library
        self.period_ns = period_ns
        self.jobs = jobs or os.cpu_count() or 1
        self.script = script
        self.quiet = quiet

    def describe(self) -> list[str]:
        """What every table prints above itself."""
        lines = [f"{yosys_version()}; library {self.library}; script {self.script}:",
                 f"  {SCRIPTS[self.script]}"]
        if self.script == "best":
            lines.append(f"  above {DEEP_LIMIT} gate-equivalents: {SCRIPTS['best-large']}")
        return lines

    def measure(self, design: Design) -> Report:
        """Map every unit under the top of ``design``. ``YosysError`` where Yosys refuses the
        text."""
        return self.measure_all([design])[0]

    def measure_all(self, designs: Sequence[Design], apart: Collection[str] = ()) -> list[Report]:
        """``measure`` of each design, ``jobs`` runs of Yosys at a time.

        A unit that several designs hold is mapped once, and the largest ones begin first.
        ``apart``: modules that are mapped on their own (``Hierarchy``).
        """
        trees = [Hierarchy(design, apart) for design in designs]
        units = [[tree.unit(name) for name in sorted(tree.units)
                  if not tree.modules[name].is_memory] for tree in trees]
        done = self.map_units({unit for members in units for unit in members})
        return [Report(tree.top, {unit.name: done[unit] for unit in members},
                       {unit.name: tree.counts[unit.name] for unit in members}, tree.memory_bits)
                for tree, members in zip(trees, units, strict=True)]

    def map_units(self, units: Collection[Unit], script: str | None = None) -> dict[Unit, Mapped]:
        """``map_unit`` of each, the largest first; without ``script`` by the flow's own."""
        order = sorted(units, key=lambda unit: (-len(unit.text), unit.name))
        with ThreadPoolExecutor(self.jobs) as pool:
            mapped = counted("units mapped", pool.map(
                lambda unit: self.map_unit(unit, script or self._script_of(unit)), order),
                len(order), quiet=self.quiet)
            return dict(zip(order, mapped, strict=True))

    def _script_of(self, unit: Unit) -> str:
        if self.script != "best":
            return self.script
        quick = self.map_unit(unit, "quick")
        return "best" if quick.gates <= DEEP_LIMIT else "best-large"

    def map_unit(self, unit: Unit, script: str) -> Mapped:
        """Map ``unit``, whose black boxes count nothing."""
        return Mapped(**self._kept(unit, script, "", lambda: asdict(self._run(unit, script))))

    def netlist(self, design: Design) -> dict[str, Any]:
        """The mapped netlist of a design that is mapped whole, as ``write_json`` has a module;
        ``ValueError`` where it holds units or memories of their own."""
        tree = Hierarchy(design)
        if tree.units != {design.top}:
            raise ValueError(f"unit must be mapped whole, not {design.top!r}")
        unit = tree.unit(design.top)
        script = self._script_of(unit)
        return self._kept(unit, script, "-netlist", lambda: self._mapped_netlist(unit, script))

    def _kept(self, unit: Unit, script: str, what: str, make: Callable[[], dict[str, Any]]
              ) -> dict[str, Any]:
        """What was made of the same unit before, or is made now."""
        target = [f"{self.period_ns:g}"] if script == "timed" else []
        key = hashlib.sha256("\0".join((unit.text, unit.name, self.library.digest,
                                        SCRIPTS[script], yosys_version(), *target)).encode())
        return kept(f"{key.hexdigest()[:32]}{what}", make)

    def _mapped_netlist(self, unit: Unit, script: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="ottava-map-") as name:
            source, found = Path(name) / "unit.v", Path(name) / "netlist.json"
            source.write_text(unit.text)
            run_yosys([*self.commands(source, unit.name, script),
                       f"write_json {quoted(found)}"])
            return json.loads(found.read_text())["modules"][unit.name]

    def commands(self, source: Path, unit: str, script: str) -> list[str]:
        """The flow from the file ``source`` to a mapped netlist of ``unit``."""
        liberty = quoted(self.library.path.resolve())
        target = f"-D {self.period_ns * 1000:.0f} " if script == "timed" and self.period_ns else ""
        return [f"read_verilog {quoted(source)}",
                f"synth -flatten -top {unit}",
                "delete */t:$scopeinfo",
                f"dfflibmap -liberty {liberty}",
                f"abc -liberty {liberty} {target}-script {SCRIPTS[script]}",
                "opt_clean"]

    def _run(self, unit: Unit, script: str) -> Mapped:
        with tempfile.TemporaryDirectory(prefix="ottava-map-") as name:
            folder = Path(name)
            source, statistics = folder / "unit.v", folder / "stat.json"
            source.write_text(unit.text)
            liberty = quoted(self.library.path.resolve())
            log = run_yosys([
                *self.commands(source, unit.name, script),
                f"tee -q -o {quoted(statistics)} stat -json -top {unit.name} -liberty {liberty}",
            ])
            found = json.loads(statistics.read_text())["modules"]["\\" + unit.name]
        return self._read(unit, found, log)

    def _read(self, unit: Unit, found: dict, log: str) -> Mapped:
        kinds = {kind.removeprefix("\\"): count
                 for kind, count in found["num_cells_by_type"].items()}
        stray = [kind for kind in kinds if kind.startswith("$")]
        if stray:
            raise YosysError(f"{unit.name}: left unmapped by {self.library.name}: "
                             f"{', '.join(stray)}")
        area = self.library.nand2[1]
        delays = [float(value) for value in _DELAY.findall(log)]
        cells = sum(count for kind, count in kinds.items() if kind not in unit.boxes)
        return Mapped(unit.name, cells,
                      found.get("area", 0) / area, found.get("sequential_area", 0) / area,
                      max(delays, default=0) / 1000)
