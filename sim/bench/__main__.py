"""``python -m sim.bench``: run the cocotb benches; ``make sim`` is this."""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hdl.spec.formats import FORMATS, format_named
from sim.bench.catalog import BENCHES, SIMULATORS, jobs
from sim.bench.runner import Report, missing, run

__all__ = ["main"]

_DEFAULT_SEED = 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message}\n")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="sim.bench", description="Run the cocotb benches.")
    parser.add_argument("--test", metavar="NAME", help="one bench: " + ", ".join(BENCHES))
    parser.add_argument("--sim", metavar="NAME", help="one simulator: " + ", ".join(SIMULATORS))
    parser.add_argument("--fmt", metavar="F", help="one format: " + ", ".join(FORMATS))
    parser.add_argument("--seed", type=int, default=_DEFAULT_SEED, help="of the random cases (1)")
    parser.add_argument("--waves", action="store_true", help="leave a waveform of each run")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1,
                        help="runs at once (one a processor)")
    arguments = parser.parse_args(argv)
    for flag, value, allowed in (("--test", arguments.test, BENCHES),
                                 ("--sim", arguments.sim, SIMULATORS)):
        if value is not None and value not in allowed:
            parser.error(f"{flag} must be one of {', '.join(allowed)}, not {value!r}")
    if arguments.jobs < 1:
        parser.error(f"--jobs must be at least 1, not {arguments.jobs!r}")
    if arguments.fmt is not None:
        try:
            format_named(arguments.fmt)
        except ValueError as error:
            parser.error(str(error))
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
        work = jobs(names, simulators, arguments.fmt)
        for report in pool.map(lambda job: run(job, arguments.seed, arguments.waves), work):
            _show(report)
            passed, failed = passed + report.passed, failed + (not report.passed)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
