"""What must not change by accident: ``python -m tools.golden verilog``, ``structure``, ``vectors``.

``tests/golden/verilog.json`` names a SHA-256 for every build that the project promises to keep to
the byte: each format × accumulator × softmax × functions at dim 4, and every format's defaults at
dim 16. A change that is meant to leave the hardware alone leaves every digest; a change of the
hardware renews them in a commit that says why.

``tests/golden/structure.json`` names one for the circuit of each build without its names
(``synth.netlist``): where signals are renamed, or the text is written in another way, the digests
of the text change and these stay.

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
from hdl.spec.config import ACCUMULATORS, FUNCTION_SETS, SOFTMAX_MODES, AcceleratorConfig
from hdl.spec.formats import FORMATS
from synth.netlist import read_library
from tools.vectors.every import UNITS, different, draw
from tools.vectors.store import load, save

FOLDER = Path(__file__).resolve().parent.parent / "tests/golden"
FILE = FOLDER / "verilog.json"
STRUCTURE = FOLDER / "structure.json"


@dataclass(frozen=True)
class Build:
    """One build by the words that name it in the file."""

    fmt: str
    dim: int
    acc: str | None = None
    softmax: str | None = None
    functions: str = "all"

    @property
    def config(self) -> AcceleratorConfig:
        # None: the default.
        return AcceleratorConfig(self.fmt, dim=self.dim,
                                 acc=self.acc, softmax=self.softmax,  # type: ignore[arg-type]
                                 functions=self.functions)

    def __str__(self) -> str:
        if self.acc is None:
            return f"{self.fmt} dim {self.dim} defaults"
        return f"{self.fmt} dim {self.dim} {self.acc} {self.softmax} {self.functions}"


def builds() -> list[Build]:
    """Every build that has a digest."""
    found = []
    for fmt, acc, softmax, functions in product(FORMATS, ACCUMULATORS, SOFTMAX_MODES,
                                                FUNCTION_SETS):
        build = Build(fmt, 4, acc, softmax, functions)
        with suppress(ValueError):  # bf16 takes fp32 alone
            assert build.config
            found.append(build)
    return found + [Build(fmt, 16) for fmt in FORMATS]


def sample(every: list[Build]) -> list[Build]:
    """A few of ``every`` that touch each format, accumulator, softmax mode and function set."""
    small = [build for build in every if build.acc is not None]
    chosen = []
    for index, fmt in enumerate(FORMATS):
        own = [build for build in small if build.fmt == fmt]
        chosen.append(own[index * (len(SOFTMAX_MODES) + len(FUNCTION_SETS)) % len(own)])
    return chosen


def digest(build: Build) -> str:
    return hashlib.sha256(generate(build.config).encode()).hexdigest()


def structure(build: Build) -> str:
    return read_library(accelerator(build.config), "ottava").digest


def known(file: Path | None = None) -> dict[str, str]:
    """The digests of the file, that of the text by default."""
    return json.loads((file or FILE).read_text())


def digests(chosen: list[Build], jobs: int, of: Callable[[Build], str] = digest
            ) -> dict[str, str]:
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        return dict(zip(map(str, chosen), pool.map(of, chosen), strict=True))


def check_builds(what: str, renew: bool, part: bool, jobs: int) -> int:
    file, of = {"verilog": (FILE, digest), "structure": (STRUCTURE, structure)}[what]
    chosen = sample(builds()) if part else builds()
    found = digests(chosen, jobs, of)
    if renew:
        file.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{file}: {len(found)} digests")
        return 0
    stored = known(file)
    wrong = [name for name, value in found.items() if stored.get(name) != value]
    for name in wrong:
        print(f"differs: {name}")
    print(f"{len(found)} builds, {len(wrong)} differ from the {len(stored)} digests of the file")
    return 1 if wrong or not found else 0


def check_vectors(renew: bool) -> int:
    cases = wrong = 0
    for unit in UNITS:
        if renew:
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
    parser.add_argument("--jobs", type=int, default=2, help="processes that generate Verilog (2)")
    arguments = parser.parse_args(argv)
    if arguments.renew and arguments.sample:
        parser.error("--renew writes every digest, not a sample")
    if arguments.what == "vectors":
        return check_vectors(arguments.renew)
    return check_builds(arguments.what, arguments.renew, arguments.sample, arguments.jobs)


if __name__ == "__main__":
    sys.exit(main())
