"""Every format × accumulator × softmax mode on RTL: ``python -m sim.matrix``, ``make matrix``.

Each cell is a build of its own, generated, Verilated and given one attention head of the demo
through its AXI ports; every byte of every result is compared with the machine model, and no byte
outside may have been written. With ``--functions training`` it is given one training step of a
small model too, every byte of its memory compared after every program; with ``--functions linear``
of fixed lanes it is given ``digits-integer`` in place of the head. Cells that
``AcceleratorConfig`` refuses are listed with its reason. The results go to build/matrix.json and,
after a run of all cells without a mismatch, to docs/support.md of the checkout, or
docs/support-training.md. Exit code 1 when a cell fails, 2 for a wrong argument.
"""

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from compiler.checkpoints import minilm, small
from compiler.checkpoints.heads import AttentionHeads
from compiler.checkpoints.packages import ModelUnavailable
from compiler.lowering.heads import lower
from gen.cli import (
    Parser,
    add_config_flags,
    add_jobs,
    add_names,
    add_product,
    add_quiet,
    add_seed,
    counted,
    deliver,
    integer,
    prepared,
    writable,
)
from gen.cli.folders import build_folder, checkout
from hdl.spec.config import ACCUMULATORS, SOFTMAX_MODES, AcceleratorConfig
from hdl.spec.formats import FORMATS
from sim.campaigns.cells import Cell, cells, refusals, sample
from sim.campaigns.integer_program import MODEL, integer_program
from sim.campaigns.training_step import train_small
from sim.verify.compare import compare
from sim.verify.runner import RunError, on_rtl
from sim.verify.starts import built, rtl_start

__all__ = ["CellResult", "main", "page_file", "run_cell", "support_page"]

TOKENS = 32
_PAGES = ("all", "training")  # functions of the builds that docs/ has a page of


@dataclass(frozen=True)
class CellResult:
    """What a cell's run gave: ``error`` (one line) where it could not be compared. ``step_bytes``,
    ``step_cycles``: of a training step, where there was one."""

    cell: Cell
    layer: str
    compared: int = 0
    mismatches: int = 0
    cycles: int = 0
    seconds: float = 0.0
    error: str | None = None
    step_bytes: int = 0
    step_cycles: int = 0

    @property
    def passed(self) -> bool:
        return self.error is None and self.compared > 0 and not self.mismatches


@cache
def _layer(tokens: int, real: bool) -> AttentionHeads:
    return minilm.load(tokens, offline=True) if real else small.load(tokens)


def run_cell(cell: Cell, dim: int, tokens: int, real: bool, seed: int = 0,
             functions: str = "all") -> CellResult:
    """Build the cell and run head 0 on it; ``real``: of MiniLM-L6, else of the small layer."""
    started = time.monotonic()
    config = cell.config(dim, functions)
    layer = _layer(tokens, real)
    name = MODEL if config.fixed else layer.name
    program = integer_program(config, seed) if config.fixed else lower(
        config, layer, [0], seed=seed)
    step = None
    try:
        run = on_rtl(program.image, config, seed=seed)
        if config.trains:
            step = train_small(config, rtl_start(built(config)), seed)
    except RunError as error:
        return CellResult(cell, name, error=str(error), seconds=time.monotonic() - started)
    found = compare(program, run)
    result = CellResult(cell, name, found.total, found.mismatches, run.cycles,
                        time.monotonic() - started)
    return result if step is None else replace(
        result, step_bytes=step.bytes, step_cycles=step.cycles)


def _run(work: Sequence[Cell], options: argparse.Namespace, real: bool) -> list[CellResult]:
    """Outcomes in the order of ``work``, printed as they come."""
    results = []
    # Workers are spawned: a forked one would share the compilers' locks with this process.
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        pending = [pool.submit(run_cell, cell, options.dim, options.tokens, real, options.seed,
                               options.functions) for cell in work]
        for future in counted("cells", pending, len(pending), quiet=options.quiet):
            result = future.result()
            results.append(result)
            told = result.error or (f"{result.compared:6} bytes, {result.mismatches} differ, "
                                     f"{result.cycles:7} cycles")
            if result.step_bytes:
                told += f"; a step {result.step_bytes} bytes, {result.step_cycles} cycles"
            print(f"{'passed' if result.passed else 'FAILED'}  {result.cell!s:32}  {told}, "
                  f"{result.seconds:5.1f} s", flush=True)
    return results


def _entry(result: CellResult) -> str:
    if not result.passed:
        return "**failed**"
    pairs = [(result.compared, result.cycles)]
    if result.step_bytes:
        pairs.append((result.step_bytes, result.step_cycles))
    return ", ".join(f"{compared:,} / {cycles:,}" for compared, cycles in pairs)


def page_file(functions: str = "all") -> Path:
    """The page in docs/ of the checkout; without one, among the other products of builds."""
    root = checkout()
    name = "support.md" if functions == "all" else f"support-{functions}.md"
    return build_folder() / name if root is None else root / "docs" / name


