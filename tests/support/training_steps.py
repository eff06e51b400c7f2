"""Training steps as programs on the machine model, against the same steps computed without a
program."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from compiler.checkpoints import load, samples
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.inputs import Inputs
from compiler.lowering.rotary import model_halves_first
from compiler.program.start import Ran, Start
from compiler.training.description import AdamW, LowRank, Momentum, Sgd, Training
from compiler.training.gradients.bits import Bits
from compiler.training.gradients.loss import LossKind
from compiler.training.gradients.network import Batch
from compiler.training.programs.host import Host
from compiler.training.programs.lower import lower_training
from compiler.training.tasks import digits_task, with_head
from compiler.training.trainer import Trainer, batches, trimmed
from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine

OPTIMISERS = {"adamw": AdamW(), "momentum": Momentum(), "sgd": Sgd(),
              "adamw decay": AdamW(decay=0.01)}


def config(fmt="posit8", softmax="pwl", **choices):
    return AcceleratorConfig(fmt, softmax=softmax, functions="training", **choices)


class Noted(Bits):
    """Keeps each gradient as it was stored last, times its scale."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.sites = {}

    def gradient(self, site, g):
        found = super().gradient(site, g)
        self.sites[site] = found * self.scaling.scale(site)
        return found

    def beside(self, site, g):
        found = super().gradient(site, g)
        self.sites[f"{site} U"] = found * self.scaling.scale(site)
        return found


def on_machine(config):
    machine = Machine(config)

    def start(memory, address, base):
        ending = machine.run(memory, address, base)
        assert ending.error is None, ending
        return Ran(ending.saturations, ending.nars)

    return start


def training(batch=4, method=LowRank(rank=4), **how):  # noqa: B008  it is frozen
    return Training(method, rate=4e-3, steps=100, batch=batch, **how)


def padded(batch, program):
    """As long as all of the program's are."""
    if program.batch.length is None:
        return batch
    more = ((0, 0), (0, program.batch.length - batch.inputs.shape[1]))
    labels = batch.labels
    if labels.shape == batch.inputs.shape:
        labels = np.pad(labels, more, constant_values=-1 if (labels < 0).any() else 0)
    segments = None if batch.segments is None else np.pad(batch.segments, more)
    return Batch(np.pad(batch.inputs, more), labels, np.pad(batch.valid, more), segments)


@dataclass(frozen=True)
class Work:
    """A model, its batches and a micro-batch like all others."""

    model: Transformer
    batches: Iterator[Batch]
    sample: Inputs
    kind: LossKind = "classes"


def digits(own):
    task = digits_task("digits-negative-transposed")
    return Work(load("digits-vit"), batches(task.train, own.batch, 0),
                Inputs("patches", task.train.inputs[:own.micro]))


def images(own, activation="gelu_sigmoid"):
    """A small ViT that tells classes by the first of 9 random patches, after a final norm."""
    model, rng = samples.vit(pooling="first"), np.random.default_rng(0)
    patches = rng.normal(0, 1, (40, 9, 7))
    data = Batch(patches, rng.integers(0, 5, 40))
    return Work(activated(model, activation), batches(data, own.batch, 0),
                Inputs("patches", patches[:own.micro]))


def sentences(own, pooling="mean"):
    """A small BERT with three classes on sentences of 1 to 8 random ids."""
    model = with_head(replace(samples.bert(), pooling=pooling), 3)
    rng = np.random.default_rng(0)
    ids, lengths = rng.integers(0, 50, (40, 8)), rng.integers(1, 9, 40)
    data = Batch(ids, rng.integers(0, 3, 40), np.arange(8) < lengths[:, None])
    return Work(model, batches(data, own.batch, 0), Inputs(
        "ids", ids[:own.micro], np.ones((own.micro, 8), bool)))


