"""Accuracy of real models: ``python -m sim.accuracy``.

Runs models from PyPI on labelled data with every rounding of a build, build after build, and prints
a table for each question. What was computed before by the same programs is read, not computed, so
that a run may be stopped at any time and go on later. ``--check`` compares with the figures that
are kept in docs/accuracy.json and ends with 1 where one differs. Exit code 2 for wrong arguments
and data that cannot be had.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from threadpoolctl import threadpool_limits

from compiler.checkpoints.packages import ModelUnavailable
from gen.cli import Line, Parser, add_jobs, add_quiet, add_scheduler, appearing, writable
from gen.cli.folders import checkout
from sim.campaigns.accuracy.cells import TABLES, Cell
from sim.campaigns.accuracy.draw import drawings
from sim.campaigns.accuracy.figures import Entry, cell_of, entry_of
from sim.campaigns.accuracy.measure import examples_of, measured
from sim.campaigns.accuracy.ranges import range_lines
from sim.campaigns.accuracy.report import lines
from sim.campaigns.accuracy.sums import SUMS, sum_lines, sums
from sim.campaigns.accuracy.tasks import TASKS

__all__ = ["main"]

Record = dict[str, list[Entry]]
_NAMES = (*TABLES, SUMS)
_OF_SUMS = "what accumulators lose over K, root mean square errors in % of the sums"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.accuracy", description=__doc__.split(":")[0] + ".")
    parser.add_argument("tables", nargs="*", metavar="TABLE",
                        help=f"some of {', '.join(_NAMES)} (all; with --check all that are "
                        "kept)")
    parser.add_argument("--fresh", action="store_true", help="compute all anew")
    parser.add_argument("--report", action="store_true",
                        help="run nothing: tables of the figures that are kept")
    parser.add_argument("--check", action="store_true",
                        help="compare with the figures that are kept, to the last digit")
    parser.add_argument("--write", action="store_true",
                        help="keep the figures, and drawings of them; with --report the "
                        "drawings alone")
    parser.add_argument("--figures", type=Path, metavar="FILE",
                        help="where figures are kept (docs/accuracy.json of the checkout)")
    add_jobs(parser, "processes")
    add_scheduler(parser, "the work")
    add_quiet(parser)
    return parser


def _read(path: Path) -> Record:
    """``ValueError`` for what holds no figures."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for name, entries in found.items():
            for entry in entries:
                if name != SUMS:
                    cell_of(entry)
        return found
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"figures must be a file of them, as --write makes it, not "
                         f"{str(path)!r}: {error}") from error


def _entries(cells: Sequence[Cell], chosen: argparse.Namespace) -> dict[Cell, Entry]:
    """Of ``cells`` and what they are compared with."""
    every = list(dict.fromkeys(one for cell in cells for one in (cell.plain, cell)))
    rows, found = {}, {}
    with Line("cells", quiet=chosen.quiet) as line:
        for cell, own in measured(every, chosen.jobs, chosen.scheduler, fresh=chosen.fresh,
                                  tell=line.tell):
            rows[cell] = own
            for one in every:  # those that waited for this one
                if one not in found and one in rows and one.plain in rows:
                    found[one] = entry_of(one, examples_of(one), rows[one], rows[one.plain])
    return found


def _differences(name: str, found: Sequence[Entry], kept: Sequence[Entry]) -> Iterator[str]:
    """A line for each cell whose figures are not those that are kept."""
    if name == SUMS:
        if found != kept:
            yield f"{name}: {found}, kept: {kept}"
        return
    by_cell = {cell_of(entry): entry for entry in kept}
    for entry in found:
        other = by_cell.pop(cell_of(entry), None)
        if entry != other:
            yield f"{name}: {cell_of(entry)}: {entry}, kept: {other}"
    for cell in by_cell:
        yield f"{name}: {cell}: kept, but not in the table"


def _run(chosen: argparse.Namespace, names: Sequence[str], path: Path | None) -> int:
    cells = {name: list(TABLES[name].cells()) for name in names if name != SUMS}
    started = time.monotonic()
    found = _entries([cell for own in cells.values() for cell in own], chosen)
    made: Record = {name: [found[cell] for cell in own] for name, own in cells.items()}
    if SUMS in names:
        made[SUMS] = sums()
    _print(made)
    examples = sum(entry["n"] for entry in found.values())
    print(f"{len(found)} cells, {examples} examples in {time.monotonic() - started:.0f} s")
    if chosen.write and path is not None:
        kept = (_read(path) if path.exists() else {}) | made
        with appearing(path.resolve()) as file:
            file.write_text(json.dumps({name: kept[name] for name in _NAMES if name in kept},
                                       indent=1) + "\n", encoding="utf-8")
        _draw(kept, path)
    if not chosen.check or path is None:
        return 0
    kept = _read(path)
    told = [line for name in names for line in _differences(name, made[name], kept.get(name, []))]
    print("\n".join([*told, f"figures compared: {len(found)} cells, {len(told)} differ"]))
    return int(bool(told))


def _draw(record: Record, path: Path) -> None:
    """Beside the figures, a drawing of each table that is drawn."""
    for name, drawing in drawings(record, _titles()).items():
        with appearing(path.resolve().with_name(f"{path.stem}-{name}.svg")) as file:
            file.write_text(drawing, encoding="utf-8")


def _titles() -> dict[str, str]:
    return {name: title for name, (title, _) in TASKS.items()}


def _print(record: Record) -> None:
    for name, entries in record.items():
        if name == SUMS:
            print("\n".join([f"table {name}: {_OF_SUMS}", "", *sum_lines(entries), ""]))
            continue
        table = TABLES[name]
        print("\n".join([f"table {name}: {table.asks}", "", *lines(table, _titles(), entries), ""]))


def main(arguments: Sequence[str] | None = None) -> int:
    """0; 1 where ``--check`` finds a difference; 2 for wrong arguments and data."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    root = checkout()
    path = chosen.figures or (None if root is None else root / "docs" / "accuracy.json")
    if path is None and (chosen.report or chosen.check or chosen.write):
        parser.error("figures must be named by --figures where there is no checkout")
    if chosen.write and path is not None:
        writable(parser, path, "figures")
    try:
        for name in chosen.tables:
            if name not in _NAMES:
                raise ValueError(f"table must be one of {', '.join(_NAMES)}, not {name!r}")
        usual = _read(path) if chosen.check and path is not None else _NAMES
        names = [name for name in _NAMES if name in (chosen.tables or usual)]
        if chosen.report and path is not None:
            kept = _read(path)
            _print({name: kept[name] for name in names if name in kept})
            print("\n".join(["table ranges: what each format can say", "", *range_lines()]))
            if chosen.write:
                _draw(kept, path)
            return 0
        with threadpool_limits(1, "blas"):  # as many processes as cores: no threads besides
            return _run(chosen, names, path)
    except (ValueError, ModelUnavailable) as error:
        parser.error(str(error))
