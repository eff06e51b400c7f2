"""``python -m sim.faults``: a campaign of random faults on Verilated builds, judged one by one."""

import argparse
import time
from collections.abc import Sequence
from typing import Any

from gen.cli import Parser, add_config_flags, add_quiet, add_seed, counted, integer
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.faults.campaign import Campaign, Tally
from sim.campaigns.faults.injection import KINDS
from sim.campaigns.faults.sabotage import LIES, Liar
from sim.campaigns.regression import small_accelerator

BUILDS = ("posit8", "posit8/exact", "fp8", "bf16", "int8", "posit8//training", "fp8/fp32/training",
          "bf16//training")
_SHOWN = 20


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="python -m sim.faults", description=__doc__)
    parser.add_argument("--count", type=integer(1), default=10_000, metavar="N",
                        help="faults in all (10000)")
    add_seed(parser, "the campaign's random numbers")
    parser.add_argument("--fmt", nargs="+", default=BUILDS, metavar="FORMAT[/ACC[/FUNCTIONS]]",
                        help="formats of the builds, with accumulators and functions "
                             f"({' '.join(BUILDS)})")
    add_config_flags(parser, output=False, only=("dim", "lanes"), dim=4)
    add_quiet(parser)
    parser.add_argument("--only", type=integer(0), metavar="N", help="fault N of each build alone")
    parser.add_argument("--sabotage", choices=LIES,
                        help="let the harness lie now and then: the campaign must fail")
    arguments = parser.parse_args(argv)
    for fmt in arguments.fmt:
        try:
            AcceleratorConfig(**_changes(fmt, arguments))
        except ValueError as error:
            parser.error(str(error))
    return arguments


def _changes(build: str, arguments: argparse.Namespace) -> dict[str, Any]:
    fmt, _, rest = build.partition("/")
    acc, _, functions = rest.partition("/")
    return {"fmt": fmt, "acc": acc or None, "functions": functions or None,
            "dim": arguments.dim, "lanes": arguments.lanes}


def run(fmt: str, arguments: argparse.Namespace, count: int) -> Tally:
    """One build's share of the campaign."""
    machine: Any = small_accelerator(**_changes(fmt, arguments))
    if arguments.sabotage:
        machine = Liar(machine, arguments.sabotage)
    campaign = Campaign(machine, arguments.seed, count)
    work = range(count) if arguments.only is None else [arguments.only]
    for index in counted(f"{fmt}: faults", work, len(work), quiet=arguments.quiet):
        campaign.run(index)
    return campaign.tally


def table(tallies: dict[str, Tally]) -> list[str]:
    """One row per kind: how many there were and how they ended."""
    rows = []
    for name in KINDS:
        outcomes: dict[str, int] = {}
        for tally in tallies.values():
            for outcome, count in tally.outcomes.get(name, {}).items():
                outcomes[outcome] = outcomes.get(outcome, 0) + count
        shown = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        rows.append(f"{name:36} {sum(outcomes.values()):6}  {shown}")
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """0 when every fault ended as it must and every kind was there."""
    arguments = _arguments(argv)
    tallies, problems, missing = {}, [], []
    shares = [arguments.count // len(arguments.fmt)] * len(arguments.fmt)
    shares[0] += arguments.count - sum(shares)
    for fmt, share in zip(arguments.fmt, shares, strict=True):
        begin = time.monotonic()
        tallies[fmt] = tally = run(fmt, arguments, share)
        problems += [f"{fmt}: {problem}" for problem in tally.problems]
        print(f"{fmt}: {tally.faults} faults, {tally.cycles} cycles, {tally.bytes} bytes of "
              f"following programs, {tally.accesses} CSR accesses, "
              f"{len(tally.problems)} problems, {time.monotonic() - begin:.0f} s", flush=True)
    print(*table(tallies), sep="\n")
    if arguments.only is None:
        missing = sorted(set().union(*(tally.missing() for tally in tallies.values())))
    for line in (*problems[:_SHOWN], *(f"no fault of kind {name!r} showed" for name in missing)):
        print(f"FAIL {line}")
    hangs = sum(counts["hang"] for tally in tallies.values()
                for counts in tally.outcomes.values())
    print(f"{sum(tally.faults for tally in tallies.values())} faults of {len(KINDS)} kinds, "
          f"{hangs} hangs, {len(problems)} problems")
    return 1 if problems or missing else 0
