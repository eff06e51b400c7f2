"""Models as programs without their weights: what the cycle model runs.

Timing depends on shapes alone. Every array of a model is replaced by zeros, one array for each
shape, so that lowering is quick and layers share their constants; addresses keep their alignment.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from compiler.centred import centred
from compiler.checkpoints import NAMES
from compiler.checkpoints.description import Patches, Tokens, Transformer
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.scales import ATTENDED, Scales, placed_linears
from compiler.checkpoints.source import open_model
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import layer_range, lower
from compiler.lowering.scaling import STATIC
from compiler.program.records import commands
from hdl.spec.commands import Opcode
from hdl.spec.config import AcceleratorConfig
from sim.cycles.shapes import SHAPES

__all__ = ["MODELS", "Workload", "hollow", "named", "workload"]

MODELS = (*SHAPES, *NAMES)
_PART = re.compile(r"(step \d+ |encoder )?(embedding|layer \d+|final norm|pooled|head)")


@dataclass(frozen=True)
class Workload:
    """A program to be timed: its commands' fields and its image, all zeros but the program.

    For each command the tensor that it writes and the part of the model that it belongs to; both
    are empty for FENCE and END.
    """

    name: str
    config: AcceleratorConfig
    commands: list[dict[str, int]]
    memory: np.ndarray
    address: int
    labels: list[str]
    parts: list[str]

    @cached_property
    def macs(self) -> list[int]:
        """Multiply-accumulates of each command."""
        return [c["m"] * c["k"] * c["n"] if c["opcode"] == Opcode.GEMM else 0
                for c in self.commands]


def hollow(part: Any, zeros: dict[tuple[int, ...], np.ndarray] | None):
    """``part`` with all its arrays replaced by zeros of their shapes, each shape's the same out of
    ``zeros``; ``None``: each array its own."""
    if isinstance(part, np.ndarray):
        if zeros is None:
            return np.zeros(part.shape, np.float32)
        return zeros.setdefault(part.shape, np.zeros(part.shape, np.float32))
    if isinstance(part, (tuple, list)):
        return tuple(hollow(item, zeros) for item in part)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{item.name: hollow(getattr(part, item.name), zeros)
                                for item in fields(part)})
    return part


def named(name: str, offline: bool = False) -> Transformer:
    """A model by its shapes alone (``SHAPES``), by name or path; as ``open_model``."""
    return SHAPES[name]() if name in SHAPES else open_model(name, offline)


def _inputs(model: Transformer, layers: range, tokens: int) -> Inputs:
    if layers.start:
        return Inputs("states", np.zeros((1, tokens, model.width), np.float32))
    if isinstance(model.embedding, Patches):
        items = model.embedding.projection.weight.shape[1]
        return Inputs("patches", np.zeros((1, tokens, items), np.float32))
    return Inputs("ids", np.arange(tokens)[None] % len(model.embedding.table),
                  source=_source(model.encoder, tokens))


def _source(encoder: Transformer | None, tokens: int) -> Inputs | None:
    """As many tokens for an encoder, or all the sound that it takes."""
    if encoder is None:
        return None
    embedding = encoder.embedding
    if isinstance(embedding, Patches):
        shape = 1, embedding.rate * len(embedding.positions), embedding.projection.weight.shape[1]
        return Inputs("patches", np.zeros(shape, np.float32))
    return Inputs("ids", np.zeros((1, tokens), np.int64))


def _ones(model: Transformer) -> Scales:
    """A scale of 1 for every operand."""
    places = [place for place, _ in placed_linears(model, dict(enumerate(model.blocks)))]
    names = [f"{place}.input" for place in places]
    names += [f"{place.rpartition('.')[0]}.{name}" for place in places
              if place.endswith(".query") for name in ATTENDED]
    return Scales({name: np.ones(1, np.float32) for name in names})


def _parts(labels: Sequence[str]) -> list[str]:
    """The part of the model that each label names, else that of the command before it.

    Keys and values that last belong to no step by name: then it is the current step.
    """
    found, step, part = [], "", "before"
    for label in labels:
        match = _PART.match(label)
        if match:
            step = match.group(1) or ("" if step == "encoder " else step)
            part = step + match.group(2)
        found.append(part if label else "")
    return found


def workload(config: AcceleratorConfig, name: str, *, tokens: int | None = None,
             layers: range | slice | None = None, level: Fusion = Fusion.RESIDUAL,
             steps: Sequence[int] | None = None, offline: bool = False,
             scales: str | None = None, centring: str = "once") -> Workload:
    """The program of the model called ``name``, or at that path, over ``tokens`` positions (128,
    or as many as an image has patches). ``scales``: one of ``SCALES``, or static, whichever they
    are. ``centring``: of ``CENTRINGS``. ``ValueError`` in one line, ``ModelUnavailable``."""
    model = named(name, offline)
    if tokens is None:
        embedding = model.embedding
        whole = embedding.positions if isinstance(embedding, Patches) else None
        tokens = 128 if whole is None else len(whole)
    if tokens < 1:
        raise ValueError(f"tokens must be at least 1, not {tokens!r}")
    if isinstance(model.embedding, Tokens):
        model = replace(model, embedding=replace(
            model.embedding, table=model.embedding.table[:tokens]))
    model = centred(hollow(model, {}), config, centring)
    layers = layer_range(model, layers)
    inputs = _inputs(model, layers, tokens)
    program = lower(config, model, inputs, level=level, layers=layers, steps=steps, seed=None,
                    scales=_ones(model) if scales == STATIC else scales)
    listed = [found for _, found in commands(program.memory, program.address, program.base)]
    return Workload(model.name, config, listed, program.memory, program.address,
                    list(program.written), _parts(program.written))
