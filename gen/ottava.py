"""``ottava COMMAND ...``: every command line of the project under one name.

``ottava top --fmt posit8`` is ``python -m gen.top --fmt posit8``, with the same options, output and
exit codes. A command is known here by the name of its module alone: it is imported when it is
called.
"""

import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from gen import __version__
from gen.cli import Parser, piped

__all__ = ["COMMANDS", "Command", "main"]

NAME = "ottava"


@dataclass(frozen=True)
class Command:
    """A module that is run, what it does in a line, and the extra of the package that it needs."""

    module: str
    does: str
    extra: str = ""


COMMANDS: dict[str, Command] = {
    "top": Command("gen.top", "generate the accelerator: Verilog, SDC, register map, C header"),
    "block": Command("gen.block", "generate one block: decoder, MAC, lane, array, ..."),
    "package": Command("gen.package", "package an accelerator for FuseSoC, LiteX, IP-XACT, Vivado"),
    "scaling": Command("gen.scaling", "bytes and seconds of generation for growing arrays"),
    "diagram": Command("gen.diagram", "draw the units of a build and what flows between them"),
    "docs": Command("gen.docs", "renew the pages of docs/ that follow from the program format"),
    "compile": Command("compiler", "lower a transformer to one program; list its ops, its commands",
                       "sim"),
    "run": Command("sim.run", "run a transformer on RTL or machine model, every byte compared",
                   "sim"),
    "train": Command("sim.train", "fine-tune a transformer: adapters from texts and labels", "sim"),
    "train-demo": Command("sim.train_demo", "fine-tune by commands on the machine model", "sim"),
    "demo": Command("sim.demo", "run an attention head on RTL or machine model", "sim"),
    "image": Command("sim.image", "show or run a program with its memory, or write it as C", "sim"),
    "assembly": Command("sim.assembly", "programs as text: list and assemble", "sim"),
    "cycles": Command("sim.cycles", "cycles of a model by command and layer, without Verilog",
                      "sim"),
    "quantise": Command("sim.quantise", "scales of a model's operands, calibrated on inputs",
                        "sim"),
    "evaluate": Command("sim.evaluate", "how right a model is on a data set, builds side by side",
                        "sim"),
    "accuracy": Command("sim.accuracy", "accuracy of real models in every format: the tables",
                        "sim"),
    "throughput": Command("sim.throughput", "utilisation of GEMMs and softmax on RTL", "sim"),
    "bench": Command("sim.bench", "run the cocotb benches of blocks and of the accelerator", "sim"),
    "matrix": Command("sim.matrix", "every format, accumulator and softmax mode on RTL", "sim"),
    "shapes": Command("sim.shapes", "random GEMMs on RTL, all memory compared", "sim"),
    "faults": Command("sim.faults", "faults in programs, bus and host on RTL", "sim"),
    "coverage": Command("sim.coverage", "what the campaigns exercise, and what they miss", "sim"),
    "study": Command("sim.study", "fine-tuning with every rounding: which choice costs what",
                     "sim"),
    "area": Command("synth.area", "tables of area: formats and accumulators side by side", "synth"),
    "summary": Command("synth.summary", "generate an accelerator, report what is in it", "synth"),
    "isomorphism": Command("synth.isomorphism", "are two texts one circuit under other names?",
                           "synth"),
    "units": Command("synth.units", "where the gates of an accelerator are, unit by unit", "synth"),
    "power": Command("synth.power", "energy of a MAC, a lane, ...: gates at work on real data",
                     "synth,sim"),
    "sweep": Command("synth.sweep", "builds by area and products a second; a page that sorts them",
                     "synth,sim"),
    "paper": Command("synth.paper", "the paper's figures beside ours, its claims judged",
                     "synth,sim"),
    "clock": Command("synth.clock", "longest paths by unit, latencies that meet a period", "synth"),
    "front-ends": Command("synth.front_ends", "what seven tools of others say of the Verilog",
                          "synth"),
    "fpga": Command("synth.fpga", "cells and clock of a build on an ECP5 85k", "synth"),
    "crossings": Command("synth.crossings", "every path between a build's two clocks", "synth"),
    "lint": Command("synth.lint", "Verilator, Icarus and Yosys over generated Verilog", "synth"),
}


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"usage: {NAME} COMMAND [options]", "",
             "8-bit transformer accelerators: generate, simulate, measure.", "",
             *(f"  {name:{width}}  {command.does}" for name, command in COMMANDS.items()), "",
             f"{NAME} COMMAND --help tells the options of a command, {NAME} --version the version."]
    return "\n".join(lines)


def _print(text: str) -> int:
    print(text)
    return 0


def _parser() -> Parser:
    return Parser(prog=NAME, add_help=False)


def _run(name: str, command: Command, arguments: Sequence[str]) -> None:
    """Become the module; it ends the process with its own exit code."""
    sys.argv = [f"{NAME} {name}", *arguments]
    try:
        runpy.run_module(command.module, run_name="__main__", alter_sys=True)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        ours = {item.module.split(".")[0] for item in COMMANDS.values()} | {"hdl", "compiler"}
        if not command.extra or not missing or missing in ours:
            raise
        _parser().error(f"{name} needs the package {missing!r}, which is not installed: "
                        f"pip install '{NAME}[{command.extra}]'")


def main(argv: Sequence[str] | None = None) -> int:
    """The command's exit code; 2 for a command that there is not."""
    name, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in ("-h", "--help", "help"):
        return piped(lambda: _print(_help()))
    if name in ("-V", "--version"):
        return piped(lambda: _print(f"{NAME} {__version__}"))
    if name not in COMMANDS:
        _parser().error(f"COMMAND must be one of {', '.join(COMMANDS)}, not {name!r}")
    _run(name, COMMANDS[name], arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
