"""``python -m synth.sweep``: builds over format, D, lanes, accumulator, clock and target.

Every combination that the configuration accepts is mapped (``asic``: gate-equivalents, memory bits,
the longest path with fan-out buffered) or written for an FPGA, with what ``--target fpga`` makes
usual, and placed and routed on an ECP5 85k (``synth.fpga``, minutes a build). Of each target the
builds that no other beats in area and products a second are marked. A page shows all, filtered and
sorted, with the plot: one file that opens by itself.

Results are kept by content: a sweep that was stopped goes on, and one that is made again takes
seconds. Builds share all cores, or with ``--scheduler`` the workers of several machines.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from gen.cli import (
    PERIOD_NS,
    Parser,
    add_config_flags,
    add_jobs,
    add_names,
    add_product,
    add_quiet,
    add_scheduler,
    counted,
    deliver,
    integer,
    piped,
    prepared,
    real,
)
from hdl.spec.config import ACCUMULATORS
from hdl.spec.formats import FORMATS
from hdl.spec.surroundings import TARGETS
from sim.inference.datasets import SetError
from synth.area import FORMATS as USUAL
from synth.fpga import PlacingError, nextpnr_command
from synth.library import LibraryMissing, add_library, library_named
from synth.lint import ToolMissing
from synth.sweep_cells import AREA_ALONE, Cell, Result, cells, frontier, measured
from synth.yosys import YosysError

__all__ = ["main", "page"]

_FILTERS = ("target", "fmt", "dim", "lanes", "acc", "asked", "meets", "best")
_COLUMNS = (("target", "target"), ("fmt", "format"), ("acc", "accumulator"), ("dim", "D"),
            ("lanes", "L"), ("asked", "ns asked for"), ("ns", "longest path, ns"),
            ("meets", "meets"), ("gmacs", "10⁹ products a second"), ("area", "area"),
            ("gates", "gates"), ("pes", "PEs"), ("lanes_gates", "lanes"),
            ("memory_bits", "memory bits"), ("luts", "LUTs"), ("registers", "registers"),
            ("block_rams", "block RAMs"), ("multipliers", "DSPs"), ("slowest", "slowest"))
_TEXTS = ("target", "fmt", "acc", "slowest")


def _rows(results: Mapping[Cell, Result]) -> list[dict]:
    """What the page and the file have of each build, the smallest first."""
    best = frontier(results)
    rows = [{"target": cell.target, "fmt": cell.fmt, "acc": cell.acc, "softmax": cell.softmax,
             "dim": cell.dim, "lanes": cell.lanes,
             "asked": cell.period_ns if cell.period_ns != AREA_ALONE else "none",
             "best": cell in best, **result} for cell, result in results.items()]
    return sorted(rows, key=lambda row: (row["target"], row["area"]))


def page(rows: Sequence[dict], about: str) -> str:
    """The page as one file."""
    every = {name for row in rows for name in row}
    data = {"about": about, "filters": _FILTERS, "rows": rows, "columns": [
        {"name": name, "title": title, "text": name in _TEXTS}
        for name, title in _COLUMNS if name in every]}
    text = Path(__file__).with_name("sweep.html").read_text(encoding="utf-8")
    # No text may end the element that holds the data.
    return text.replace("/*DATA*/", json.dumps(data).replace("<", "\\u003c"))


def _lines(rows: Sequence[dict]) -> list[str]:
    lines = [f"{'':2}{'target':7}{'format':10}{'acc':7}{'D':>4}{'L':>4}{'asked':>7}{'ns':>7}"
             f"{'10⁹/s':>8}{'area':>11}{'memory bits':>13}  slowest"]
    for row in rows:
        asked = row["asked"] if isinstance(row["asked"], str) else f"{row['asked']:g}"
        bits = f"{row['memory_bits']:,}" if "memory_bits" in row else ""
        lines.append(f"{'* ' if row['best'] else '  '}{row['target']:7}{row['fmt']:10}"
                     f"{row['acc']:7}{row['dim']:4}{row['lanes']:4}{asked:>7}{row['ns']:7.1f}"
                     f"{row['gmacs']:8.2f}{row['area']:11,.0f}{bits:>13}  {row['slowest']}")
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="synth.sweep", description=__doc__.splitlines()[0])
    add_names(parser, "--fmt", list(FORMATS), USUAL, "formats")
    parser.add_argument("--dim", type=integer(1), nargs="+", default=[4, 8], metavar="N",
                        help="D, rows and columns of the array (4 8)")
    parser.add_argument("--lanes", type=integer(1), nargs="+", default=[None], metavar="N",
                        help="L (the configuration's own)")
    add_names(parser, "--acc", ACCUMULATORS, [], "accumulators")
    parser.add_argument("--period-ns", type=real(1), nargs="+", default=[AREA_ALONE], metavar="NS",
                        help="clock periods that are aimed at (none: for area; on an "
                             f"FPGA {PERIOD_NS:g})")
    add_names(parser, "--target", TARGETS, TARGETS[:1], "where to")
    add_library(parser)
    add_config_flags(parser, output=False, only=("softmax", "functions"), functions="softmax")
    parser.add_argument("--fresh", action="store_true", help="measure all anew")
    add_jobs(parser, "builds at once")
    add_scheduler(parser, "the builds")
    add_quiet(parser)
    add_product(parser, "sweep.html", "the page; beside it the same as .json")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """0; 1 where a build cannot be mapped or placed, 2 for wrong arguments."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    output = Path(arguments.output)
    record = output.with_suffix(".json")
    if record == output:
        parser.error(f"output must not end in .json, which is the record's, not {str(output)!r}")
    prepared(parser, str(output))
    started = time.monotonic()
    try:
        library = library_named(arguments.library, arguments.liberty)
        work, refused = cells(arguments.fmt, arguments.dim, arguments.lanes,
                              arguments.acc or [None], arguments.period_ns, arguments.target,
                              arguments.softmax, arguments.functions,
                              library.name if arguments.liberty is None
                              else str(library.path.resolve()))
        if "fpga" in arguments.target:
            nextpnr_command()
        results = dict(counted("builds", measured(work, arguments.jobs, arguments.scheduler,
                                                  arguments.fresh), len(work),
                               quiet=arguments.quiet))
    except (ValueError, SetError, LibraryMissing, ToolMissing) as error:
        parser.error(str(error))
    except (PlacingError, YosysError) as error:
        print(f"synth.sweep: error: {error}", file=sys.stderr)
        return 1
    rows = _rows({cell: results[cell] for cell in work})
    about = (f"{len(rows)} builds, functions {arguments.functions}, library {library.name}; "
             "area in gate-equivalents with memories, of an FPGA LUTs; ns with a register's own")
    text = [about, *([f"{refused} combinations that the configuration refuses"] * bool(refused)),
            "", *_lines(rows), "", "*: no other of its target beats it in area and products a "
            f"second; page in {output}", f"{time.monotonic() - started:.0f} s"]
    return deliver(parser, None, lambda: "\n".join(text) + "\n", beside={
        str(output): lambda: page(rows, about),
        str(record): lambda: json.dumps(rows, indent=1) + "\n"})


if __name__ == "__main__":
    sys.exit(piped(main))
