"""A transformer on the accelerator: ``python -m sim.run minilm --fmt posit8 --on machine``.

Loads a checkpoint, lowers its layers to one program, runs it and compares every byte of every
layer's output: ``--on rtl`` runs the generated Verilog through its AXI ports on Verilator against
the machine model, ``--on machine`` runs the machine model against the arithmetic called without a
program. Errors against an fp32 forward are printed beside. Exit code 1 when a byte differs, 2 for
wrong arguments and models.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.checkpoints.description import Transformer
from compiler.checkpoints.inputs import Inputs, Step
from compiler.checkpoints.packages import ModelUnavailable
from compiler.checkpoints.source import MODELS, fp32_states, open_model, read
from compiler.lowering.fusion import FUSION_LEVELS, Fusion, fusion_named
from compiler.lowering.lower import layer_range, lower, make_steps
from compiler.program.assembly.listing import disassemble
from compiler.program.lowered import LoweredProgram
from gen.cli import Parser, add_config_flags, config_from, piped
from hdl.spec.config import AcceleratorConfig
from sim.verify.compare import Comparison, compare
from sim.verify.expected import expected
from sim.verify.report import report
from sim.verify.runner import ImageRun, RunError, on_machine, on_rtl

__all__ = ["Work", "main", "prepare"]


@dataclass(frozen=True)
class Work:
    """A program with what it was made from."""

    config: AcceleratorConfig
    model: Transformer
    inputs: Inputs
    layers: range
    steps: list[Step]
    level: Fusion
    states: dict[str, np.ndarray]
    program: LoweredProgram


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m sim.run", description=__doc__.split(":")[0] + ".")
    parser.add_argument("model", metavar="MODEL",
                        help=f"{', '.join(MODELS)}, or the path of a checkpoint")
    parser.add_argument("--on", choices=("rtl", "machine"), default="rtl")
    parser.add_argument("--fusion", default="residual",
                        help=f"one of {', '.join(FUSION_LEVELS)} (residual)")
    parser.add_argument("--layers", metavar="A:B", help="layers A to B − 1 alone (all)")
    parser.add_argument("--tokens", type=int,
                        help="positions (32, of an image all its patches)")
    parser.add_argument("--decode", type=int, default=0, metavar="N",
                        help="pass the last N positions one by one, with a cache of keys and "
                        "values (0)")
    parser.add_argument("--adapter", type=Path, metavar="PATH",
                        help="merge these adapters into the model: a folder or a file of peft, or "
                        "what python -m sim.train wrote")
    parser.add_argument("--memory", type=int, metavar="BYTES",
                        help="refuse a program that needs more than this memory")
    parser.add_argument("--dump", type=Path, metavar="FILE",
                        help="write the program there, one line a command (- for the output)")
    parser.add_argument("--image", type=Path, metavar="FILE",
                        help="write program and memory there, for python -m sim.image")
    parser.add_argument("--offline", action="store_true",
                        help="take models from the cache, never from the network")
    parser.add_argument("--progress", action="store_true", default=None,
                        help="tell on standard error how far a run is (where it is a terminal)")
    parser.add_argument("--seed", type=int, default=0,
                        help="fills unused memory, and random models and inputs")
    add_config_flags(parser, output=False)
    return parser


def _layers(text: str | None) -> range | None:
    if text is None:
        return None
    first, colon, last = text.partition(":")
    try:
        return range(int(first or 0), int(last) if colon else int(first) + 1)
    except ValueError:
        raise ValueError(f"layers must be A:B, two numbers, not {text!r}") from None


def _steps(tokens: int, decode: int) -> list[int] | None:
    if not decode:
        return None
    if not 0 < decode < tokens:
        raise ValueError(f"decode must be from 0 to tokens − 1 = {tokens - 1}, not {decode}")
    return [tokens - decode, *[1] * decode]


def _merged(model: Transformer, path: Path, config: AcceleratorConfig) -> Transformer:
    """With adapters as training merges them: inference has the bits of its forward pass."""
    from compiler.training.adapters import load_adapters, merge
    from compiler.training.gradients.eight_bit import EightBit  # imports numba

    return merge(model, load_adapters(path, model), EightBit(config))


def prepare(options: argparse.Namespace) -> Work:
    """Load the model, lower it; ``ValueError``, ``ModelUnavailable`` in one line."""
    config = config_from(options)
    level = fusion_named(options.fusion)
    model = open_model(options.model, options.offline, options.seed)
    if options.adapter is not None:
        model = _merged(model, options.adapter, config)
    layers = layer_range(model, _layers(options.layers))
    inputs = read(options.model, model, options.tokens, options.offline, options.seed)
    inputs.check(model)
    steps = _steps(inputs.length, options.decode)
    states = fp32_states(model, inputs, layers)
    if layers.start:
        entry = states["embedding"].reshape(*inputs.values.shape[:2], -1)
        inputs = Inputs("states", entry, inputs.valid)
    program = lower(config, model, inputs, level=level, layers=layers, steps=steps,
                    seed=options.seed)
    if options.memory is not None and program.memory.size > options.memory:
        raise ValueError(f"memory must be at least {program.memory.size} bytes for this program, "
                         f"not {options.memory}")
    return Work(config, model, inputs, layers, make_steps(model, inputs, steps), level, states,
                program)


def _write(options: argparse.Namespace, program: LoweredProgram) -> None:
    """The files that are asked for; ``ValueError``."""
    lines = disassemble(program.memory, program.address, program.base) if options.dump else []
    text = "\n".join(lines) + "\n"
    if str(options.dump) == "-":
        sys.stdout.write(text)
    elif options.dump is not None:
        _save("dump", options.dump, lambda path: path.write_text(text))
    if options.image is not None:
        _save("image", options.image, program.image.save)


def _save(name: str, path: Path, write: Callable[[Path], object]) -> None:
    try:
        write(path)
    except OSError as error:
        raise ValueError(f"{name} must be a writable file, not {str(path)!r}: "
                         f"{error.strerror or error}") from error


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
    try:
        work = prepare(options)
        _write(options, work.program)
    except (ValueError, ModelUnavailable) as error:
        parser.error(str(error))
    config, program = work.config, work.program
    print(f"config: fmt {config.fmt}, acc {config.acc}, softmax {config.softmax}, "
          f"dim {config.dim}, lanes {config.lanes}, fusion {work.level.name.lower()}")
    print(f"work: {work.model.name}, layers {work.layers.start} to {work.layers.stop - 1}, "
          f"{work.inputs.length} positions, {program.macs} MACs, {program.memory.size} bytes")
    print(f"lowered in {time.monotonic() - started:.1f} s")
    try:
        run, comparison = _run(work, options)
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report(config, program, run, comparison, work.steps, work.states)
    return 1 if comparison.mismatches else 0


if __name__ == "__main__":
    sys.exit(piped(main))
