"""Fine-tuning in numpy with every rounding of the accelerator: ``python -m sim.study``.

Trains adapters with one choice of the numerics after another and compares: the softmax's backward
pass, formats, gradient scaling, masters, rank. A run that was made before with the same programs is
not made again, so that the study may be stopped at any time and go on later. Exit code 2 for wrong
arguments and data that cannot be had.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from compiler.checkpoints.packages import ModelUnavailable
from gen.cli import Line, Parser, add_quiet
from sim.campaigns.study.cells import GROUPS, STUDY_TASKS, Cell, cells_of
from sim.campaigns.study.measure import Result, kept, measure
from sim.campaigns.study.report import completed, earlier, summaries, table

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.study", description=__doc__.split(":")[0] + ".")
    parser.add_argument("groups", nargs="*", metavar="GROUP",
                        help=f"some of {', '.join(GROUPS)} (all)")
    parser.add_argument("--task", action="append", metavar="TASK",
                        help=f"one of {', '.join(STUDY_TASKS)}, may be repeated (all)")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each choice (5)")
    parser.add_argument("--keep", action="store_true",
                        help="take results of earlier programs too")
    parser.add_argument("--report", action="store_true",
                        help="run nothing: tables of what there is")
    parser.add_argument("--earlier", type=Path, metavar="FILE",
                        help="take from what --output wrote before what has fewer runs, or none")
    add_quiet(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE",
                        help="write summaries there, as JSON")
    return parser


def _cells(options: argparse.Namespace) -> dict[tuple[str, str], list[Cell]]:
    """By group and task, seed by seed, so that a study that is stopped has even parts."""
    if options.seeds < 1:
        raise ValueError(f"seeds must be at least 1, not {options.seeds}")
    groups, tasks = options.groups or list(GROUPS), options.task or list(STUDY_TASKS)
    for name, chosen, allowed in (("group", groups, GROUPS), ("task", tasks, STUDY_TASKS)):
        for one in chosen:
            if one not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {one!r}")
    return {(group, task): [cell for seed in range(options.seeds)
                            for cell in cells_of(group, task, seed)]
            for group in groups for task in tasks}


class _Progress:
    """A line of results per run; what is done of all, at the pace of the task's runs so far."""

    def __init__(self, waiting: Sequence[Cell]) -> None:
        self.waiting = list(waiting)
        self.total = len(self.waiting)
        self.spent: dict[str, list[float]] = {}

    def done(self, cell: Cell, result: Result, seconds: float) -> float:
        """Print what ``cell`` gave; the share of the time that is spent."""
        self.waiting.remove(cell)
        self.spent.setdefault(cell.task, []).append(seconds)
        every = [one for many in self.spent.values() for one in many]
        left = 0.0
        for other in self.waiting:
            own = self.spent.get(other.task, every)
            left += sum(own) / len(own)
        ended = f", ended early: {result['failed']}" if result["failed"] else ""
        print(f"{self.total - len(self.waiting)} of {self.total}: {cell}: accuracy "
              f"{result['accuracy']:.4f}, last loss {result['last_loss']:.4f}, {seconds:.0f} s"
              f"{ended}", flush=True)
        return sum(every) / (sum(every) + left)


def _run(cells: Sequence[Cell], options: argparse.Namespace) -> dict[Cell, Result]:
    found = {cell: kept(cell, options.keep) for cell in cells}
    waiting = [cell for cell, result in found.items() if result is None]
    if options.report:
        return {cell: result for cell, result in found.items() if result is not None}
    print(f"{len(found)} runs, {len(found) - len(waiting)} of them made before", flush=True)
    progress = _Progress(waiting)
    with Line("runs", quiet=options.quiet) as line:
        for number, cell in enumerate(waiting, 1):
            started = time.monotonic()
            found[cell] = measure(cell)
            line.hide()
            share = progress.done(cell, found[cell], time.monotonic() - started)
            line.tell(share, f"{number} of {len(waiting)}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print tables; 0, or 2 for wrong arguments and data that cannot be had."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        parts = _cells(options)
        others = {} if options.earlier is None else earlier(options.earlier)
        found = _run(list(dict.fromkeys(cell for cells in parts.values() for cell in cells)),
                     options)
    except (ValueError, ModelUnavailable) as error:
        parser.error(str(error))
    written: list[dict[str, object]] = []
    made_by: set[str] = set()
    for (group, task), cells in parts.items():
        entries = completed(summaries([(cell, found[cell]) for cell in cells if cell in found]),
                            group, task, others)
        made_by |= {digest for entry in entries for digest in entry["sources"]}
        if entries:
            print(f"\n{group}, {table(entries)}")
            written.append({"group": group, "task": task, "entries": entries})
    if options.output is not None:
        record = {"sources": sorted(made_by), "parts": written}
        options.output.write_text(json.dumps(record, indent=1) + "\n")
    return 0
