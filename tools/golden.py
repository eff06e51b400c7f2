"""What must not change by accident: ``python -m tools.golden verilog``, ``structure``, ``vectors``.

``tests/golden/verilog.json`` names two SHA-256 for every build that the project promises to keep:
each format × accumulator × softmax × functions of inference at dim 4; each format's defaults, at
dim 4 with functions of training and with scales, and at dim 16; fixed lanes at dim 4;
one with every pipeline register, and one for an FPGA.
``verilog`` is that of the text, to the byte; ``structure`` that of the circuit without its names
(``synth.netlist``): where signals are renamed, or the text is written in another way, the first
changes and the second stays. A change that is meant to leave the hardware alone leaves both; a
change of the hardware renews them in a commit that says why.

``tests/golden/vectors`` holds operands and results of every unit for those who implement the
formats elsewhere; the models must still give these results.

Without ``--renew`` both are checked; exit code 1 where something differs.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path

from gen.cli import Parser
from gen.top import build as accelerator
from gen.top import generate
from hdl.spec.config import ACCUMULATORS, SOFTMAX_MODES, AcceleratorConfig
from hdl.spec.formats import FORMATS
from hdl.spec.surroundings import Surroundings
from synth.netlist import read_library
from tools.vectors.every import UNITS, different, draw
from tools.vectors.store import load, save

INFERENCE = ("all", "softmax")
FOLDER = Path(__file__).resolve().parent.parent / "tests/golden"
FILE = FOLDER / "verilog.json"
_LATENCIES = ("pe_latency", "lane_latency", "sum_ways")


@dataclass(frozen=True)
class Build:
    """One build by the words that name it in the file."""

    fmt: str
    dim: int
    acc: str | None = None
    softmax: str | None = None
    functions: str | None = "all"
    latencies: tuple[int, int, int] = (1, 1, 1)  # pe_latency, lane_latency, sum_ways
    target: str = "asic"

    @property
    def config(self) -> AcceleratorConfig:
        # None: the default.
        return AcceleratorConfig(self.fmt, dim=self.dim,
                                 acc=self.acc, softmax=self.softmax,  # type: ignore[arg-type]
                                 functions=self.functions,  # type: ignore[arg-type]
                                 **dict(zip(  # type: ignore[arg-type]
                                     _LATENCIES, self.latencies, strict=True)))

    @property
    def surroundings(self) -> Surroundings:
        return Surroundings(target=self.target)

    def __str__(self) -> str:
        if self.acc is None:
            return f"{self.fmt} dim {self.dim} defaults"
        told = f"{self.fmt} dim {self.dim} {self.acc} {self.softmax} {self.functions}"
        if self.latencies != (1, 1, 1):
            told += " latencies {} {} {}".format(*self.latencies)
        return told if self.target == "asic" else f"{told} for {self.target}"


def builds() -> list[Build]:
    """Every build that has a digest."""
    found = []
    for fmt, acc, softmax, functions in product(FORMATS, ACCUMULATORS, SOFTMAX_MODES,
                                                INFERENCE):
        build = Build(fmt, 4, acc, softmax, functions)
        with suppress(ValueError):  # not every accumulator is for every format
            # Of exact's columns and fp32's buffer, which have all modes: fused has its own alone.
            if acc != "fused" or build.config.softmax == FORMATS[fmt].default_softmax:
                assert build.config
                found.append(build)
    trained = (name for name, fmt in FORMATS.items() if not fmt.integer)
    return [*found, *(_own(fmt, "training") for fmt in trained),
            *(_own(fmt, "scales") for fmt in FORMATS), _own("int8", "linear"),
            *(Build(fmt, 16, functions=None) for fmt in FORMATS),
            Build("fp8", 4, "bf16", "pwl", "all", (2, 4, 4)),
            Build("posit8", 4, "exact", "approx_shifted", "softmax", (3, 3, 2), "fpga")]


def _own(fmt: str, functions: str) -> Build:
    """A format's own accumulator and softmax in a build with ``functions``."""
    config = AcceleratorConfig(fmt)
    return Build(fmt, 4, config.acc, config.softmax, functions)


