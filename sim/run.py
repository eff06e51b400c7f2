"""A transformer on the accelerator: ``python -m sim.run minilm --fmt posit8 --on machine``.

Loads a checkpoint, lowers its layers to one program, runs it and compares every byte of every
layer's output: ``--on rtl`` runs the generated Verilog through its AXI ports on Verilator against
the machine model, ``--on machine`` runs the machine model against the arithmetic called without a
program. Errors against an fp32 forward are printed as well, and what the model gives. Inputs are
the project's or one's own (``--text`` and others), ``-o`` writes results, ``--generate`` makes
text. Exit code 1 when a byte differs, 2 for wrong arguments and models.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait
from typing import Self

import numpy as np
from threadpoolctl import threadpool_limits

from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.packages import ModelUnavailable
from compiler.checkpoints.source import fp32_states
from compiler.examples import Example, batches
from compiler.lowering.fusion import fusion_named
from compiler.lowering.place import part_of
from compiler.program.lowered import LoweredProgram
from compiler.work import (
    NO_MEMORY,
    Asked,
    Opened,
    Work,
    add_flags,
    heading,
    model_of,
    opened,
    prepare,
    scales_of,
    summary,
)
from gen.cli import (
    Line,
    Parser,
    add_on,
    add_quiet,
    config_from,
    deliver,
    make_folder,
    piped,
    save,
    writable,
)
from sim.inference import command
from sim.inference.results import Result, results_of, token_names
from sim.verify.compare import Comparison, compare
from sim.verify.expected import expected
from sim.verify.report import report
from sim.verify.runner import ImageRun, RunError, on_machine, on_rtl

__all__ = ["main"]

_CODES = 0.9  # of what is computed beside; the rest is the fp32 model
_LOOK = 0.5  # seconds between looks at how far that is


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.run", description=__doc__.split(":")[0] + ".")
    add_flags(parser)
    add_on(parser, "rtl", rtl="the generated Verilog, against the machine model",
           machine="the machine model, against arithmetic without a program")
    parser.add_argument("--dump", metavar="FILE",
                        help="write the program there, one line per command (- for the output)")
    parser.add_argument("--program", metavar="FILE",
                        help="write program and memory there, for python -m sim.image")
    parser.add_argument("--by-layer", action="store_true",
                        help="with --on machine: a program for each layer, in the memory of one; "
                        "every bit is that of one program for all")
    command.add_flags(parser)
    add_quiet(parser)
    return parser


def _write(parser: argparse.ArgumentParser, options: argparse.Namespace,
           program: LoweredProgram) -> None:
    """The files that are asked for."""
    if options.dump is not None:
        from compiler.program.assembly.listing import disassemble

        lines = disassemble(program.memory, program.address, program.base)
        path = None if options.dump == "-" else options.dump
        deliver(parser, path, lambda: "\n".join(lines) + "\n", "dump")
    if options.program is not None:
        save(parser, options.program, program.image.save, "program")


class _Stopped(Exception):
    """Nobody waits for what is computed beside."""


class _Beside:
    """What is computed beside lowering and the machine model, within a ``with``: most of all is in
    compiled loops, which share no lock. Where an error or an interrupt leaves the ``with``, it ends
    after the layer that it is at."""

    def __init__(self, pool: Executor, options: argparse.Namespace, given: Inputs) -> None:
        self._pool, self._given, self._expects = pool, given, options.on == "machine"
        self._quiet, self._so_far, self._left = options.quiet, (0.0, "begun"), False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._left = True

    def begin(self, asked: Asked) -> None:
        """Once nothing refuses the program any more."""
        self._line = Line("expected codes", quiet=self._quiet)
        self._told = self._pool.submit(self._compute, asked)

    def _tell(self, share: float, where: str) -> None:
        if self._left:
            raise _Stopped
        self._so_far = share, where

    def _compute(self, asked: Asked
                 ) -> tuple[dict[str, np.ndarray] | None, float, dict[str, np.ndarray]]:
        started, codes = time.monotonic(), None
        if self._expects:
            codes = expected(asked.config, asked.model, asked.inputs, asked.steps,
                             level=asked.level, layers=asked.layers, scales=asked.scales,
                             tell=part_of(self._tell, 0, _CODES))
        seconds = time.monotonic() - started
        return codes, seconds, asked.states or fp32_states(asked.model, self._given, asked.layers)

    def result(self) -> tuple[dict[str, np.ndarray] | None, dict[str, np.ndarray]]:
        """What every result must be, on the machine model, and what the fp32 model has."""
        with self._line as line:
            while not wait([self._told], timeout=_LOOK).done:
                line.tell(*self._so_far)
        codes, seconds, states = self._told.result()
        if self._expects:
            print(f"expected codes in {seconds:.1f} s")
        return codes, states


def _run(work: Work, options: argparse.Namespace, beside: _Beside
         ) -> tuple[ImageRun, Comparison, dict[str, np.ndarray]]:
    """With what the fp32 model has."""
    program = work.program
    if options.on == "rtl":
        run = on_rtl(program.image, work.config, options.quiet, seed=options.seed)
        print(f"built in {run.built:.1f} s")
    else:
        run = on_machine(program.image, work.config, options.quiet)
    codes, states = beside.result()
    print(f"ran in {run.seconds:.1f} s on the {run.where}")
    return run, compare(program, run, codes), states


def _batches(parser: argparse.ArgumentParser, options: argparse.Namespace, on: Opened,
             examples: Sequence[Example], pool: Executor) -> int:
    """Lower, run and compare batch after batch; 1 where a byte differs."""
    if options.image_only:
        return _images(options, on, examples, parser)
    results: list[Result] = []
    wrong = 0
    names = token_names(on.model, command.tokenizer_of(options))
    for own, inputs in batches(examples, options.batch, on.model):
        started = time.monotonic()
        with _Beside(pool, options, inputs) as beside:
            work = prepare(options, on, inputs, beside.begin)
            if not own.start:
                _write(parser, options, work.program)
                print("\n".join(summary(work)))
            if len(own) < len(examples):
                print(f"inputs {own.start + 1} to {own.stop} of {len(examples)}, "
                      f"{inputs.length} positions")
            print(f"lowered in {time.monotonic() - started:.1f} s")
            run, comparison, states = _run(work, options, beside)
        report(work.config, work.program, run, comparison, work.steps, states)
        wrong += comparison.mismatches
        if not work.step_lengths:
            results += results_of(on.model, work.program, run.memory,
                                  [examples[index] for index in own], **names)
    if command.wanted(options) and results and on.layers.stop == len(on.model.blocks):
        command.deliver(options, command.about(options, on.config, on.level, on.layers), results)
    return 1 if wrong else 0


def _images(options: argparse.Namespace, on: Opened, examples: Sequence[Example],
            parser: argparse.ArgumentParser) -> int:
    """Write a program for each kind of inputs; ``ValueError``."""
    kinds = command.kinds(options, batches(examples, options.batch, on.model))
    for index, inputs in enumerate(kinds):
        work = prepare(options, on, inputs)
        if not index:
            _write(parser, options, work.program)
        print("\n".join(summary(work)))
        command.image_only(options, on, work.program, work.inputs)
    return 0


def _by_layer(options: argparse.Namespace) -> int:
    """A program for each layer; 1 where a byte differs, ``ValueError`` for what that cannot do."""
    from sim.verify.by_layer import by_layer

    for name in ("generate", "decode", "layers", "program", "dump", "image_only", "memory",
                 "balance"):
        if getattr(options, name):
            raise ValueError(f"--by-layer takes no --{name.replace('_', '-')}")
    if options.on != "machine":
        raise ValueError(f"--by-layer runs on the machine model, not on {options.on}")
    config, level = config_from(options), fusion_named(options.fusion)
    model = model_of(options, config)
    layers = range(len(model.blocks))
    print("\n".join(heading(config, level, model, layers, "a program for each")))
    examples = command.given_examples(options, model)
    groups = list(batches(examples, options.batch, model))
    names = token_names(model, command.tokenizer_of(options))
    scales = scales_of(options, model, config, level)
    del model  # its ends take memory of their own
    wrong, results = 0, list[Result]()
    for own, inputs in groups:
        for one in by_layer(config, lambda: model_of(options, config), inputs, level=level,
                            scales=scales, seed=options.seed, quiet=options.quiet):
            print(f"{one.program.memory.size} bytes, ran in {one.run.seconds:.1f} s", flush=True)
            report(config, one.program, one.run, one.comparison, one.steps, one.states)
            wrong += one.comparison.mismatches
            if one.model is not None:
                results += results_of(one.model, one.program, one.run.memory,
                                      [examples[index] for index in own], **names)
            del one  # before the next one is made
    if command.wanted(options):
        command.deliver(options, command.about(options, config, level, layers), results)
    return 1 if wrong else 0


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Places that cannot be written are told before the work."""
    for what in ("dump", "program"):
        if getattr(options, what) not in (None, "-"):
            writable(parser, getattr(options, what), what)
    if options.image_only and options.output is None:
        parser.error("--image-only needs -o DIR, the folder that it writes to")
    if options.weights_separate and (not options.image_only or options.generate is not None):
        parser.error("--weights-separate needs --image-only, and takes no --generate, whose "
                     "programs lie in one memory with their weights")
    if options.output is not None:
        make_folder(parser, options.output)
        writable(parser, options.output / "results.json")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 all bytes equal, 1 a difference, 2 wrong arguments or no model."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check(parser, options)
    try:
        # The fp32 model is small: several threads would wait for each other on a busy machine.
        with (threadpool_limits(1, "blas"),
              Line("lowered", quiet=options.quiet) as line):
            if options.by_layer:
                return _by_layer(options)
            on = opened(options, line.tell)
            line.restart()
            examples = command.given_examples(options, on.model)
            if options.generate is None:
                with ThreadPoolExecutor(1) as pool:
                    return _batches(parser, options, on, examples, pool)
            command.run_generation(options, on, examples)
            return 0
    except (ValueError, ModelUnavailable) as error:
        parser.error(str(error))
    except MemoryError:
        parser.error(NO_MEMORY)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(piped(main))
