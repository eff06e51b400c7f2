"""``python -m gen.scaling``: bytes and seconds of ``gen.top`` for growing arrays, as a table.

Seconds are processor time of the whole command, start of Python included, the quickest of
``--repeat`` runs: what it takes on an idle machine. Exit code 1 where bytes or seconds grow faster
than ``dim``, or a build takes more of them than its goal (``GOALS``).
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from gen.cli import Parser, add_config_flags, add_names, add_quiet, counted, integer, number
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import FORMATS

__all__ = ["DIMS", "Cost", "cost_of", "faster_than_linear", "main", "over_goal", "table"]

DIMS = (16, 32, 64, 128)
# Most bytes and seconds, the latter on two cores of x86-64 at about 3 GHz, by design and dim.
GOALS = {("posit8 bf16", 64): (1_000_000, 4.0)}
NOISE = 1.1  # two runs of one command differ by as much where others use the cores


@dataclass(frozen=True)
class Cost:
    """What one build takes: bytes of Verilog, seconds of processor time."""

    config: AcceleratorConfig
    bytes: int
    seconds: float

    @property
    def design(self) -> str:
        """What is the same for every ``dim``."""
        return f"{self.config.fmt} {self.config.acc}"


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def cost_of(config: AcceleratorConfig, repeat: int = 1) -> Cost:
    """The cost of running ``gen.top``, the quickest of ``repeat`` times; ``CalledProcessError``
    where it fails."""
    return min((_run(config) for _ in range(repeat)), key=lambda cost: cost.seconds)


def _run(config: AcceleratorConfig) -> Cost:
    with tempfile.TemporaryDirectory(prefix="ottava-scaling-") as folder:
        target = Path(folder, "ottava.v")
        start = _processor_seconds()
        subprocess.run([sys.executable, "-m", "gen.top", "--fmt", config.fmt, "--acc", config.acc,
                        "--dim", str(config.dim), "-o", str(target)], check=True)
        return Cost(config, target.stat().st_size, _processor_seconds() - start)


def faster_than_linear(costs: Iterable[Cost]) -> list[str]:
    """A line for each step to a larger ``dim`` in which bytes or seconds grow faster than it."""
    designs: dict[str, list[Cost]] = {}
    for cost in costs:
        designs.setdefault(cost.design, []).append(cost)
    lines = []
    for design, members in designs.items():
        for small, large in pairwise(sorted(members, key=lambda cost: cost.config.dim)):
            growth = large.config.dim / small.config.dim
            for name, noise in (("bytes", 1), ("seconds", NOISE)):
                ratio = getattr(large, name) / getattr(small, name)
                if ratio > growth * noise:
                    lines.append(f"{design}: {name} grow {ratio:.2f} times from dim "
                                 f"{small.config.dim} to {large.config.dim}, {growth:g} allowed")
    return lines


def over_goal(costs: Iterable[Cost]) -> list[str]:
    """A line for each build that takes more bytes or seconds than its goal."""
    lines = []
    for cost in costs:
        size, seconds = GOALS.get((cost.design, cost.config.dim), (cost.bytes, cost.seconds))
        if cost.bytes > size or cost.seconds > seconds:
            lines.append(f"{cost.design} at dim {cost.config.dim}: {cost.bytes:,} bytes and "
                         f"{cost.seconds:.2f} s, {size:,} and {seconds:g} allowed")
    return lines


def table(costs: Sequence[Cost]) -> str:
    """Markdown: one row per design, a pair of columns per ``dim``."""
    dims = sorted({cost.config.dim for cost in costs})
    found = {(cost.design, cost.config.dim): cost for cost in costs}
    lines = ["| format, accumulator | " + " | ".join(f"D = {dim} | s" for dim in dims) + " |",
             "|---" * (1 + 2 * len(dims)) + "|"]
    for design in dict.fromkeys(cost.design for cost in costs):
        cells = [f"{found[design, dim].bytes:,} | {found[design, dim].seconds:.1f}"
                 for dim in dims]
        lines.append(f"| {design} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="gen.scaling", description=__doc__.splitlines()[0])
    add_names(parser, "--fmt", tuple(FORMATS), tuple(FORMATS), "formats")
    parser.add_argument("--dim", nargs="+", type=number, default=DIMS, metavar="N",
                        help=f"sizes of the array ({' '.join(map(str, DIMS))})")
    add_quiet(parser)
    add_config_flags(parser, output=False, only=("acc",))
    parser.add_argument("--repeat", type=integer(1), default=1, metavar="N",
                        help="runs of each build, of which the quickest counts (1)")
    arguments = parser.parse_args(argv)
    try:
        configs = [AcceleratorConfig(fmt=fmt, dim=dim, acc=arguments.acc)
                   for fmt in arguments.fmt for dim in arguments.dim]
    except ValueError as error:
        parser.error(str(error))
    measured = (cost_of(config, arguments.repeat) for config in configs)
    costs = list(counted("builds", measured, len(configs), quiet=arguments.quiet))
    print(table(costs), end="")
    faster, over = faster_than_linear(costs), over_goal(costs)
    for line in (*faster, *over):
        print(line)
    print(f"{len(costs)} builds, {len(faster)} steps grow faster than dim, {len(over)} over goal")
    return int(bool(faster or over))


if __name__ == "__main__":
    sys.exit(main())