def sample(every: list[Build]) -> list[Build]:
    """A few of ``every`` that touch each format, accumulator, softmax mode and function set."""
    small = [build for build in every if build.acc is not None and build.latencies == (1, 1, 1)]
    chosen, stride = [], len(SOFTMAX_MODES) + len(INFERENCE) + 1  # odd, for pairs of functions
    for index, fmt in enumerate(FORMATS):
        own = [build for build in small if build.fmt == fmt and build.functions in INFERENCE]
        chosen.append(own[index * stride % len(own)])
    for functions in ("training", "scales", "linear"):
        chosen.append(next(build for build in small if build.functions == functions))
    for acc in ACCUMULATORS:
        if acc not in {build.acc for build in chosen}:
            chosen.append(next(build for build in small if build.acc == acc))
    return chosen


def digest(build: Build) -> str:
    return hashlib.sha256(generate(build.config, surroundings=build.surroundings).encode()
                          ).hexdigest()


def structure(build: Build) -> str:
    return read_library(accelerator(build.config, surroundings=build.surroundings),
                        "ottava").digest


DIGESTS: dict[str, Callable[[Build], str]] = {"verilog": digest, "structure": structure}


def known(what: str = "verilog") -> dict[str, str]:
    """The digests of the file, of one kind."""
    return {name: kinds[what] for name, kinds in json.loads(FILE.read_text()).items()
            if what in kinds}


def renew(what: str, found: dict[str, str]) -> None:
    """Put the digests of one kind into the file; those of the other stay."""
    kinds = {kind: found if kind == what else known(kind) for kind in DIGESTS}
    lines = [f"{json.dumps(name)}: " + json.dumps({
        kind: kinds[kind][name] for kind in DIGESTS if name in kinds[kind]})
        for name in kinds["verilog"]]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def digests(chosen: list[Build], jobs: int, of: Callable[[Build], str] = digest
            ) -> dict[str, str]:
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        return dict(zip(map(str, chosen), pool.map(of, chosen), strict=True))


def check_builds(what: str, anew: bool, part: bool, jobs: int) -> int:
    # A circuit takes twice the time of its text, whose digest every build has.
    chosen = sample(builds()) if part or what == "structure" else builds()
    found = digests(chosen, jobs, DIGESTS[what])
    if anew:
        renew(what, found)
        print(f"{FILE}: {len(found)} digests")
        return 0
    stored = known(what)
    wrong = [name for name, value in found.items() if stored.get(name) != value]
    for name in wrong:
        print(f"differs: {name}")
    print(f"{len(found)} builds, {len(wrong)} differ from the {len(stored)} digests of the file")
    return 1 if wrong or not found else 0


def check_vectors(anew: bool) -> int:
    cases = wrong = 0
    for unit in UNITS:
        if anew:
            save(draw(unit))
        file = load(unit)
        for line in different(unit, file):
            print(f"differs: {line}")
            wrong += 1
        cases += sum(len(group.cases) for group in file.groups)
    print(f"{len(UNITS)} units, {cases} cases, {wrong} differ from what the models give")
    return 1 if wrong or not cases else 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="tools.golden", description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=("verilog", "structure", "vectors"),
                        default="verilog")
    parser.add_argument("--renew", action="store_true", help="write the files anew")
    parser.add_argument("--sample", action="store_true",
                        help="a few builds that touch every choice")
    parser.add_argument("--jobs", type=int, default=2, help="processes that generate builds (2)")
    arguments = parser.parse_args(argv)
    if arguments.renew and arguments.sample:
        parser.error("--renew writes every digest, not a sample")
    if arguments.what == "vectors":
        return check_vectors(arguments.renew)
    return check_builds(arguments.what, arguments.renew, arguments.sample, arguments.jobs)


if __name__ == "__main__":
    sys.exit(main())
