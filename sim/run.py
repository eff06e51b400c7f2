"""A transformer on the accelerator: ``python -m sim.run minilm --fmt posit8 --on machine``.

Loads a checkpoint, lowers its layers to one program, runs it and compares every byte of every
layer's output: ``--on rtl`` runs the generated Verilog through its AXI ports on Verilator against
the machine model, ``--on machine`` runs the machine model against the arithmetic called without a
program. Errors against an fp32 forward are printed as well. Exit code 1 when a byte differs, 2 for
wrong arguments and models.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from compiler.checkpoints.packages import ModelUnavailable
from compiler.program.assembly.listing import disassemble
from compiler.program.lowered import LoweredProgram
from compiler.work import Work, add_flags, prepare, summary
from gen.cli import Parser, add_on, deliver, piped, save, writable
from sim.verify.compare import Comparison, compare
from sim.verify.expected import expected
from sim.verify.report import report
from sim.verify.runner import ImageRun, RunError, on_machine, on_rtl

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.run", description=__doc__.split(":")[0] + ".")
    add_flags(parser)
    add_on(parser, "rtl", rtl="the generated Verilog, against the machine model",
           machine="the machine model, against arithmetic without a program")
    parser.add_argument("--dump", metavar="FILE",
                        help="write the program there, one line per command (- for the output)")
    parser.add_argument("--image", metavar="FILE",
                        help="write program and memory there, for python -m sim.image")
    parser.add_argument("--progress", action="store_true", default=None,
                        help="tell on standard error how far a run is (where it is a terminal)")
    return parser


def _write(parser: argparse.ArgumentParser, options: argparse.Namespace,
           program: LoweredProgram) -> None:
    """The files that are asked for."""
    if options.dump is not None:
        lines = disassemble(program.memory, program.address, program.base)
        path = None if options.dump == "-" else options.dump
        deliver(parser, path, lambda: "\n".join(lines) + "\n", "dump")
    if options.image is not None:
        save(parser, options.image, program.image.save, "image")


def _run(work: Work, options: argparse.Namespace) -> tuple[ImageRun, Comparison]:
    program, codes = work.program, None
    if options.on == "rtl":
        run = on_rtl(program.image, work.config, options.progress, seed=options.seed)
        print(f"built in {run.built:.1f} s")
    else:
        started = time.monotonic()
        codes = expected(work.config, work.model, work.inputs, work.steps, level=work.level,
                         layers=work.layers)
        print(f"expected codes in {time.monotonic() - started:.1f} s")
        run = on_machine(program.image, work.config, options.progress)
    print(f"ran in {run.seconds:.1f} s on the {run.where}")
    return run, compare(program, run, codes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 all bytes equal, 1 a difference, 2 wrong arguments or no model."""
    parser = _parser()
    options = parser.parse_args(arguments)
    started = time.monotonic()
    for what, path in (("dump", options.dump), ("image", options.image)):
        if path not in (None, "-"):
            writable(parser, path, what)
    try:
        work = prepare(options, states=True)
    except (ValueError, ModelUnavailable) as error:
        parser.error(str(error))
    _write(parser, options, work.program)
    print("\n".join(summary(work)))
    print(f"lowered in {time.monotonic() - started:.1f} s")
    try:
        run, comparison = _run(work, options)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report(work.config, work.program, run, comparison, work.steps, work.states)
    return 1 if comparison.mismatches else 0


if __name__ == "__main__":
    sys.exit(piped(main))
