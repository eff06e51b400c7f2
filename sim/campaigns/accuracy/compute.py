"""What the model of a cell gives for examples: the programs that figures follow from."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np

from compiler.balanced import balanced
from compiler.centred import centred
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.reference import forward
from compiler.examples import Example
from compiler.training.gradients.network import Batch, logits_of
from compiler.training.gradients.numerics import Exact
from compiler.training.gradients.parameters import parameters
from compiler.training.gradients.weights import Weights
from sim.campaigns.accuracy.arithmetic import arithmetic_of
from sim.campaigns.accuracy.cells import PLAIN, Cell
from sim.campaigns.accuracy.losses import Run, foretold
from sim.campaigns.accuracy.tasks import Task, model_of, task_of
from sim.verify.arithmetic import Arithmetic
from sim.verify.expected import outputs

__all__ = ["computed"]

Array = np.ndarray
_ONE = Lock()  # threads of a worker share its models


def computed(cell: Cell, numbers: Sequence[int]) -> Array:
    """A row for each of the examples ``numbers``: what the model gives, or of a text what is
    ``foretold``."""
    task = task_of(cell.task, cell.count, cell.tokens)
    with _ONE:
        run = _plain(task) if cell.fmt == PLAIN else _rounded(cell, task)
        by_length: dict[int, list[int]] = {}
        for number in numbers:
            by_length.setdefault(len(task.examples[number]), []).append(number)
        found: dict[int, Array] = {}
        for own in by_length.values():
            if task.metric == "perplexity":  # logits of a whole vocabulary take their room
                found |= {number: foretold(run, task.examples[number]) for number in own}
                continue
            rows = run(np.stack([task.examples[number] for number in own]), False)
            found |= dict(zip(own, rows, strict=True))
    return np.stack([found[number] for number in numbers])


def _rounded(cell: Cell, task: Task) -> Run:
    math, model = _opened(replace(cell, tokens=None, count=None))

    def run(values: Array, every: bool) -> Array:
        inputs = Inputs("ids" if values.ndim == 2 else "patches", values)
        return outputs(math, model, inputs, level=cell.level, every=every)

    return run


@lru_cache(maxsize=1)
def _opened(cell: Cell) -> tuple[Arithmetic, Transformer]:
    """The arithmetic, which keeps its weights, and the model with its adapters."""
    merged = None if cell.merge == PLAIN else cell.config
    task = task_of(cell.task)
    model = model_of(task, merged)
    if cell.balance is not None:
        model = balanced(model, [Example(cell.task, values) for values in task.calibration])
    if cell.centring is not None:
        model = centred(model, cell.config, cell.centring)
    return arithmetic_of(cell, model), model


@lru_cache(maxsize=1)
def _exact(name: str) -> tuple[Transformer, Weights]:
    model = model_of(task_of(name), None)
    return model, Weights(parameters(model), Exact())


def _plain(task: Task) -> Run:
    """In float64, so that no figure hangs on the order in which a library adds."""
    if not task.trains:
        return _reference(_in_float64(model_of(task, None)))
    model, weights = _exact(task.name)

    def run(values: Array, every: bool) -> Array:
        return logits_of(model, weights, Exact(), Batch(values, np.zeros(len(values), np.int64)))

    return run


def _reference(model: Transformer) -> Run:
    """Of a model that has no backward pass, whose forward pass that of others is."""
    def run(values: Array, every: bool) -> Array:
        return np.concatenate([forward(model, own).output[slice(None) if every else slice(-1, None)]
                               for own in values])

    return run


def _in_float64(part: Any) -> Any:
    """A part of a description with its arrays in float64."""
    if isinstance(part, np.ndarray):
        return np.float64(part)
    if isinstance(part, tuple):
        return tuple(map(_in_float64, part))
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{own.name: _in_float64(getattr(part, own.name))
                                for own in fields(part)})
    return part
