"""A model by name or path lowered as command-line options say."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.checkpoints.description import Transformer
from compiler.checkpoints.inputs import Inputs, Step
from compiler.checkpoints.source import MODELS, fp32_states, open_model, read
from compiler.lowering.fusion import FUSION_LEVELS, Fusion, fusion_named
from compiler.lowering.lower import layer_range, lower, make_steps
from compiler.program.lowered import LoweredProgram
from gen.cli import add_config_flags, add_model_flags, add_seed, config_from, integer
from hdl.spec.config import AcceleratorConfig

__all__ = ["Work", "add_flags", "decode_steps", "prepare", "summary"]


@dataclass(frozen=True)
class Work:
    """A program with what it was made from. ``states``: what an fp32 forward has (``fp32_states``),
    where that was asked for or needed."""

    config: AcceleratorConfig
    model: Transformer
    inputs: Inputs
    layers: range
    step_lengths: Sequence[int] | None
    level: Fusion
    states: dict[str, np.ndarray]
    program: LoweredProgram

    @property
    def steps(self) -> list[Step]:
        return make_steps(self.model, self.inputs, self.step_lengths)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """MODEL, the part of it that is lowered and how, the build, ``--memory`` and ``--seed``."""
    add_model_flags(parser, MODELS, tuple(FUSION_LEVELS), tokens="32, of an image all its patches")
    parser.add_argument("--adapter", type=Path, metavar="PATH",
                        help="merge these adapters into the model: a folder or a file of peft, or "
                        "what python -m sim.train wrote")
    parser.add_argument("--memory", type=integer(1), metavar="BYTES",
                        help="refuse a program that needs more than this memory")
    add_seed(parser, "fills unused memory, and random models and inputs")
    add_config_flags(parser, output=False)


def decode_steps(positions: int, decode: int) -> list[int] | None:
    """Positions of each step where the last ``decode`` of them pass one by one; ``ValueError``."""
    if not decode:
        return None
    if decode >= positions:
        raise ValueError(f"decode must be from 0 to tokens − 1 = {positions - 1}, not {decode}")
    return [positions - decode, *[1] * decode]


def prepare(options: argparse.Namespace, states: bool = False) -> Work:
    """Load the model, lower it; ``ValueError``, ``ModelUnavailable`` in one line. ``states``: run
    it in fp32 as well."""
    config = config_from(options)
    level = fusion_named(options.fusion)
    model = open_model(options.model, options.offline, options.seed)
    if options.adapter is not None:
        model = _merged(model, options.adapter, config)
    layers = layer_range(model, options.layers)
    inputs = read(options.model, model, options.tokens, options.offline, options.seed)
    inputs.check(model)
    lengths = decode_steps(inputs.length, options.decode)
    found = fp32_states(model, inputs, layers) if states or layers.start else {}
    if layers.start:
        entry = found["embedding"].reshape(*inputs.values.shape[:2], -1)
        inputs = Inputs("states", entry, inputs.valid)
    program = lower(config, model, inputs, level=level, layers=layers, steps=lengths,
                    seed=options.seed)
    if options.memory is not None and program.memory.size > options.memory:
        raise ValueError(f"memory must be at least {program.memory.size} bytes for this program, "
                         f"not {options.memory}")
    return Work(config, model, inputs, layers, lengths, level, found, program)


def _merged(model: Transformer, path: Path, config: AcceleratorConfig) -> Transformer:
    """With adapters as training merges them: inference has the bits of its forward pass."""
    from compiler.training.adapters import load_adapters, merge
    from compiler.training.gradients.eight_bit import EightBit  # imports numba

    return merge(model, load_adapters(path, model), EightBit(config))


def summary(work: Work) -> list[str]:
    """Two lines: the build, and what is lowered."""
    config, program = work.config, work.program
    return [f"config: fmt {config.fmt}, acc {config.acc}, softmax {config.softmax}, "
            f"dim {config.dim}, lanes {config.lanes}, fusion {work.level.name.lower()}",
            f"work: {work.model.name}, layers {work.layers.start} to {work.layers.stop - 1}, "
            f"{work.inputs.length} positions, {program.macs} MACs, {program.memory.size} bytes"]
