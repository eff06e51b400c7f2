"""What the model of a cell gives by a scheme of prior work, or with some parameters rounded and
nothing else."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from compiler.checkpoints.description import Transformer
from compiler.training.gradients.network import Batch, logits_of
from compiler.training.gradients.numerics import Exact
from compiler.training.gradients.parameters import parameters
from compiler.training.gradients.weights import Weights
from hdl.spec.formats import format_named
from sim.campaigns.accuracy.cells import Cell
from sim.campaigns.accuracy.schemes import Scheme
from sim.campaigns.accuracy.tasks import model_of, task_of
from sim.model import codec

__all__ = ["computed"]

Array = np.ndarray
_PARTS: dict[str, Callable[[str], bool]] = {
    "segment row": lambda name: name == "embedding.segment",
    "other embeddings": lambda name: name in ("embedding.table", "embedding.positions"),
    "gains": lambda name: name.endswith("gain"),
    "matrices": lambda name: name.startswith("blocks") and name.endswith("weight")}


def computed(cell: Cell, numbers: Sequence[int]) -> Array:
    """A row for each of the examples ``numbers``, one after the other: scales are of a text."""
    task = task_of(cell.task, cell.count, cell.tokens)
    assert cell.scheme is not None, "a cell of a scheme"
    model, weights, scheme = _opened(cell.scheme, cell.task)
    return np.concatenate([_logits(model, weights, scheme, task.examples[number])
                           for number in numbers])


def _logits(model: Transformer, weights: Weights, scheme: Exact, example: Array) -> Array:
    return logits_of(model, weights, scheme, Batch(example[None], np.zeros(1, np.int64)))


@lru_cache(maxsize=1)
def _opened(name: str, task_name: str) -> tuple[Transformer, Weights, Exact]:
    """The model with its adapters merged in fp32; a scheme that has seen what it is calibrated
    on."""
    task = task_of(task_name)
    model = model_of(task, None)
    fmt, of, part = name.partition(" of ")
    if of:
        encoding = format_named(fmt).encodings[0]
        arrays = {one: codec.decode(encoding, codec.encode(encoding, values))
                  if _PARTS[part](one) else values for one, values in parameters(model).items()}
        return model, Weights(arrays, Exact()), Exact()
    scheme = Scheme(name)
    weights = Weights(parameters(model), scheme)
    if name == "smoothquant":
        scheme.calibrating = True
        for example in task.calibration:
            _logits(model, weights, scheme, example)
        scheme.calibrating = False
    return model, weights, scheme
