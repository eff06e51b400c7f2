"""A model run layer by layer, each a program of its own, in the memory of one: ``by_layer``.

What a layer leaves in BF16 is what the next one's program begins with, so that every bit is that of
one program for all.
"""

import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from compiler.checkpoints.checkpoint import LazyBlocks
from compiler.checkpoints.description import Block, Tokens, Transformer
from compiler.checkpoints.inputs import Inputs, Step
from compiler.checkpoints.scales import Scales
from compiler.checkpoints.source import fp32_states
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import make_steps
from compiler.lowering.programs import Programs
from compiler.lowering.scaling import default_scales
from compiler.lowering.streaming import with_matrices
from compiler.program.builder import read
from compiler.program.lowered import LoweredProgram
from hdl.spec.config import AcceleratorConfig
from sim.verify.compare import Comparison, compare
from sim.verify.expected import expected
from sim.verify.runner import ImageRun, on_machine

__all__ = ["LayerRun", "by_layer"]


@dataclass(frozen=True)
class LayerRun:
    """One layer's program, what ran and how it compares; ``states`` of the fp32 model. ``model``:
    after the last layer, what the results are of."""

    model: Transformer | None
    program: LoweredProgram
    run: ImageRun
    comparison: Comparison
    steps: list[Step]
    states: dict[str, np.ndarray]


def by_layer(config: AcceleratorConfig, opened: Callable[[], Transformer], given: Inputs, *,
             level: Fusion = Fusion.RESIDUAL, scales: str | Scales | None = None,
             seed: int | None = None, quiet: bool = True) -> Iterator[LayerRun]:
    """Every layer of the model on the machine model, the first with the embedding, the last with
    the head. ``opened`` gives the model: once for all layers, and once more for its head, which
    would take memory meanwhile. ``ValueError``, ``RunError``."""
    model = opened()
    given.check(model)
    window = _Window(model.blocks)
    last = len(window) - 1
    model = replace(model, blocks=window)
    if last:
        model = replace(model, final_norm=None, head=None, transform=None)
    inputs = exact = given
    for index in range(last + 1):
        if index == last and last:
            del model
            model = replace(opened(), blocks=window)
        if index:
            model = _without_table(model)
        gc.collect()  # closures of what reads and lowers layers hold each other
        made = _one(config, model, window, index, inputs, exact, level, scales, seed, quiet)
        yield made
        inputs = _states(given, _left(made.program, made.run, index))
        exact = _states(given, made.states[f"layer {index}"])
        del made


def _one(config: AcceleratorConfig, model: Transformer, window: "_Window", index: int,
         inputs: Inputs, exact: Inputs, level: Fusion,
         scales: str | Scales | None, seed: int | None, quiet: bool) -> LayerRun:
    # One after the other: each has the layer's weights, and the last its memory besides.
    own, steps = range(index, index + 1), make_steps(model, inputs, None)
    window.hold(index)
    codes = expected(config, model, inputs, steps, level=level, layers=own, kept=0,
                     scales=scales or default_scales(config, level))
    states = fp32_states(model, exact, own)
    window.drop()
    gc.collect()
    programs = Programs(config, model, level=level, layers=own, scales=scales)
    program = programs.lower(inputs, seed=seed)
    gc.collect()
    run = on_machine(program.image, config, quiet)
    return LayerRun(model if own.stop == len(window) else None, program, run,
                    compare(program, run, codes), steps, states)


class _Window(Sequence[Block]):
    """Layers of which one at a time is in memory; of those that were only shapes are left, which
    is all that others look for there."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks = blocks.unkept() if isinstance(blocks, LazyBlocks) else blocks
        self._hollow: dict[int, Block] = {}
        self._held: tuple[int, Block] | None = None
        self._last = -1
        self.same = range(len(blocks))  # for whoever asks which layers are one: each is read

    def hold(self, index: int) -> None:
        """Read a layer, for all who ask for it."""
        self._hollow.pop(index, None)
        self._held = index, self._blocks[index]

    def drop(self) -> None:
        """Leave the shapes of the layer that was held; who asks for it next reads it anew."""
        assert self._held is not None, "a layer is held before it is dropped"
        index, block = self._held
        self._held = None
        self._last = index
        self._hollow[index] = with_matrices(
            block, lambda matrix: np.broadcast_to(np.float32(np.nan), matrix.shape))

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, index):
        index = range(len(self))[index]
        if self._held is not None and self._held[0] == index:
            return self._held[1]
        if index in self._hollow and index != self._last:
            return self._hollow[index]
        return self._blocks[index]


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


def _without_table(model: Transformer) -> Transformer:
    """The model without its table's memory: states take the place of what it gives."""
    embedding = model.embedding
    if not isinstance(embedding, Tokens):
        return model
    table = np.broadcast_to(np.float32(0), embedding.table.shape)
    return replace(model, embedding=replace(embedding, table=table))
