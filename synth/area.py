"""``python -m synth.area`` (``make area``): gate-equivalents of posit8, fp8 and bf16.

Every block is generated, mapped by one flow (``synth.flow``) and printed, gate-equivalents, cells
and ns, with the flow above it:
first the leaves, then the accumulators of the first 8-bit format side by side, the functions
that no softmax needs, then what the softmax mode changes, once for each comparison. The
paper's pairing gives posit bit tricks and fp8 and bf16 tables; the even ones give all the same.
bf16 takes its fp32 accumulator, int8 (``--fmt``) its int32, the others bf16. Lanes and what holds
them are those of ``--functions``, exp and 1/x alone by default. The figure of merit is
D²·PE + 2D·decoder + D·encoder + L·lane. The same goes to ``build/area.json`` with every unit's own
area and its instances, whose sum is the row.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import monotonic

from gen.block import design_block
from gen.cli import (
    Parser,
    add_config_flags,
    add_names,
    add_product,
    add_quiet,
    deliver,
    make_folder,
    piped,
)
from gen.design import Design
from gen.top import design
from hdl.spec.activations import ACTIVATIONS as TABLES
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import format_named
from synth.accumulators import accumulator_table
from synth.flow import Flow, Report
from synth.library import LibraryMissing, add_library, library_named
from synth.tables import render
from synth.yosys import YosysError, yosys_version

__all__ = ["FORMATS", "LEAVES", "PAIRINGS", "Areas", "figure_of_merit", "main"]

FORMATS = ("posit8", "fp8", "bf16")  # of the tables that pages quote
_KNOWN = (*FORMATS, "int8")
LEAVES = ("decoder", "encoder", "multiplier", "mac", "pe")
FUNCTIONS = ("exp", "reciprocal")
ACTIVATIONS = (*(function.name.lower() for function in TABLES), "activation", "inverse_sqrt")
WHOLES = ("array", "vector", "accelerator")
ACCUMULATORS = "accumulators"  # not a block: the table of synth.accumulators
PAIRINGS: dict[str, dict[str, str]] = {
    "the paper's pairing": dict.fromkeys(_KNOWN, "pwl") | {"posit8": "approx_shifted"},
    "tables for all": dict.fromkeys(_KNOWN, "pwl"),
    "bit tricks for all": dict.fromkeys(_KNOWN, "approx_shifted"),
    "linear for all": dict.fromkeys(_KNOWN, "linear"),
}
BLOCKS = (*LEAVES, ACCUMULATORS, *ACTIVATIONS, *FUNCTIONS, "lane", *WHOLES)

Key = tuple[str, str, str]


def key_of(block: str, fmt: str, softmax: str) -> Key:
    """The measurement that serves: the softmax mode changes only what holds exp or 1/x."""
    same = block in (*LEAVES, *ACTIVATIONS, "array")
    return block, fmt, "pwl" if same else softmax


class Areas:
    """Measures blocks, each ``key_of`` (block, format, softmax) once, and holds the reports."""

    def __init__(self, flow: Flow, dim: int, lanes: int | None, functions: str = "softmax"
                 ) -> None:
        self.flow = flow
        self.dim = dim
        self.lanes = lanes
        self.functions = functions
        self.reports: dict[Key, Report] = {}

    def config(self, fmt: str, softmax: str) -> AcceleratorConfig:
        if self.functions == "linear":  # no mode of softmax makes a difference
            softmax = "pwl"
        return AcceleratorConfig(fmt=fmt, dim=self.dim, softmax=softmax,
                                 lanes=self.lanes,  # type: ignore[arg-type]  # None: the default
                                 functions=self.functions)

    def report(self, block: str, fmt: str, softmax: str) -> Report:
        """What has been measured."""
        return self.reports[key_of(block, fmt, softmax)]

    def design(self, key: Key) -> Design:
        """What is mapped of a block."""
        block, fmt, softmax = key
        config = self.config(fmt, softmax)
        return design(config) if block == "accelerator" else design_block(block, config)

    def measure(self, keys: Sequence[Key]) -> None:
        """Map what is not mapped yet."""
        missing = [key for key in dict.fromkeys(keys) if key not in self.reports]
        done = self.flow.measure_all([self.design(key) for key in missing])
        self.reports.update(zip(missing, done, strict=True))


def figure_of_merit(areas: Areas, fmt: str, softmax: str) -> float:
    """D²·PE + 2D·decoder + D·encoder + L·lane in gate-equivalents, of measured blocks."""
    config = areas.config(fmt, softmax)

    def gates(block: str) -> float:
        return areas.report(block, fmt, softmax).gates

    return (config.dim ** 2 * gates("pe") + 2 * config.dim * gates("decoder")
            + config.dim * gates("encoder") + config.lanes * gates("lane"))


def _keys(blocks: Sequence[str], formats: Sequence[str]) -> list[Key]:
    """What the tables of ``blocks`` need."""
    modes = {mode for pairing in PAIRINGS.values() for mode in pairing.values()}
    return [key_of(block, fmt, mode)
            for block in blocks for fmt in formats for mode in sorted(modes)]


def _row(areas: Areas, block: str, formats: Sequence[str], mode: dict[str, str]) -> dict:
    reports = {fmt: areas.report(block, fmt, mode[fmt]) for fmt in formats}
    # The flow buffers no fan-out: one net to a thousand registers would pass for a slow path.
    timed = {} if block in ("vector", "accelerator") else reports
    return {"block": block, "gates": {fmt: report.gates for fmt, report in reports.items()},
            "cells": {fmt: report.cells for fmt, report in reports.items()},
            "delay": {fmt: report.delay for fmt, report in timed.items()}}


def tables(areas: Areas, blocks: Sequence[str], formats: Sequence[str]) -> list[dict]:
    """Tables of measured blocks: a title and rows of block, gates, cells, delay."""
    made: list[dict] = []
    for title, group in (("leaves", LEAVES), ("functions that no softmax needs", ACTIVATIONS)):
        mode = PAIRINGS["tables for all"]  # these do not depend on the softmax mode
        rows = [_row(areas, block, formats, mode) for block in blocks if block in group]
        if rows:
            made.append({"title": title, "rows": rows})
    rest = [block for block in blocks if block not in (*LEAVES, *ACTIVATIONS)]
    for title, mode in PAIRINGS.items():
        rows = [_row(areas, block, formats, mode) for block in rest]
        if {"pe", "decoder", "encoder", "lane"} <= set(blocks):
            rows.append({"block": "D²·PE+2D·dec+D·enc+L·lane", "cells": {}, "delay": {}, "gates": {
                fmt: figure_of_merit(areas, fmt, mode[fmt]) for fmt in formats}})
        if "accelerator" in blocks:
            rows.append({"block": "memory bits", "cells": {}, "delay": {}, "gates": {
                fmt: areas.report("accelerator", fmt, mode[fmt]).memory_bits
                for fmt in formats}})
        if rows:
            names = ", ".join(f"{fmt} {mode[fmt]}" for fmt in formats)
            made.append({"title": f"{title}: {names}", "rows": rows})
    return made


def _record(key: Key, report: Report) -> dict:
    block, fmt, softmax = key
    return {"block": block, "fmt": fmt, "softmax": softmax, "gates": report.gates,
            "register_gates": report.register_gates, "cells": report.cells,
            "delay": report.delay, "memory_bits": report.memory_bits,
            "units": [{**asdict(unit), "instances": report.counts[name]}
                      for name, unit in report.units.items()]}


def _result(flow: Flow, made: list[dict], config: AcceleratorConfig, records: list[dict]) -> str:
    """What goes to the output file."""
    name, area = flow.library.nand2
    return json.dumps({
        "yosys": yosys_version(), "library": flow.library.name, "nand2": {"cell": name,
        "area": area}, "script": flow.describe()[1:], "dim": config.dim, "lanes": config.lanes,
        "functions": config.functions,
        "tables": made, "blocks": records}, indent=1)


def _parser() -> Parser:
    parser = Parser(prog="synth.area", description=__doc__.splitlines()[0])
    add_library(parser)
    parser.add_argument("--script", default="quick", metavar="NAME",
                        help="of ABC: quick, best (quick)")
    add_names(parser, "--fmt", _KNOWN, FORMATS, "formats side by side")
    add_config_flags(parser, output=False, only=("dim", "lanes", "functions"), dim=16,
                     functions="softmax")
    add_names(parser, "--block", BLOCKS, None, "these blocks only")
    parser.add_argument("--blocks", action="store_true",
                        help="all but accumulators, array, vector, accelerator")
    add_quiet(parser)
    add_product(parser, "area.json", "every unit's area, as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    start = monotonic()
    parser = _parser()
    arguments = parser.parse_args(argv)
    chosen = arguments.block or [
        block for block in BLOCKS
        if not (arguments.blocks and block in (ACCUMULATORS, *WHOLES))]
    blocks = [block for block in chosen if block != ACCUMULATORS]
    eight_bit = [fmt for fmt in arguments.fmt if format_named(fmt).storage_bits == 8]
    made: list[dict] = []

    def measured() -> str:
        areas.measure(_keys(blocks, arguments.fmt))
        made.extend(tables(areas, blocks, arguments.fmt))
        records = [_record(*item) for item in areas.reports.items()]
        if ACCUMULATORS in chosen and eight_bit:
            table, reports = accumulator_table(flow, eight_bit[0], config.dim, config.lanes)
            made.insert(int("leaves" in [one["title"] for one in made]), table)
            records += [_record((block, eight_bit[0], "pwl"), report) | {"acc": acc}
                        for (block, acc), report in reports.items()]
        return _result(flow, made, config, records)

    try:
        flow = Flow(library_named(arguments.library, arguments.liberty), arguments.script,
                    arguments.quiet)
        areas = Areas(flow, arguments.dim, arguments.lanes, arguments.functions)
        config = areas.config(arguments.fmt[0], "pwl")
        make_folder(parser, Path(arguments.output).absolute().parent)
        deliver(parser, arguments.output, measured)
    except (ValueError, LibraryMissing, YosysError) as error:
        parser.error(str(error))
    text = [f"Gate-equivalents, cells and ns; D = {config.dim}, L = {config.lanes}, functions "
            f"{config.functions}",
            *flow.describe(), render(made, arguments.fmt), "",
            "ns: longest path within a block, no fan-out buffered; therefore not given for whole "
            "units.",
            f"{len(areas.reports)} blocks by format, {monotonic() - start:.0f} s; "
            f"all units in {arguments.output}"]
    return deliver(parser, None, lambda: "\n".join(text) + "\n")


if __name__ == "__main__":
    sys.exit(piped(main))
