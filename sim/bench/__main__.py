"""``python -m sim.bench``: run the cocotb benches; ``make sim`` is this."""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from gen.cli import Parser, add_jobs, add_quiet, add_seed, counted
from hdl.spec.formats import FORMATS
from sim.bench.catalog import BENCHES, SIMULATORS, jobs
from sim.bench.runner import Report, missing, run

__all__ = ["main"]

_DEFAULT_SEED = 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(prog="sim.bench", description="Run the cocotb benches.")
    parser.add_argument("--test", choices=tuple(BENCHES), metavar="NAME",
                        help="one bench: " + ", ".join(BENCHES))
    parser.add_argument("--sim", choices=SIMULATORS, metavar="NAME",
                        help="one simulator: " + ", ".join(SIMULATORS))
    parser.add_argument("--fmt", choices=tuple(FORMATS), metavar="NAME",
                        help="one format: " + ", ".join(FORMATS))
    add_seed(parser, "of the random cases", _DEFAULT_SEED)
    parser.add_argument("--waves", action="store_true", help="leave a waveform of each run")
    add_jobs(parser, "runs at once")
    add_quiet(parser)
    arguments = parser.parse_args(argv)
    # cocotb's runner obeys these itself; one switch is enough.
    for name in ("WAVES", "GUI"):
        os.environ.pop(name, None)
    return arguments


def _show(report: Report) -> None:
    job = report.job
    print(f"{'passed' if report.passed else 'FAILED'}  {job.simulator:9}  {job.label:28}  "
          f"{report.cases:6} cases  {report.cycles:7} cycles  seed {report.seed}  "
          f"{report.seconds:5.1f} s", flush=True)
    if report.message:
        print(report.message, flush=True)
    if report.waves:
        print(f"waveform: {report.waves}", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 when all passed, 1 when a bench failed, 2 for a wrong argument."""
    arguments = _arguments(argv)
    failed = passed = 0
    simulators = []
    for simulator in [arguments.sim] if arguments.sim else SIMULATORS:
        if not missing(simulator):
            simulators.append(simulator)
        elif os.environ.get("CI") == "true":
            print(f"FAILED  {simulator}: it is not installed")
            failed += 1
        else:
            print(f"skipped  {simulator}: it is not installed")
    names = [arguments.test] if arguments.test else list(BENCHES)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        work = list(jobs(names, simulators, arguments.fmt))
        reports = pool.map(lambda job: run(job, arguments.seed, arguments.waves), work)
        for report in counted("benches", reports, len(work), quiet=arguments.quiet):
            _show(report)
            passed, failed = passed + report.passed, failed + (not report.passed)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
