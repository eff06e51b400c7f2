"""``sim.train --memory``: the bytes that a training step takes, by kind."""

import argparse
from dataclasses import replace

import numpy as np

from compiler.checkpoints.description import Transformer
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.registry import DIGITS_MODELS
from compiler.training.description import Training
from compiler.training.gradients.loss import LossKind
from compiler.training.gradients.parameters import parameters
from compiler.training.programs.lower import lower_training
from compiler.training.programs.memory import bytes_by_kind, full_bf16_bytes
from gen.cli import config_from
from hdl.spec.config import AcceleratorConfig
from sim.cycles.training import loss_of_model, training_model
from sim.train_options import check_batch, task_of, training_of

__all__ = ["memory_lines"]


def _of_task(options: argparse.Namespace, config: AcceleratorConfig, model: Transformer
             ) -> tuple[Transformer, Training, Inputs, LossKind]:
    """``model`` with the head of the task, its training, a micro-batch, the loss."""
    task = task_of(options, model)
    training = training_of(options, model, config, not task.tells_words)
    check_batch(training, task)
    given = task.train.part(slice(0, training.micro or training.batch)).given()
    return task.headed(model, options.seed), training, given, task.kind


def memory_lines(options: argparse.Namespace) -> list[str]:
    """What ``--memory`` prints, of batches like those of a task or of one's own data, where one is
    named, else of whole texts and two classes; ``ValueError``, ``ModelUnavailable``."""
    config = replace(config_from(options), functions="training")
    tokens = None if options.model in DIGITS_MODELS else options.tokens
    model, one = training_model(options.model, Training(batch=1), tokens, None, options.offline,
                                whole=True)
    if options.data is None and options.task is None:
        kind = loss_of_model(model)
        training = training_of(options, model, config, kind == "classes")
        count = training.micro or training.batch
        inputs = Inputs(one.kind, np.repeat(one.values, count, axis=0), None if one.valid is None
                        else np.repeat(one.valid, count, axis=0))
    else:
        model, training, inputs, kind = _of_task(options, config, model)
    program = lower_training(config, model, training, inputs, kind=kind, seed=None)
    kinds = bytes_by_kind(program)
    full = full_bf16_bytes(sum(values.size for values in parameters(model).values()), model,
                           training.batch, inputs.length)
    size = program.image.memory.size
    return [*(f"{kind:32}{count:14,}" for kind, count in kinds.items()),
            f"{'all':32}{size:14,}",
            f"{'all parameters, BF16 and AdamW':32}{full:14,}, {full / size:.1f} times as many"]
