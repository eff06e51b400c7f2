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
from hdl.spec.formats import Encoding, format_named
from sim.campaigns.accuracy.cells import Cell
from sim.campaigns.accuracy.losses import foretold
from sim.campaigns.accuracy.schemes import Scheme
from sim.campaigns.accuracy.tasks import model_of, task_of
from sim.model import codec

__all__ = ["computed"]

Array = np.ndarray
_PARTS: dict[str, Callable[[str], bool]] = {
    "segment row": lambda name: name == "embedding.segment",
    "other embeddings": lambda name: name in ("embedding.table", "embedding.positions"),
    "the table": lambda name: name == "embedding.table",
    "gains": lambda name: name.endswith("gain"),
    "matrices": lambda name: name.startswith("blocks") and name.endswith("weight")}


# What a layer with gates stores for its products, in this order; then what the head reads.
_STORED = ("attention's input", "queries", "keys", "values", "probabilities", "heads",
           "feed-forward's input", "gated products")
_OPERANDS: dict[str, Callable[[str], bool]] = {
    "gated products": lambda name: name == "gated products",
    "what the head reads": lambda name: name == "what the head reads",
    "other operands": lambda name: name not in ("gated products", "what the head reads")}


class _Operands(Exact):
    """Rounds nothing but some of what products read besides weights, of a decoder of ``layers``
    with gates that pools nothing."""

    def __init__(self, encoding: Encoding, layers: int, chosen: Callable[[str], bool]) -> None:
        super().__init__()
        self._encoding, self._layers, self._chosen = encoding, layers, chosen
        self.count = 0

    def stored(self, x: Array) -> Array:
        layer, place = divmod(self.count, len(_STORED))
        self.count += 1
        name = _STORED[place] if layer < self._layers else "what the head reads"
        return _rounded(self._encoding, x) if self._chosen(name) else x


def computed(cell: Cell, numbers: Sequence[int]) -> Array:
    """A row for each of the examples ``numbers``, one after the other: scales are of a text. As
    ``compute.computed`` has them."""
    task = task_of(cell.task, cell.count, cell.tokens)
    assert cell.scheme is not None, "a cell of a scheme"
    model, weights, scheme = _opened(cell.scheme, cell.task)
    if task.metric == "perplexity":
        return np.stack([foretold(lambda values, every: _logits(model, weights, scheme, values[0]),
                                  task.examples[number]) for number in numbers])
    return np.concatenate([_logits(model, weights, scheme, task.examples[number])
                           for number in numbers])


def _rounded(encoding: Encoding, values: Array) -> Array:
    return codec.decode(encoding, codec.encode(encoding, values))


def _logits(model: Transformer, weights: Weights, scheme: Exact, example: Array) -> Array:
    if isinstance(scheme, _Operands):
        scheme.count = 0
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
        if part in _OPERANDS:
            return (model, Weights(parameters(model), Exact()),
                    _Operands(encoding, len(model.blocks), _OPERANDS[part]))
        arrays = {one: _rounded(encoding, values) if _PARTS[part](one) else values
                  for one, values in parameters(model).items()}
        return model, Weights(arrays, Exact()), Exact()
    scheme = Scheme(name)
    weights = Weights(parameters(model), scheme)
    if name == "smoothquant":
        scheme.calibrating = True
        for example in task.calibration:
            _logits(model, weights, scheme, example)
        scheme.calibrating = False
    return model, weights, scheme