def spans(own, length=8):
    """A small BERT that tells where in a sentence of 1 to ``length`` random ids something begins
    and ends."""
    model = with_head(samples.bert(), 2, "spans")
    rng = np.random.default_rng(0)
    ids, lengths = rng.integers(0, 50, (40, length)), rng.integers(1, length + 1, 40)
    labels = np.sort(rng.integers(0, lengths[:, None], (40, 2)), axis=1)
    data = Batch(ids, labels, np.arange(length) < lengths[:, None])
    return Work(model, batches(data, own.batch, 0), Inputs(
        "ids", ids[:own.micro], np.ones((own.micro, length), bool)), "spans")


def tagged(own):
    """A small BERT that tells classes of some positions of sentences of 1 to 8 random ids."""
    model = with_head(samples.bert(), 3, "tokens")
    rng = np.random.default_rng(7)
    ids, lengths = rng.integers(0, 50, (40, 8)), rng.integers(1, 9, 40)
    labels = np.where(rng.random((40, 8)) < 0.6, rng.integers(0, 3, (40, 8)), -1)
    labels[:, 0] = rng.integers(0, 3, 40)
    data = Batch(ids, labels, np.arange(8) < lengths[:, None])
    return Work(model, batches(data, own.batch, 0), Inputs(
        "ids", ids[:own.micro], np.ones((own.micro, 8), bool)), "tokens")


def masked(own, activation="gelu"):
    """A small BERT that tells which of 50 ids stood at some positions of sentences of 1 to 8."""
    work = tagged(own)
    model = samples.masked(samples.bert(), activation)
    rng = np.random.default_rng(8)
    return replace(work, model=model, batches=(
        replace(batch, labels=np.where(batch.labels < 0, -1, rng.integers(
            0, 50, batch.labels.shape))) for batch in work.batches))


def pairs(own):
    """``spans`` of a model that knows three kinds of positions, which come in their order."""
    work, rng = spans(own), np.random.default_rng(5)
    embedding = work.model.embedding
    others = rng.normal(0, 0.3, (2, work.model.width)).astype(np.float32)
    model = replace(work.model, embedding=replace(
        embedding, segments=np.concatenate([embedding.segment[None], others])))

    def kinds(ids):
        return np.sort(rng.integers(0, 3, ids.shape), axis=1)

    return replace(work, model=model, batches=(
        replace(batch, segments=kinds(batch.inputs)) for batch in work.batches),
        sample=replace(work.sample, segments=kinds(work.sample.values)))


def activated(model, activation):
    """``model`` with another activation in all its layers."""
    return replace(model, blocks=tuple(replace(block, feed_forward=replace(
        block.feed_forward, activation=activation)) for block in model.blocks))


def windows(own, activation="silu"):
    """A small Llama that tells the next of 6 random ids."""
    ids = np.random.default_rng(0).integers(0, 40, (40, 6))
    return Work(activated(samples.llama(interleaved=False), activation),
                batches(Batch(ids, ids), own.batch, 0), Inputs("ids", ids[:own.micro]),
                "vocabulary")


def paragraphs(own):
    """The same of 2 to 6 ids."""
    rng = np.random.default_rng(0)
    ids, lengths = rng.integers(0, 40, (40, 6)), rng.integers(2, 7, 40)
    data = Batch(ids, ids, np.arange(6) < lengths[:, None])
    return Work(samples.llama(interleaved=False), batches(data, own.batch, 0),
                Inputs("ids", ids[:own.micro], np.ones((own.micro, 6), bool)), "vocabulary")


def real(model):
    """One step of a ``model`` on random ids, and its training: two sentences of at most 8, or for
    a causal model one window of 8."""
    model = model_halves_first(model)
    model = replace(model, blocks=tuple(model.blocks))
    rng = np.random.default_rng(0)
    ids = rng.integers(1000, 2000, (8, 8))
    if model.blocks[0].attention.causal:
        own = training(1, LowRank(("q", "k", "v", "output", "gate", "up", "down")), head=False)
        return own, Work(model, iter([Batch(ids[i:i + 1], ids[i:i + 1]) for i in range(2)]),
                         Inputs("ids", ids[:1]), "vocabulary")
    own, valid = training(2, LowRank()), np.arange(8) < rng.integers(2, 9, (8, 1))
    data = Batch(ids, rng.integers(0, 2, 8), valid)
    parts = [data.part(slice(start, start + 2)) for start in (0, 2)]
    return own, Work(with_head(model, 2), iter(parts),
                     Inputs("ids", ids[:2], np.ones((2, 8), bool)))


