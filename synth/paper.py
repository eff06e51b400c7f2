"""``python -m synth.paper``: the paper's figures beside ours, and a verdict for each claim.

MAC without codecs, encoder and decoder (figure 12), exponential and reciprocal units, the vector
unit with 8, 16 and 32 lanes (table 8) and the accelerator (figure 13), at three clocks that stand
for its 5, 200 and 400 MHz (``synth.paper_areas``). Areas in gate-equivalents; a memory bit counts
as an assumed share of one. Powers are those of ``synth.power``, without memories.

Two pairings, never mixed: as published, posit8 with bit tricks and the others with tables; fair,
each with its smallest lane. A saving is reproduced where ours is as large or at most five points
smaller, the ratio of 1.06 where ours is within three points. The same goes to ``build/paper.json``.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from gen.cli import Parser, add_names, add_product, add_quiet, deliver, integer, piped, prepared
from hdl.spec.config import AcceleratorConfig
from synth import published
from synth.area import FORMATS, PAIRINGS
from synth.claims import Judged, judged
from synth.flow import REGISTER, Flow
from synth.liberty import liberty
from synth.library import add_library, library_named
from synth.paper_areas import FO4_40, Areas, Unit, fo4, periods
from synth.paper_draw import drawings
from synth.power import (
    FAILURES,
    FAIR,
    PUBLISHED,
    TITLES,
    Powers,
    add_layer,
    failed,
    layer_from,
    powers,
)
from synth.published import CLOCKS
from synth.sta import sta_command
from synth.units import BIT

__all__ = ["MACS", "main", "measured"]

MACS = ("posit8", "fp8", "e4m3", "e5m2", "bf16", "int8")


def _modes() -> list[tuple[str, str]]:
    """Every format with each of its softmax modes."""
    return list(dict.fromkeys((fmt, PAIRINGS[pairing][fmt]) for pairing in TITLES
                              for fmt in FORMATS))


def _small() -> list[Unit]:
    return [*(Unit("mac", fmt) for fmt in MACS),
            *(Unit(block, fmt) for block in ("decoder", "encoder") for fmt in FORMATS),
            *(Unit(block, *mode) for block in ("exp", "reciprocal") for mode in _modes())]


def _large() -> list[Unit]:
    return [*(Unit("pe", fmt) for fmt in FORMATS), *(Unit("lane", *mode) for mode in _modes())]


def measured(flow: Flow, dims: Sequence[int], wholes: Sequence[str]) -> Areas:
    """All areas that the tables need; ``wholes``: the clocks of PEs and lanes."""
    clocks = periods(liberty(flow.library))
    flows = {clock: flow if clock == "relaxed" else Flow(
        flow.library, "timed", flow.quiet, clocks[clock] - REGISTER) for clock in CLOCKS}
    areas = Areas(flows, clocks)
    areas.measure_leaves(_small())
    areas.measure_leaves(_large(), wholes)
    areas.measure_wholes(_modes(), dims)
    return areas


def _powers(flow: Flow, arguments: argparse.Namespace) -> Powers:
    return powers(flow, {pairing: {fmt: AcceleratorConfig(
        fmt=fmt, dim=16, lanes=16, softmax=PAIRINGS[pairing][fmt], functions="softmax")
        for fmt in FORMATS} for pairing in TITLES}, layer_from(arguments), arguments.head)


def _leaf_cells(areas: Areas, unit: Unit) -> str:
    cells = ""
    for clock in CLOCKS:
        leaf = areas.leaves[unit, clock]
        late = f"/{leaf.latency}" if leaf.latency > 1 else ""
        note = late if leaf.meets else f"{late}!"
        cells += f"{leaf.gates:9,.0f}{leaf.delay:7.1f}{note:3}"
    return cells


def _leaf_lines(areas: Areas) -> list[str]:
    head = "".join(f"{clock:>9}{'ns':>7}{'':3}" for clock in CLOCKS)
    lines = [f"{'':34}{head}{'paper, 10³ µm²':>24}"]

    def add(label: str, unit: Unit, said: Sequence[float] | None) -> None:
        cells = "".join(f"{value:8.3f}" for value in said) if said else ""
        lines.append(f"{label:34}{_leaf_cells(areas, unit)}{cells}".rstrip())

    for fmt in MACS:
        add(f"MAC {fmt}", Unit("mac", fmt), published.MAC[fmt])
    for fmt in FORMATS:
        for block in ("encoder", "decoder"):
            add(f"{block} {fmt}", Unit(block, fmt), published.MAC.get(f"{fmt} {block}"))
    for block, said in (("exp", published.EXP), ("reciprocal", published.RECIPROCAL)):
        tricks, tables = said.values()
        for fmt, mode, values in (("posit8", PAIRINGS[PUBLISHED]["posit8"], tricks),
                                  ("fp8", "pwl", tables), ("bf16", "pwl", None),
                                  ("bf16", PAIRINGS[FAIR]["bf16"], None)):
            add(f"{block} {fmt} {mode}", Unit(block, fmt, mode), values)
    return [*lines, "", "/2, /3, /4: latency that it takes; !: its longest path does not fit the "
            "period. fp8's exp and", "reciprocal work on BF16 words, as posit8's do: they stand "
            "beside the paper's BF16 units."]


def _whole_lines(areas: Areas, dims: Sequence[int], clocks: Sequence[str]) -> list[str]:
    lines = [f"{'':42}" + "".join(f"{clock:>11}" for clock in clocks) + f"{'memory bits':>14}"]
    for what in ("vector unit", "accelerator"):
        for dim in dims:
            for fmt, mode in _modes():
                gates = [areas.vector(fmt, mode, dim, clock) if what == "vector unit"
                         else sum(areas.rows(fmt, mode, dim, clock).values()) for clock in clocks]
                bits = areas.wholes[fmt, mode, dim].memory_bits
                lines.append(f"{what} {dim:2} {fmt} {mode}".ljust(42)[:42]
                             + "".join(f"{one:11,.0f}" for one in gates)
                             + (f"{bits:14,}" if what == "accelerator" else ""))
    return lines


def _claim_lines(found: Sequence[Judged]) -> list[str]:
    lines = [f"{'':46}{'paper':>7}{'as published':>14}{'fair':>7}  verdict"]
    for one in found:
        lines.append(f"{one.claim.says:46}{one.claim.value:7.2f}{one.found[PUBLISHED]:14.2f}"
                     f"{one.found[FAIR]:7.2f}  {one.verdict}")
        for pairing, title in TITLES.items():
            parts = ", ".join(f"{name} {100 * part:+.1f}"
                              for name, part in one.parts[pairing].items())
            lines.append(f"    {title}: {parts}")
        if one.also:
            lines.append("    " + ", ".join(f"{name}: {value:.2f}"
                                            for name, value in one.also.items()))
    return lines


def _text(flow: Flow, areas: Areas, found: Sequence[Judged], dims: Sequence[int],
          wholes: Sequence[str]) -> list[str]:
    clocks = ", ".join(f"{name} {period:g} ns" for name, period in areas.periods.items())
    return [f"The paper's figures beside ours; gate-equivalents; {', '.join(map(str, dims))} "
            "for D = L", *flow.describe(),
            f"clocks: {clocks}; FO4 {1000 * fo4(liberty(flow.library)):.0f} ps here, "
            f"{1000 * FO4_40:.0f} ps assumed in 40 nm; {REGISTER} ns of each for registers",
            "", *_leaf_lines(areas), "", *_whole_lines(areas, dims, wholes), "",
            f"claims: ratios at the {_judging(wholes)} clock, a memory bit {BIT} gate-equivalents; "
            "then what each part adds, in points", *_claim_lines(found)]


def _judging(wholes: Sequence[str]) -> str:
    """The clock of the claims: the nominal one where wholes have it."""
    return "nominal" if "nominal" in wholes else wholes[0]


def _record(areas: Areas, found: Sequence[Judged]) -> str:
    leaves = [{**asdict(unit), "clock": clock, **asdict(leaf)}
              for (unit, clock), leaf in areas.leaves.items()]
    wholes = [{"fmt": fmt, "softmax": softmax, "dim": dim, "gates": dict(one.gates),
               "memory_bits": one.memory_bits}
              for (fmt, softmax, dim), one in areas.wholes.items()]
    return json.dumps({"periods": dict(areas.periods), "leaves": leaves, "wholes": wholes,
                       "claims": [{**asdict(one), "verdict": one.verdict} for one in found]},
                      indent=1) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="synth.paper", description=__doc__.splitlines()[0])
    add_library(parser, "osu018")
    parser.add_argument("--dims", type=integer(4), nargs="+", default=list(published.LANES),
                        metavar="N", help="D = L of accelerators and vector units (8 16 32)")
    add_names(parser, "--wholes", CLOCKS, CLOCKS[:1], "clocks of PEs, lanes and what holds them")
    parser.add_argument("--svg", metavar="FOLDER", help="also draw the figures there")
    add_layer(parser)
    add_quiet(parser)
    add_product(parser, "paper.json", "every figure, as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 where gates give another word than the model, 2 for wrong arguments."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    prepared(parser, arguments.output)
    folder = None if arguments.svg is None else Path(arguments.svg)
    if folder is not None:
        prepared(parser, str(folder / "area-mac.svg"))
    try:
        sta_command()
        flow = Flow(library_named(arguments.library, arguments.liberty), quiet=arguments.quiet)
        dims = list(dict.fromkeys(arguments.dims))
        for dim in dims:
            AcceleratorConfig(dim=dim, lanes=dim)
        wholes = [clock for clock in CLOCKS if clock in arguments.wholes]
        spent = _powers(flow, arguments)
        areas = measured(flow, dims, wholes)
        found = judged(areas, spent, dims, _judging(wholes))
    except FAILURES as error:
        return failed(parser, error)
    beside: dict[str, Callable[[], str]] = {arguments.output: lambda: _record(areas, found)}
    if folder is not None:
        beside |= {str(folder / f"area-{name}.svg"): partial(str, drawing)
                   for name, drawing in drawings(areas, dims, _judging(wholes)).items()}
    return deliver(parser, None, lambda: "\n".join(_text(flow, areas, found, dims, wholes)) + "\n",
                   beside=beside)


if __name__ == "__main__":
    sys.exit(piped(main))
