"""Training in numpy: steps of a ``Training`` on a transformer, in any arithmetic.

With ``Exact(np.float32)`` this is the fp32 run that others are measured against; with ``EightBit``
it rounds where the accelerator does.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from compiler.checkpoints.description import Linear, Transformer
from compiler.lowering.place import Tell, silent
from compiler.training.adapters import AdapterSet
from compiler.training.description import LowRank, Training
from compiler.training.gradients.loss import LossKind, labelled, loss_of, rows_counted
from compiler.training.gradients.network import Batch, gradients_of, logits_of
from compiler.training.gradients.numerics import Array, Exact
from compiler.training.gradients.parameters import parameters
from compiler.training.gradients.weights import Adapter, Weights, lora_names
from compiler.training.layout import Layout
from compiler.training.update import Masters, Updater, norm_of

__all__ = ["NotFinite", "StepReport", "Trainer", "batches", "initial_adapters"]


_WORDS = 1000  # logits: of more than that no position's class, but a word


class NotFinite(ArithmeticError):
    """A loss or a gradient is not finite; what was trained is as it was before the step."""


@dataclass(frozen=True)
class StepReport:
    """One update: the mean loss over its batch before it, the gradients' norm, the rate."""

    step: int
    loss: float
    norm: float
    rate: float


def initial_adapters(model: Transformer, training: Training) -> dict[str, Adapter]:
    """B of zeros, A from −1/√inputs to 1/√inputs, as peft starts; by linear layer."""
    if not isinstance(training.method, LowRank):
        return {}
    rng = np.random.default_rng((training.seed, 1))
    found = {}
    arrays = parameters(model)
    for name in training.layers(model):
        outputs, inputs = arrays[f"{name}.weight"].shape
        a = rng.uniform(-1, 1, (training.method.rank, inputs)) * inputs ** -0.5
        found[name] = Adapter(
            a.astype(np.float32), np.zeros((outputs, training.method.rank), np.float32),
            training.method.scale)
    return found


def batches(examples: Batch, size: int, seed: int) -> Iterator[Batch]:
    """Batches without end, each pass through the ``examples`` in another order; those that are
    left of a pass are not used in it."""
    if size > len(examples):
        raise ValueError(f"batch must be at most {len(examples)}, the number of examples, "
                         f"not {size}")
    rng = np.random.default_rng((seed, 2))
    while True:
        order = rng.permutation(len(examples))
        for start in range(0, len(order) - size + 1, size):
            yield trimmed(examples.part(order[start:start + size]))


