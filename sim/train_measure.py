"""How right a model in training is on what was held out."""

from dataclasses import replace

import numpy as np

from compiler.answers import AnswerTask
from compiler.training.description import LowRank
from compiler.training.gradients.numerics import Array
from compiler.training.tasks import Task
from compiler.training.trainer import Trainer
from gen.cli import Line
from sim.inference.metrics import answer_f1, exact
from sim.inference.results import Result, interpreted

__all__ = ["measured", "merged"]


def merged(trainer: Trainer) -> Trainer:
    """The same adapters in their matrices, as inference has them."""
    method = trainer.training.method
    assert isinstance(method, LowRank), "adapters"
    return trainer.again(trainer.numerics, replace(
        trainer.training, method=replace(method, place="merged")))


def measured(trainer: Trainer, task: Task, quiet: bool = True) -> str:
    """The loss, and what share is right; of answers, as ``sim.evaluate`` measures them, how many
    match the right one exactly, and F1 of their words. Unless ``quiet`` with progress."""
    with Line("measured", quiet=quiet) as line:
        return _measured(trainer, task, line)


def _measured(trainer: Trainer, task: Task, line: Line) -> str:
    if not isinstance(task, AnswerTask):
        loss, accuracy = trainer.evaluate(task.held_out, tell=line.tell)
        return f"loss {loss:.4f}, right {accuracy:.4f}"
    scores: list[tuple[float, float]] = []

    def hear(first: int, logits: Array) -> None:
        for number, own in enumerate(logits.astype(np.float32), first):
            example, right = task.examples[number], [task.answers[number]]
            rows = own[:example.length]
            found = interpreted(Result(example, "answer", rows, rows, "fp32"), trainer.model).answer
            answer = "" if found is None else found[0]
            scores.append((exact(answer, right), answer_f1(answer, right)))

    loss, _ = trainer.evaluate(task.held_out, hear, line.tell)
    match, f1 = np.mean(scores, axis=0)
    return f"loss {loss:.4f}, exact match {match:.4f}, F1 {f1:.4f}"
