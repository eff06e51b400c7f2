"""What a row of a data set says of a build: ``Judges``."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from compiler.calibration import chosen_scales
from compiler.checkpoints import reference, registry
from compiler.checkpoints.description import Transformer
from compiler.examples import Example, examples_of, from_texts
from compiler.lowering.fusion import fusion_named
from compiler.opening import opened_model
from compiler.sound import read_sound
from hdl.spec.config import AcceleratorConfig
from sim.inference.datasets import Row, SetError
from sim.inference.generate import fp32_greedy, parted
from sim.inference.metrics import answer_f1, exact, word_errors
from sim.inference.model import CompiledModel, compile
from sim.inference.results import Kind, Result, interpreted, kind_of, softmax, token_names
from sim.verify.report import cosine

__all__ = ["FP32", "Judges", "Key", "Outcome", "Plan", "check"]

FP32 = "fp32"
"""The build that rounds nothing: the fp32 model, for comparison."""

Outcome = dict[str, Any]
Key = tuple[str, int]
_KINDS: dict[str, tuple[Kind, ...]] = {
    "accuracy": ("classes",), "f1": ("classes", "answer"), "exact-match": ("answer",),
    "perplexity": ("next token",), "spearman": ("embedding",), "wer": ("next token",)}


@dataclass(frozen=True)
class Plan:
    """What is evaluated: ``model`` as for ``compile``, ``builds`` by name (``None``: fp32).
    ``tokens``: texts of more are cut. ``new``: tokens of what is heard at most; ``language``,
    ``task``: as ``Speech.prompt`` takes them. ``scales``: as for ``compile``. ``balance``: of all
    builds but fp32. ``centring``: of ``CENTRINGS``."""

    model: str
    metric: str
    builds: Mapping[str, AcceleratorConfig | None]
    fusion: str = "residual"
    adapter: Path | None = None
    tokens: int | None = None
    offline: bool = False
    new: int = 128
    language: str | None = None
    task: str | None = None
    scales: str | None = None
    balance: bool = False
    centring: str = "once"

    def opened(self, build: str) -> CompiledModel:
        """The model for a build; for fp32 whatever config, since it runs no program."""
        own = self.builds[build]
        config = own or AcceleratorConfig("bf16")
        balance = self.balance and own is not None
        model = opened_model(self.model, own, adapter=self.adapter, balance=balance,
                             centring=self.centring, offline=self.offline)
        scales = None if own is None else chosen_scales(
            self.scales, self.model, model, config, fusion_named(self.fusion), self.offline,
            balanced=balance)
        words = registry.any_tokenizer(self.model, offline=self.offline)
        return compile(model, config, fusion=self.fusion, tokenizer=words, scales=scales)


def check(model: Transformer, metric: str) -> None:
    """``SetError`` where the metric says nothing of what the model gives."""
    kinds = _KINDS[metric]
    if kind_of(model) not in kinds:
        raise SetError(f"metric {metric} takes a model that gives {' or '.join(kinds)}, which "
                       f"{model.name} does not: it gives {kind_of(model)}")
    if metric == "wer" and model.speech is None:
        raise SetError(f"metric wer takes a model that hears, Whisper say, which {model.name} does "
                       "not")


class _Judge:
    """A model for one build, and what an example says of it."""

    def __init__(self, plan: Plan, build: str) -> None:
        self.plan, self.own = plan, plan.opened(build)
        self.fp32 = plan.builds[build] is None
        self.model = self.own.model
        self.kind = kind_of(self.model)
        self.outcome: Callable[[Row], Outcome] = {
            "accuracy": self._class, "f1": self._f1, "exact-match": self._answer,
            "perplexity": self._perplexity, "spearman": self._similarity,
            "wer": self._heard}[plan.metric]

    def example(self, row: Row, column: str = "text", context: str | None = None) -> Example:
        """A row's input; ``ExampleError``, ``SetError``."""
        for name in ("patches", "ids"):
            if name in row.values and column == "text":
                try:
                    values = np.asarray(row.values[name])
                    return replace(examples_of(values, self.model)[0], name=row.where)
                except ValueError as error:
                    raise SetError(f"{row.where}: {error}") from error
        if self.own.tokenizer is None:
            raise SetError(f"{row.where}: {self.model.name} comes without a tokenizer: it takes "
                           "ids, not text")
        return from_texts(self.own.tokenizer, [row.text(column)], self.model, self.plan.tokens,
                          [row.where], context)[0]

    def run(self, example: Example, every: bool = False) -> Result:
        if self.fp32:
            return self._in_fp32(example, every)
        return self.own.run([example], every=every)[0]

    def _in_fp32(self, example: Example, every: bool) -> Result:
        output = reference.forward(self.model, example.values,
                                   segments=example.segments).output
        if not every and self.kind in ("classes", "next token", "embedding"):
            output = output[-1]
        names = token_names(self.model, self.own.tokenizer)
        plain = Result(example, self.kind, output, output, FP32)
        return plain if every else interpreted(plain, self.model, **names)

    def _class(self, row: Row) -> Outcome:
        context = row.text("context") if "context" in row.values else None
        result = self.run(self.example(row, context=context))
        label = row.label(self.model.labels, result.values.shape[-1])
        return {"predicted": int(np.argmax(result.values)), "label": label}

    def _answer(self, row: Row) -> Outcome:
        right = row.texts("answers")
        result = self.run(self.example(row, context=row.text("context")))
        answer = "" if result.answer is None else result.answer[0]
        return {"answer": answer, "exact": exact(answer, right), "f1": answer_f1(answer, right)}

    def _f1(self, row: Row) -> Outcome:
        return self._answer(row) if self.kind == "answer" else self._class(row)

    def _perplexity(self, row: Row) -> Outcome:
        example = self.example(row)
        if example.length < 2:
            raise SetError(f"{row.where}: a text must have at least 2 tokens to be foretold, "
                           f"not {example.length}")
        logits = self.run(example, every=True).values[:-1]
        likely = softmax(logits)[np.arange(example.length - 1), example.values[1:]]
        return {"loss": float(-np.log(np.maximum(likely, 1e-300)).sum()),
                "tokens": example.length - 1}

    def _similarity(self, row: Row) -> Outcome:
        score = row.number("score")
        a, b = (self.run(self.example(row, name)).values for name in ("text", "context"))
        return {"similarity": cosine(a, b), "score": score}

    def _heard(self, row: Row) -> Outcome:
        right, words = row.text("text"), self.own.tokenizer
        if words is None:
            raise SetError(f"{row.where}: {self.model.name} comes without a tokenizer: what it "
                           "says is no text")
        example = Example(row.where, read_sound(self.model, Path(row.text("audio"))))
        plan, stop = self.plan, registry.end_tokens(self.plan.model, offline=self.plan.offline)
        source, prompt = parted(self.model, example, plan.language, plan.task)
        room = (self.model.positions or len(prompt) + plan.new) - len(prompt)
        new = max(min(plan.new, room), 1)
        if self.fp32:
            ids = fp32_greedy(self.model, prompt, new, stop, source)
        else:
            ids = list(self.own.generate(example.values, new, stop=stop, language=plan.language,
                                         task=plan.task).ids)
        said = words.decode(ids)
        errors, count = word_errors(said, right)
        return {"answer": said, "errors": errors, "words": count}


class Judges:
    """A judge of each build, whose model is opened when it is first asked for; one row at a time,
    whatever thread asks."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._lock = plan, Lock()
        self._found: dict[str, _Judge] = {}

    def outcome(self, build: str, row: Row) -> Outcome:
        """What ``row`` says of ``build``; ``ValueError``, ``RunError``."""
        with self._lock:
            if build not in self._found:
                self._found[build] = _Judge(self._plan, build)
            return self._found[build].outcome(row)
