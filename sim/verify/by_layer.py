"""A model run layer by layer, each a program of its own, in the memory of one: ``by_layer``.

What a layer leaves in BF16 is what the next one's program begins with, so that every bit is that of
one program for all.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from compiler.checkpoints.checkpoint import LazyBlocks
from compiler.checkpoints.description import Tokens, Transformer
from compiler.checkpoints.inputs import Inputs, Step
from compiler.checkpoints.source import fp32_states
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import make_steps
from compiler.lowering.programs import Programs
from compiler.program.builder import read
from compiler.program.lowered import LoweredProgram
from hdl.spec.config import AcceleratorConfig
from sim.verify.compare import Comparison, compare
from sim.verify.expected import expected
from sim.verify.runner import ImageRun, on_machine

__all__ = ["LayerRun", "by_layer"]


@dataclass(frozen=True)
class LayerRun:
    """One layer's program, what ran and how it compares; ``states`` of the fp32 model."""

    model: Transformer
    program: LoweredProgram
    run: ImageRun
    comparison: Comparison
    steps: list[Step]
    states: dict[str, np.ndarray]


def by_layer(config: AcceleratorConfig, opened: Callable[[], Transformer], given: Inputs, *,
             level: Fusion = Fusion.RESIDUAL, seed: int | None = None, quiet: bool = True
             ) -> Iterator[LayerRun]:
    """Every layer of the model on the machine model, the first with the embedding, the last with
    the head. ``opened`` gives the model: once for all layers, and once more for its head, which
    would take memory meanwhile. ``ValueError``, ``RunError``."""
    model = _without_head(opened())
    last = len(model.blocks) - 1
    inputs = exact = given
    for index in range(last + 1):
        if index == last:
            model = _unkept(opened())
        if index:
            model = _without_table(model)
        made = _one(config, model, index, inputs, exact, level, seed, quiet)
        yield made
        inputs = _states(given, _left(made.program, made.run, index))
        exact = _states(given, made.states[f"layer {index}"])
        del made


def _one(config: AcceleratorConfig, model: Transformer, index: int, inputs: Inputs, exact: Inputs,
         level: Fusion, seed: int | None, quiet: bool) -> LayerRun:
    own, steps = range(index, index + 1), make_steps(model, inputs, None)
    program = Programs(config, model, level=level, layers=own).lower(inputs, seed=seed)
    run = on_machine(program.image, config, quiet)
    # One after the other, for each of them has a layer's weights.
    codes = expected(config, model, inputs, steps, level=level, layers=own, kept=0)
    comparison = compare(program, run, codes)
    del codes
    return LayerRun(model, program, run, comparison, steps, fp32_states(model, exact, own))


def _left(program: LoweredProgram, run: ImageRun, index: int) -> np.ndarray:
    """What the layer gave; where it is there in BF16 the other form is a rounding of that."""
    name = f"layer {index} "
    names = [found for found in program.results if found.startswith(name)
             and not found.endswith((" keys", " values"))]
    best = f"{name}bf16" if f"{name}bf16" in names else names[0]
    return read(run.memory, program.results[best], program.base)


def _states(given: Inputs, rows: np.ndarray) -> Inputs:
    """The next layer's inputs; what pads is NaN in fp32, and never seen."""
    values = np.nan_to_num(rows).reshape(*given.values.shape[:2], -1)
    return Inputs("states", values, given.valid, source=given.source)


def _unkept(model: Transformer) -> Transformer:
    """The model with layers that are read whenever they are asked for."""
    if isinstance(model.blocks, LazyBlocks):
        return replace(model, blocks=model.blocks.unkept())
    return model


def _without_head(model: Transformer) -> Transformer:
    return replace(_unkept(model), final_norm=None, head=None, transform=None)


def _without_table(model: Transformer) -> Transformer:
    """The model without its table's memory: states take the place of what it gives."""
    embedding = model.embedding
    if not isinstance(embedding, Tokens):
        return model
    table = np.broadcast_to(np.float32(0), embedding.table.shape)
    return replace(model, embedding=replace(embedding, table=table))