@dataclass
class Both:
    """``compared`` and ``different`` count items so far; ``wrong``: names of arrays that differ.
    ``shorter``: batches so far that the host had to pad."""

    config: AcceleratorConfig
    own: Training
    start: Start | None = None
    keep: bool = True
    work: Work | None = None

    def __post_init__(self):
        work = self.work or digits(self.own)
        self.batches = work.batches
        program = lower_training(self.config, work.model, self.own, work.sample,
                                 kind=work.kind, keep=self.keep)
        self.numerics = Noted(self.config, backward=self.own.backward, target=self.own.scale_log2)
        self.trainer = Trainer(work.model, self.own, work.kind, self.numerics, "pair",
                               layout=program.layout)
        masters = self.trainer.updater
        self.host = Host(program, self.own, work.kind, self.start or on_machine(self.config),
                         masters.values, masters.lower)
        self.compared = self.different = self.shorter = 0
        self.wrong = set()

    def _next(self):
        """The next batch as short as it can be, and as long as the program's are."""
        batch = trimmed(next(self.batches), 1)
        whole = padded(batch, self.host.program)
        self.shorter += batch.inputs.shape[1] < whole.inputs.shape[1]
        return batch, whole

    def calibrate(self):
        batch, whole = self._next()
        self.trainer.calibrate(whole)
        self.host.calibrate(batch)
        return self

    def step(self):
        batch, whole = self._next()
        report = self.trainer.step(whole)
        loss, norm, _ = self.host.step(batch, report.rate)
        self._same("value of the loss", np.array(abs(loss - report.loss) < 1e-12 * loss), True)
        self._same("norm", np.array(abs(norm - report.norm) < 0.01 * report.norm), True)
        self.compare()
        return self

    def masters(self):
        """Both words of each master, added up, by name."""
        program = self.host.program
        low = program.layout.arrays(self.host.read(program.tensors.state.low), program.shapes)
        return {name: high + low[name] for name, high in self.host.masters().items()}

    def compare(self):
        host, program = self.host, self.host.program
        if self.keep:
            for name, tensor in program.sites.items():
                wanted = self.numerics.sites[name]
                if name == "loss" and self.host.kind == "spans":
                    wanted = wanted.transpose(2, 0, 1)
                wanted = wanted.reshape(-1, tensor.columns)
                self._same(name, host.read(tensor)[:len(wanted)], wanted)
        state, updater = program.tensors.state, self.trainer.updater
        rows = updater.state()
        for name, own in (("high", state.moved), ("low", state.low), ("first", state.first),
                          ("second", state.second)):
            if own is not None:
                wanted = program.layout.matrix(updater.arrays(rows[name]))
                self._same(name, host.read(own), wanted)
        weights = self.trainer.weights
        for merge in program.tensors.merges:
            self._same(merge.layer, host.read(merge.merged),
                       weights.stored(f"{merge.layer}.weight"))
        for placed in program.tensors.placed:
            adapter = weights.adapter(placed.layer)
            assert adapter is not None
            self._same(f"{placed.layer} A", host.read(placed.a), adapter.a)
            self._same(f"{placed.layer} B", host.read(placed.b), adapter.b)
        for name, tensor in program.tensors.renewed.items():
            wanted = weights.wide(name) if name.endswith("bias") else weights.stored(name)
            self._same(name, host.read(tensor), wanted)
        scales = program.tensors.tables
        for name, place in scales.factors.sites.items():
            self._same(f"scale of {name}", host.read(scales.words.block(1 + place, 0, 1, 1)),
                       np.array(self.numerics.scaling.scale(name)))

    def _same(self, name, found, wanted):
        different = int(np.count_nonzero(found != np.reshape(wanted, found.shape)))
        self.compared += found.size
        self.different += different
        if different:
            self.wrong.add(name)
