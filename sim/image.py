"""Look at a program image, or run it: ``python -m sim.image show FILE``, ``run FILE``; ``c FILE``
makes it a header of C.

``run`` takes the build that the image names; the flags of ``gen.top`` change it. ``--on rtl`` and
``--on cocotb`` compare every byte of the memory with the machine model. Exit code 1 when one
differs or the program stops with an error, 2 for a wrong argument, a damaged file or a program
that the build cannot run.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.program.image import ImageError, ProgramImage
from gen.cli import (
    Parser,
    add_config_flags,
    add_on,
    add_quiet,
    add_seed,
    changed_config,
    deliver,
    describe,
    piped,
    save,
    writable,
)
from hdl.spec.config import AcceleratorConfig
from sim.bench.catalog import IMAGE, SIMULATORS, Job
from sim.c_image import c_image
from sim.verify.runner import RunError, cycle_limit, on_machine, on_rtl

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.image",
                    description="Look at a program image, run it, or write it as C.")
    actions = parser.add_subparsers(dest="action", required=True)
    show = actions.add_parser("show", help="print the build, the memory and its tensors")
    run = actions.add_parser("run", help="run the program")
    as_c = actions.add_parser("c", help="write it as a header of C, for the driver of a package")
    for action in (show, run, as_c):
        action.add_argument("file", metavar="FILE")
    as_c.add_argument("--name", default="image", help="what the names in the header start with")
    as_c.add_argument("-o", "--output", metavar="FILE", help="write FILE, not standard output")
    add_on(run, "machine", rtl="the generated Verilog in the fast harness",
           cocotb="the same in a cocotb bench", machine="the machine model")
    add_quiet(run)
    add_seed(run, "of the bus and of unset registers")
    run.add_argument("--sim", choices=SIMULATORS, default="verilator",
                     help="simulator of --on cocotb (verilator)")
    run.add_argument("--waves", action="store_true", help="leave a waveform of --on cocotb")
    run.add_argument("-o", "--output", metavar="FILE", help="write the image after the run there")
    add_config_flags(run, output=False)
    return parser


def _show(image: ProgramImage) -> None:
    print(f"config: {describe(image.config)}")
    print(f"memory: {image.memory.size} bytes from {image.base:#x} on, "
          f"program at {image.address:#x}")
    print("features: " + " ".join(f.name or hex(f) for f in image.features))
    for tensor in image.tensors:
        mark = ", result" if tensor.name in image.results else ""
        scale = image.scales.get(tensor.address)
        if scale is not None:
            of = "its row" if scale.stride else "all"
            each = "" if scale.items is None else f" × a bf16 of {of}"
            mark += f", a code counts {scale.factor:.6g}{each}"
        print(f"  {tensor.address:#010x} {tensor.rows:5} × {tensor.columns:<5} "
              f"{tensor.encoding.name:9} {tensor.name}{mark}")


def _on_cocotb(image: ProgramImage, config: AcceleratorConfig, options: argparse.Namespace
               ) -> int:
    """By the bench ``sim.bench.image_tb``, which compares every byte of memory with the machine
    model; ``RunError`` where one differs."""
    from sim.bench.runner import missing, run

    if missing(options.sim):
        raise RunError(f"{options.sim} is not installed")
    environment = {"OTTAVA_IMAGE": str(Path(options.file).resolve()),
                   "OTTAVA_LIMIT": str(cycle_limit(image, config))}
    report = run(Job(IMAGE, config, options.sim, environment), options.seed, options.waves)
    if not report.passed:
        raise RunError(report.message)
    print(f"bytes written: {report.cases}, {report.cycles} cycles, mismatches: 0")
    if report.waves is not None:
        print(f"waveform: {report.waves}")
    return 0


def _run(parser: argparse.ArgumentParser, image: ProgramImage, config: AcceleratorConfig,
         options: argparse.Namespace) -> int:
    if config != image.config:
        print("note: built for another configuration; results may differ in their last bits")
    if options.on == "cocotb":
        return _on_cocotb(image, config, options)
    run = (on_machine(image, config, options.quiet) if options.on == "machine"
           else on_rtl(image, config, options.quiet, seed=options.seed))
    if options.on == "rtl":
        print(f"built in {run.built:.1f} s")
    print(f"ran in {run.seconds:.1f} s" + (f", {run.cycles} cycles" if run.cycles else ""))
    if options.output is not None:
        save(parser, options.output, replace(image, memory=run.memory).save)
        print(f"wrote {options.output}")
    if options.on == "rtl":
        written = 0 if run.written is None else np.count_nonzero(run.written)
        print(f"bytes written: {written}, memory of {run.memory.size} bytes compared, "
              f"mismatches: {run.mismatches}")
        return 1 if run.mismatches or not written else 0
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """0: ran, and equal where two were compared; 1: otherwise; 2: wrong arguments or file."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if getattr(options, "on", None) == "cocotb" and options.output is not None:
            parser.error("--output must be left out with --on cocotb, which leaves no memory")
        image = ProgramImage.load(options.file)
        if options.action == "show":
            _show(image)
            return 0
        if options.action == "c":
            text = c_image(image, options.name)
            return deliver(parser, options.output, lambda: text)
        config = changed_config(image.config, options)
        image.require(config)
        if options.output is not None:
            writable(parser, options.output)
        return _run(parser, image, config, options)
    except (ImageError, ValueError) as error:
        parser.error(str(error))
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(piped(main))
