"""``python -m sim.coverage``, ``make coverage``: what the campaigns exercise, and what they miss.

Each format is built with counters in its Verilog and given random shapes, random instruction
lists, shapes beyond its buffers, an attention head and random faults, every byte compared. Two
figures come of it: points of the program format (``coverage.spec``) and lines and branches of the
generated top (``coverage.code``), each with what is missing. Exit code 1 when a comparison
fails or a figure is below --least, 2 for a wrong argument.
"""

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

from gen.cli import (
    Parser,
    add_jobs,
    add_names,
    add_product,
    add_quiet,
    add_seed,
    counted,
    deliver,
    integer,
    prepared,
    real,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import FORMATS
from sim.campaigns.cells import cells, sample
from sim.campaigns.coverage.campaign import Amounts, Covered, attempt
from sim.campaigns.coverage.code import percent
from sim.campaigns.coverage.reasons import reason
from sim.campaigns.coverage.spec import SpecCoverage
from sim.campaigns.regression import TINY

_FUNCTIONS = {"posit8": "training", "fp8": "training", "bf16": "training", "e4m3": "scales",
              "int8": "scales"}
"""Lanes of BF16, two encodings, lanes of FP32; a float and integers."""
_KINDS = {"lines and branches": None, "lines": "line", "branches": "branch"}


def designs(fmts: Sequence[str] | None = None) -> list[AcceleratorConfig]:
    """One build per format, together of every accumulator and softmax mode, with tiny buffers but
    weight panels of full size; some of them train, some have scales. One of fixed lanes."""
    sizes: dict[str, Any] = {"dim": 4} | TINY | {"weight_depth": 128}
    found = [replace(cell.config(4), **sizes, functions=_FUNCTIONS.get(cell.fmt, "all"))
             for cell in sample(cells()) if fmts is None or cell.fmt in fmts]
    if fmts is None or "int8" in fmts:
        found.append(AcceleratorConfig("int8", functions="linear", **sizes))
    return found


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.coverage", description=__doc__.split(": ")[1])
    add_names(parser, "--fmt", tuple(FORMATS), None, "these alone")
    for name, text in (("gemms", "random GEMMs"), ("lists", "random instruction lists"),
                       ("large", "programs beyond the buffers"), ("faults", "random faults")):
        default = getattr(Amounts(), name)
        parser.add_argument(f"--{name}", type=integer(1), default=default, metavar="N",
                            help=f"{text} on each build ({default})")
    parser.add_argument("--least", type=real(0, 100), default=95.0, metavar="PERCENT",
                        help="per cent to be reached (95)")
    add_seed(parser)
    add_jobs(parser)
    add_quiet(parser)
    add_product(parser, "coverage.json", "the figures and all that is missing, as JSON")
    return parser


def _code_lines(found: Sequence[Covered]) -> list[str]:
    """One row per build, the total, and what is missing with the builds that miss it."""
    lines = []
    for covered in found:
        config = covered.config
        parts = ", ".join(f"{name} {ran} of {every} ({ran / every:.1%})" for name, (ran, every) in (
            (name, percent(covered.counts, kind)) for name, kind in _KINDS.items() if kind))
        lines.append(f"{config.fmt:9} {config.acc:5} {config.softmax:14} {parts}")
    ran, every = total(found)
    lines.append(f"code coverage {ran / every:.1%}: {ran} of {every} lines and branches")
    where: dict[str, list[str]] = {}
    for covered in found:
        for text in covered.missing:
            where.setdefault(text, []).append(covered.config.fmt)
    for text, fmts in sorted(where.items()):
        told = "every build" if len(set(fmts)) == len(found) else " ".join(dict.fromkeys(fmts))
        lines.append(f"missing: {text} [{told}] {reason(text)}")
    return lines


def total(found: Sequence[Covered]) -> tuple[int, int]:
    """Lines and branches that ran and all of them, over all builds."""
    pairs = [percent(covered.counts) for covered in found]
    return sum(ran for ran, _ in pairs), sum(every for _, every in pairs)


def _record(found: Sequence[Covered], spec: SpecCoverage) -> str:
    record = {"spec": {"share": spec.share, "missing": spec.missing},
              "code": [{"config": covered.config.as_dict(), "missing": covered.missing}
                       | {name: percent(covered.counts, kind) for name, kind in _KINDS.items()}
                       for covered in found]}
    return json.dumps(record, indent=1) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """0: all right and both figures reached, 1: otherwise, 2: wrong arguments."""
    parser = _parser()
    options = parser.parse_args(arguments)
    prepared(parser, options.output)
    amounts = Amounts(options.gemms, options.lists, options.large, options.faults)
    started, spec, found, failed = time.monotonic(), SpecCoverage(), [], 0
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        configs = designs(options.fmt)
        pending = [pool.submit(attempt, config, amounts, options.seed) for config in configs]
        for config, future in counted("builds", zip(configs, pending, strict=True), len(pending),
                                      quiet=options.quiet):
            covered = future.result()
            spec.expect(config)
            if isinstance(covered, str):
                failed += 1
                print(f"FAILED  {config.fmt}: {covered}", flush=True)
                continue
            found.append(covered)
            spec.met |= covered.met
            print(f"passed  {config.fmt}: {covered.programs} programs, {covered.bytes} bytes "
                  f"compared, {covered.faults} faults", flush=True)
    print(*spec.report(), sep="\n")
    if not found:
        return 1
    print(*_code_lines(found), sep="\n")
    deliver(parser, options.output, lambda: _record(found, spec))
    print(f"wrote {options.output}")
    ran, every = total(found)
    reached = min(spec.share, ran / every) * 100 >= options.least
    print(f"{'reached' if reached else 'FAILED: below'} {options.least:g} %, "
          f"{time.monotonic() - started:.0f} s")
    return 1 if failed or not reached else 0
