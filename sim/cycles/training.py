"""A training step as programs without their weights: what the cycle model runs.

One micro-batch forward and back, and an update, of a model whose arrays are all zeros.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from compiler.centred import centred
from compiler.checkpoints.description import Linear, Patches, Tokens, Transformer
from compiler.checkpoints.inputs import Inputs
from compiler.lowering.lower import layer_range, lower
from compiler.lowering.rotary import model_halves_first
from compiler.program.records import commands
from compiler.training.description import Training
from compiler.training.gradients.loss import LossKind
from compiler.training.gradients.parameters import tied
from compiler.training.programs.lower import TrainingProgram, lower_training
from gen.cli import Line
from hdl.spec.config import AcceleratorConfig
from sim.cycles.report import by_part, total
from sim.cycles.simulate import Memory, Run, simulate
from sim.cycles.workload import Workload, hollow, named

__all__ = ["TrainingWork", "inference_work", "loss_of_model", "ratios", "training_model",
           "training_work"]

_PART = re.compile(r"(embedding|layer \d+|final norm|pooled|head|probabilities of the loss|"
                   r"blocks\.\d+)")
_CLASSES = 2
_BERT_WORDS = 30522


@dataclass(frozen=True)
class TrainingWork:
    """``gradients`` and ``update``: the programs; ``layers``: how many, ``items``: trained."""

    program: TrainingProgram
    gradients: Workload
    update: Workload
    layers: int
    items: int


def training_work(config: AcceleratorConfig, name: str, training: Training, *,
                  tokens: int | None = None, layers: range | slice | None = None,
                  offline: bool = False, centring: str = "once") -> TrainingWork:
    """Of the model called ``name``, or at that path, over ``training.micro`` sequences of
    ``tokens`` positions (128, or as many as an image has patches). ``centring``: of ``CENTRINGS``.
    ``ValueError`` in one line, ``ModelUnavailable``."""
    model, inputs = training_model(name, training, tokens, layers, offline)
    model = centred(model, config, centring)
    kind = loss_of_model(model)
    training = replace(training, head=kind == "classes")
    program = lower_training(config, model, training, inputs, kind=kind, seed=None)
    return TrainingWork(
        program, _workload(f"{model.name}, a micro-batch", program, program.first,
                           list(program.written["first"])),
        _workload(f"{model.name}, an update", program, program.update, None), len(model.blocks),
        sum(place.rows * place.columns for place in program.layout.places.values()))


def inference_work(config: AcceleratorConfig, name: str, training: Training, *,
                   tokens: int | None = None, layers: range | slice | None = None,
                   offline: bool = False, centring: str = "once") -> Workload:
    """The same layers, head and sequences without training."""
    model, inputs = training_model(name, training, tokens, layers, offline)
    program = lower(config, centred(model, config, centring), inputs, seed=None)
    listed = [found for _, found in commands(program.memory, program.address, program.base)]
    labels = list(program.written)
    return Workload(model.name, config, listed, program.memory, program.address, labels, labels)


def loss_of_model(model: Transformer) -> LossKind:
    """Over the vocabulary for causal models, over words of some positions where a head tells hidden
    ones, else over classes."""
    if model.task == "masked language model":
        return "tokens"
    return "vocabulary" if model.blocks[0].attention.causal else "classes"


def training_model(name: str, training: Training, tokens: int | None,
                   layers: range | slice | None, offline: bool, whole: bool = False
                   ) -> tuple[Transformer, Inputs]:
    """The model of zeros, ``bert-base`` or as ``open_model``, with those layers and a head, and
    inputs. ``whole``: with all of its embedding's table, not just as many rows as positions."""
    model = named(name, offline)
    chosen = layer_range(model, layers)
    model = replace(model, blocks=[model.blocks[index] for index in chosen])
    embedding = model.embedding
    positions = 128 if tokens is None else tokens
    if tokens is None and isinstance(embedding, Patches):
        positions = len(embedding.positions)
    is_tied = tied(model)
    if isinstance(embedding, Tokens):
        table = embedding.table[:positions]
        if whole:
            words = _BERT_WORDS if name == "bert-base" else len(embedding.table)
            table = np.zeros((words, model.width), np.float32)
        model = replace(model, embedding=replace(embedding, table=table))
    model = model_halves_first(_with_classes(hollow(model, None)))
    if whole and is_tied:
        assert model.head is not None and isinstance(model.embedding, Tokens)
        model = replace(model, head=replace(model.head, weight=model.embedding.table))
    return model, _inputs(model, training.micro or training.batch, positions)


