"""A model by name or path lowered as command-line options say."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compiler.calibration import chosen_scales
from compiler.centred import CENTRINGS
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.inputs import Inputs, Step
from compiler.checkpoints.scales import Scales
from compiler.checkpoints.source import MODELS, fp32_states, read
from compiler.examples import add_input_flags, batches, own_examples
from compiler.lowering.fusion import FUSION_LEVELS, Fusion, fusion_named
from compiler.lowering.lower import layer_range, make_steps
from compiler.lowering.place import Tell, silent
from compiler.lowering.programs import Programs
from compiler.lowering.scaling import SCALES, STATIC, scales_name
from compiler.opening import opened_model
from compiler.program.lowered import LoweredProgram
from gen.cli import (
    add_adapter,
    add_balance,
    add_centring,
    add_config_flags,
    add_model_flags,
    add_scales,
    add_seed,
    config_from,
    integer,
)
from hdl.spec.config import AcceleratorConfig

__all__ = ["NO_MEMORY", "Asked", "Opened", "Work", "add_flags", "decode_steps", "heading",
           "inputs_of", "model_of", "opened", "prepare", "scales_of",
           "summary"]

NO_MEMORY = ("this machine has not enough memory for such a program: --memory BYTES tells what it "
             "needs, fewer --tokens need less")


@dataclass(frozen=True)
class Asked:
    """What a program is to be made from. ``states``: what an fp32 forward has (``fp32_states``),
    where layers that are not the first were to start from it."""

    config: AcceleratorConfig
    model: Transformer
    inputs: Inputs
    layers: range
    step_lengths: Sequence[int] | None
    level: Fusion
    scales: str | Scales
    states: dict[str, np.ndarray]

    @property
    def steps(self) -> list[Step]:
        return make_steps(self.model, self.inputs, self.step_lengths)


@dataclass(frozen=True)
class Work(Asked):
    """With the program."""

    program: LoweredProgram


@dataclass
class Opened:
    """A model and a build as options say, before there are inputs. ``programs``: those of the
    layers that are lowered, on weights that are placed once."""

    config: AcceleratorConfig
    model: Transformer
    layers: range
    level: Fusion
    programs: Programs


def add_flags(parser: argparse.ArgumentParser) -> None:
    """MODEL, the part of it that is lowered and how, its inputs, the build, ``--memory`` and
    ``--seed``."""
    add_model_flags(parser, MODELS, tuple(FUSION_LEVELS), tokens="32, of an image all its patches")
    add_input_flags(parser)
    add_adapter(parser)
    add_scales(parser, (*SCALES, STATIC))
    add_balance(parser)
    add_centring(parser, CENTRINGS)
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


def opened(options: argparse.Namespace, tell: Tell = silent) -> Opened:
    """Load the model; ``tell`` hears how far its weights are, when they are placed.
    ``ValueError``, ``ModelUnavailable`` in one line."""
    config = config_from(options)
    level = fusion_named(options.fusion)
    model = model_of(options, config)
    layers = layer_range(model, options.layers)
    if layers.stop < len(model.blocks):  # what follows the last layer is of no use
        model = replace(model, final_norm=None, head=None, transform=None)
    return Opened(config, model, layers, level,
                  Programs(config, model, level=level, layers=layers, tell=tell,
                           scales=scales_of(options, model, config, level)))


def scales_of(options: argparse.Namespace, model: Transformer, config: AcceleratorConfig,
              level: Fusion) -> str | Scales | None:
    """What ``--scales`` says: a name, the scales in a file, or those that calibration finds;
    ``ValueError``."""
    return chosen_scales(options.scales, options.model, model, config, level, options.offline,
                         options.seed, options.balance)


def model_of(options: argparse.Namespace, config: AcceleratorConfig) -> Transformer:
    """With its adapters, balanced and centred as is asked for; ``ValueError``,
    ``ModelUnavailable``."""
    return opened_model(options.model, config, adapter=options.adapter, balance=options.balance,
                        centring=options.centring, offline=options.offline, seed=options.seed)


def inputs_of(options: argparse.Namespace, model: Transformer) -> Inputs:
    """What the model is run on: the first of one's own inputs, or the project's."""
    own = own_examples(options, model)
    if own:
        return next(batches(own, 1, model))[1]
    return read(options.model, model, options.tokens, options.offline, options.seed)


def prepare(options: argparse.Namespace, on: Opened | None = None, inputs: Inputs | None = None,
            begun: Callable[[Asked], None] | None = None) -> Work:
    """Load the model unless it is ``opened``, lower it for ``inputs``; ``ValueError``,
    ``ModelUnavailable`` in one line. ``begun`` hears what is lowered once nothing refuses it any
    more, before its weights are encoded, which takes most of the time."""
    on = opened(options) if on is None else on
    model, layers = on.model, on.layers
    if inputs is None:
        inputs = inputs_of(options, model)
    inputs.check(model)
    lengths = decode_steps(inputs.length, options.decode)
    found: dict[str, np.ndarray] = {}
    if layers.start:
        found = fp32_states(model, inputs, layers)
        entry = np.nan_to_num(found["embedding"]).reshape(*inputs.values.shape[:2], -1)
        inputs = Inputs("states", entry, inputs.valid, source=inputs.source)
    asked = Asked(on.config, model, inputs, layers, lengths, on.level, on.programs.scales, found)
    program = on.programs.lower(inputs, lengths, seed=options.seed, memory=options.memory,
                                begun=lambda: None if begun is None else begun(asked))
    return Work(**vars(asked), program=program)


def summary(work: Work) -> list[str]:
    """``heading`` of a program."""
    return heading(work.config, work.level, work.model, work.layers,
                   f"{work.inputs.length} positions, {work.program.macs} MACs, "
                   f"{work.program.memory.size} bytes", work.scales)


def heading(config: AcceleratorConfig, level: Fusion, model: Transformer, layers: range, what: str,
            scales: str | Scales = "unit") -> list[str]:
    """The build, what is lowered, and what there is to know about the model."""
    softmax = "lane fixed" if config.fixed else f"softmax {config.softmax}"
    return [f"config: fmt {config.fmt}, acc {config.acc}, {softmax}, "
            f"dim {config.dim}, lanes {config.lanes}, fusion {level.name.lower()}"
            + (f", scales {scales_name(scales)}" if config.scales else ""),
            f"work: {model.name}, layers {layers.start} to {layers.stop - 1}, {what}",
            *(f"note: {note}" for note in model.notes)]