def support_page(results: Sequence[CellResult], dim: int, tokens: int, functions: str = "all"
                 ) -> str:
    """The page of ``page_file``: what passed, bytes compared and cycles, and what is refused."""
    found = {result.cell: result for result in results}
    passed = sum(result.passed for result in results)
    trains = functions == "training"
    option = "" if functions == "all" else f" --functions {functions}"
    made = f"`python -m sim.matrix{option}`" + ("" if option else " (`make matrix`)")
    lines = [
        "# Formats, accumulators, softmax modes" + (", in builds that train" if trains else ""), "",
        f"Written by {made}; do not edit.", "",
        f"Each cell is a build with `--dim {dim}{option}` on Verilator that ran head 0 of "
        f"{results[0].layer}, {tokens} tokens: projections, softmax(Q Kᵀ / √d), P V, through its "
        "AXI ports. Cells show the bytes of the results that were compared with the machine model "
        "and the clock cycles. All bytes were equal, and none was written outside the results.", ""]
    if trains:
        lines += ["Each then trained a small BERT with adapters on all matrices: two micro-batches "
                  "of two sentences for the scales of the gradients, two more for a step, and the "
                  "update. After every program every byte of the memory was compared with the "
                  "machine model's: the second pair of each cell.", ""]
    lines += [
        f"Passed: {passed} of {len(results)} cells, "
        f"{sum(o.compared + o.step_bytes for o in results):,} bytes, "
        f"{sum(o.mismatches for o in results)} mismatches.", "",
        "| `--fmt` | `--acc` | " + " | ".join(f"`{mode}`" for mode in SOFTMAX_MODES) + " |",
        "|---|---|" + "---|" * len(SOFTMAX_MODES)]
    for fmt, acc in dict.fromkeys((cell.fmt, cell.acc) for cell in found):
        row = [_entry(found[Cell(fmt, acc, mode)]) for mode in SOFTMAX_MODES]
        lines.append(f"| `{fmt}` | `{acc}` | " + " | ".join(row) + " |")
    lines += ["", "Refused, with the message of the configuration:", ""]
    for reason, refused in refusals(dim, functions).items():
        pairs = dict.fromkeys((cell.fmt, cell.acc) for cell in refused)
        named = ", ".join(f"`{fmt}` × `{acc}`" for fmt, acc in pairs)
        lines.append(f"- {named}: {reason}")
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.matrix", description=__doc__.split(":")[0] + ".")
    for name, allowed in (("fmt", tuple(FORMATS)), ("acc", ACCUMULATORS),
                          ("softmax", SOFTMAX_MODES)):
        add_names(parser, f"--{name}", allowed, None, "only these")
    parser.add_argument("--sample", action="store_true",
                        help="one cell a format, each accumulator and mode at least once")
    parser.add_argument("--small", action="store_true",
                        help="the project's own small layer instead of MiniLM-L6")
    add_config_flags(parser, output=False, only=("dim", "functions"), dim=4,
                     functions="all")
    parser.add_argument("--tokens", type=integer(1), default=TOKENS, metavar="N",
                        help=f"length ({TOKENS})")
    add_jobs(parser, "cells at once")
    add_quiet(parser)
    add_seed(parser, "fills memory without content")
    add_product(parser, "matrix.json", "the results as JSON")
    return parser


def _chosen(options: argparse.Namespace) -> list[Cell]:
    every = cells(options.dim, options.functions)
    if options.sample:
        every = sample(every)
    return [cell for cell in every
            if all(getattr(options, name) is None or getattr(cell, name) in getattr(options, name)
                   for name in ("fmt", "acc", "softmax"))]


def _write(parser: argparse.ArgumentParser, options: argparse.Namespace,
           results: list[CellResult]) -> None:
    record = {"dim": options.dim, "functions": options.functions, "tokens": options.tokens,
              "layer": results[0].layer,
              "cells": [asdict(o) | {"passed": o.passed} for o in results],
              "refused": {reason: [asdict(cell) for cell in refused]
                          for reason, refused in refusals(options.dim, options.functions).items()}}
    deliver(parser, options.output, lambda: json.dumps(record, indent=1) + "\n")
    print(f"wrote {options.output}")
    complete = {result.cell for result in results} == set(cells(options.dim, options.functions))
    if complete and options.functions in _PAGES and all(result.passed for result in results):
        page = page_file(options.functions)
        deliver(parser, page, lambda: support_page(
            results, options.dim, options.tokens, options.functions))
        print(f"wrote {page}")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: every chosen cell passed, 1: one failed, 2: wrong arguments."""
    parser = _parser()
    options = parser.parse_args(arguments)
    real = not options.small
    try:
        AcceleratorConfig("int8" if options.functions == "linear" else "posit8", dim=options.dim,
                          functions=options.functions)
        minilm.load(options.tokens) if real else small.load(options.tokens)
    except ValueError as error:
        parser.error(str(error))
    except ModelUnavailable as error:
        print(f"{error}; the small layer takes its place")
        real = False
    work = _chosen(options)
    if not work:
        parser.error("--fmt, --acc and --softmax must leave at least one supported cell")
    prepared(parser, options.output)
    if options.functions in _PAGES and set(work) == set(cells(options.dim, options.functions)):
        writable(parser, page_file(options.functions))
    for reason, refused in refusals(options.dim, options.functions).items():
        print(f"refused  {len(refused)} cells, first {refused[0]}: {reason}")
    started = time.monotonic()
    results = _run(work, options, real)
    failed = [result for result in results if not result.passed]
    print(f"{len(results) - len(failed)} of {len(results)} cells passed, "
          f"{sum(o.compared for o in results)} bytes compared, "
          f"{sum(o.mismatches for o in results)} mismatches, "
          f"{time.monotonic() - started:.0f} s")
    _write(parser, options, results)
    return 1 if failed else 0