def trimmed(batch: Batch, multiple: int = 16) -> Batch:
    """Without the last positions that only pad, in whole ``multiple``s of positions."""
    if batch.valid is None:
        return batch
    length = int(np.flatnonzero(batch.valid.any(axis=0))[-1]) + 1
    length = min(-(-length // multiple) * multiple, batch.valid.shape[1])
    labels = batch.labels
    if labels.ndim == 2 and labels.shape == batch.valid.shape:
        labels = labels[:, :length]
    segments = None if batch.segments is None else batch.segments[:, :length]
    return Batch(batch.inputs[:, :length], labels, batch.valid[:, :length], segments)


class Trainer:
    """``model`` under ``training``; ``step`` makes one update, ``evaluate`` measures.

    ``adapters``: where to go on from, ``initial_adapters`` unless given. ``layout``: as for
    ``update.clip_factor``.
    """

    def __init__(self, model: Transformer, training: Training, kind: LossKind,
                 numerics: Exact | None = None, masters: Masters = "float",
                 adapters: Mapping[str, Adapter] | None = None,
                 layout: Layout | None = None) -> None:
        self.model, self.training, self.kind = model, training, kind
        self.numerics = numerics or Exact(np.float32)
        self.names = training.trained(model)
        if adapters is None:
            adapters = initial_adapters(model, training)
        arrays = {name: np.asarray(values, np.float32)
                  for name, values in parameters(model).items()}
        self.weights = Weights(arrays, self.numerics, adapters, training.beside)
        start = dict(arrays)
        for layer, own in adapters.items():
            start |= dict(zip(lora_names(layer), (own.a, own.b), strict=True))
        self.updater = Updater(self.numerics, training.optimiser,
                               {name: start[name] for name in self.names}, masters, layout)
        self._renew()

    def _renew(self) -> None:
        for name, values in self.updater.values.items():
            self.weights.set(name, values)

    def gradients(self, batch: Batch) -> tuple[float, dict[str, Array]]:
        """The mean loss and its gradients, micro-batch by micro-batch."""
        micro, n = self.training.micro, self.numerics
        parts = [batch.part(slice(start, start + micro)) for start in range(0, len(batch), micro)]
        rows = [rows_counted(self.kind, part.labels, part.valid) for part in parts]
        total: dict[str, Array] = {}
        mean = 0.0
        for part, own_rows in zip(parts, rows, strict=True):
            with np.errstate(over="ignore", invalid="ignore"):  # ``step`` reports it
                loss, found = gradients_of(self.model, self.weights, n, part, self.kind,
                                           self.names, self.training.recompute)
            share = own_rows / sum(rows)
            mean += loss * share
            factor = n.wide_constant(np.asarray(share))
            for name, gradient in found.items():
                own = n.lane(gradient * factor)
                total[name] = n.wide(n.lane(total[name] + own) if name in total else own)
        return mean, total

    def adapters(self) -> AdapterSet:
        """What was trained, as ``adapters.save_adapters`` writes it; ``ValueError`` where matrices
        themselves were."""
        if not isinstance(self.training.method, LowRank):
            raise ValueError("adapters must be what is trained, not whole matrices")
        values, layers = self.updater.values, self._layers()
        if not self.training.head:
            return AdapterSet(layers)
        head = Linear(values["head.weight"], values.get("head.bias"))
        return AdapterSet(layers, head, self.model.pooling)

    def _layers(self) -> dict[str, Adapter]:
        """The adapters as they are now, by linear layer."""
        method, values, found = self.training.method, self.updater.values, {}
        if isinstance(method, LowRank):
            for layer in self.training.layers(self.model):
                a, b = (values[name] for name in lora_names(layer))
                found[layer] = Adapter(a, b, method.scale)
        return found

    def again(self, numerics: Exact, training: Training | None = None) -> "Trainer":
        """A trainer of what the network reads now, in other arithmetic, or with another
        ``training`` of the same arrays, adapters merged say."""
        found = Trainer(self.model, training or self.training, self.kind, numerics, "float",
                        self._layers())
        values = self.updater.values
        for name in self.names:
            if name.rpartition(".")[2] not in ("lora_a", "lora_b"):
                found.weights.set(name, values[name].astype(numerics.dtype))
        return found

    def resume(self, steps: int, rows: Mapping[str, Array], histories: dict[str, list[float]]
               ) -> None:
        """Take the place of a run after ``steps`` updates: ``Updater.state``,
        ``Exact.histories``. ``ValueError`` for arrays of other sizes."""
        self.updater.restore(steps, rows)
        self.numerics.resume(histories)
        self._renew()

    def calibrate(self, batch: Batch) -> None:
        """Gradients alone, so that the first step has magnitudes to scale its gradients by."""
        self.gradients(batch)
        self.numerics.end_step()

    def step(self, batch: Batch) -> StepReport:
        """One update; ``NotFinite`` where there cannot be one."""
        number = self.updater.steps + 1
        loss, gradients = self.gradients(batch)
        norm = norm_of(gradients)
        if not np.isfinite(loss) or not np.isfinite(norm):
            raise NotFinite(f"step {number}: loss {loss:g}, gradient norm {norm:g}")
        rate = self.training.rate_at(number)
        self.updater.apply(gradients, rate, self.training.clip)
        self._renew()
        self.numerics.end_step()
        return StepReport(number, loss, norm, rate)

    def evaluate(self, examples: Batch, hear: Callable[[int, Array], None] | None = None,
                 tell: Tell = silent) -> tuple[float, float]:
        """Mean loss over ``examples``, and the share whose largest logit is at the label: of
        classes, of next ids, of both ends of a span. ``hear`` is called with the logits of some
        sequences at a time and the number of the first of them, ``tell`` with the share done."""
        losses, rows, right, count = 0.0, 0, 0, 0
        # Logits over a vocabulary are a thousand times as large.
        size = 4 if self.kind == "vocabulary" or len(self.model.head.weight) > _WORDS else 64
        for start in range(0, len(examples), size):
            part = trimmed(examples.part(slice(start, start + size)))
            with np.errstate(over="ignore", invalid="ignore"):
                logits = logits_of(self.model, self.weights, self.numerics, part)
            if hear is not None:
                hear(start, logits)
            own = rows_counted(self.kind, part.labels, part.valid)
            losses += own * loss_of(self.kind, Exact(self.numerics.dtype), logits, part.labels,
                                    part.valid)[0]
            rows += own
            hits = correct(self.kind, logits, part)
            right, count = right + int(hits.sum()), count + hits.size
            done = min(start + size, len(examples))
            tell(done / len(examples), f"{done} of {len(examples)} examples")
        return losses / rows, right / count


def correct(kind: LossKind, logits: Array, batch: Batch) -> Array:
    """Whether the largest logit is at the label: an item a sequence, a predicted id, or a position
    that has a label."""
    if kind == "classes":
        return logits.argmax(axis=1) == batch.labels
    if kind == "spans":
        if batch.valid is not None:
            logits = np.where(batch.valid[..., None], logits, -np.inf)
        return (logits.argmax(axis=1) == batch.labels).all(axis=1)
    if kind == "tokens":
        return (logits.argmax(axis=2) == batch.labels)[labelled(batch.labels, batch.valid)]
    hits = logits[:, :-1].argmax(axis=2) == batch.labels[:, 1:]
    return hits if batch.valid is None else hits[batch.valid[:, 1:] & batch.valid[:, :-1]]