def _with_classes(model: Transformer) -> Transformer:
    if model.head is not None:
        return model
    head = Linear(np.zeros((_CLASSES, model.width), np.float32), np.zeros(_CLASSES, np.float32))
    return replace(model, head=head, pooling="mean")


def _inputs(model: Transformer, sequences: int, tokens: int) -> Inputs:
    if isinstance(model.embedding, Patches):
        items = model.embedding.projection.weight.shape[1]
        return Inputs("patches", np.zeros((sequences, tokens, items), np.float32))
    ids = np.tile(np.arange(tokens) % len(model.embedding.table), (sequences, 1))
    told = loss_of_model(model) == "tokens"
    return Inputs("ids", ids, np.ones(ids.shape, bool) if told else None)


def _workload(name: str, program: TrainingProgram, address: int, labels: list[str] | None
              ) -> Workload:
    """``labels``: what each command writes; of an update the tensors tell."""
    image = program.image
    listed = [found for _, found in commands(image.memory, address, image.base)]
    if labels is None:
        own = program.tensors
        merged = {merge.merged.address for merge in own.merges} | {
            tensor.address for placed in own.placed for tensor in (placed.a, placed.b)}
        labels = [("merge" if fields["c_address"] in merged else "update")
                  if fields["m"] and fields["n"] else "" for fields in listed]
        return Workload(name, image.config, listed, image.memory, address, labels, labels)
    parts, part = [], "before"
    for label in labels:
        match = _PART.match(label)
        part = match.group(1) if match else part
        parts.append(part if label else "")
    return Workload(name, image.config, listed, image.memory, address, labels, parts)


def ratios(work: TrainingWork, forward: Run, memory: Memory, quiet: bool = True
           ) -> tuple[list[str], dict[str, Any]]:
    """What a step costs besides ``forward``, the same layers' inference of as many sequences: lines
    to print, and the runs of both programs by name. Unless ``quiet`` with progress."""
    runs: dict[str, Any] = {}
    for name, own in (("gradients", work.gradients), ("update", work.update)):
        with Line(f"cycles of the {name}", quiet=quiet) as line:
            runs[name] = simulate(own.config, own.commands, memory=memory, address=own.address,
                                  tell=line.tell)
    rows = by_part(work.gradients, runs["gradients"])
    back = [row for row in rows if row.label.startswith("blocks.")]
    cycles, macs = (sum(getattr(row, name) for row in back) for name in ("cycles", "macs"))
    dim = work.gradients.config.dim
    whole = total(work.gradients, runs["gradients"])
    update = {label: sum(row.cycles for row in by_part(work.update, runs["update"])
                         if row.label == label) for label in ("update", "merge")}
    return [
        f"forward alone {forward.cycles} cycles; forward, loss and backward {whole.cycles}: "
        f"{whole.cycles / forward.cycles:.3f} times as many",
        f"backward of {work.layers} layers {cycles} cycles, {macs / (dim * dim * cycles):.1%} of "
        "the array's peak",
        f"update {runs['update'].cycles} cycles: scales, clip and optimiser "
        f"{update['update'] / work.items:.2f} a trained item of {work.items}, merge "
        f"{update['merge'] / work.layers:.0f} a layer"], runs
