"""A data set through builds, example by example: ``evaluate``.

Examples are shared out to processes; each keeps its models. What an example gave is a line of a
record at once, so that an evaluation that was stopped goes on where it was.
"""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from compiler.adapted import with_adapters
from compiler.checkpoints import reference
from compiler.checkpoints.description import Transformer
from compiler.examples import Example, examples_of, from_texts
from hdl.spec.config import AcceleratorConfig
from sim.inference.datasets import DataSet, Row, SetError
from sim.inference.metrics import answer_f1, exact
from sim.inference.model import CompiledModel, compile
from sim.inference.results import Kind, Result, interpreted, kind_of, softmax, token_names
from sim.verify.report import cosine

__all__ = ["FP32", "Plan", "check", "evaluate"]

FP32 = "fp32"
"""The build that rounds nothing: the fp32 model, for comparison."""

Outcome = dict[str, Any]
Key = tuple[str, int]
_KINDS: dict[str, tuple[Kind, ...]] = {
    "accuracy": ("classes",), "f1": ("classes", "answer"), "exact-match": ("answer",),
    "perplexity": ("next token",), "spearman": ("embedding",)}


@dataclass(frozen=True)
class Plan:
    """What is evaluated: ``model`` as for ``compile``, ``builds`` by name (``None``: fp32).
    ``tokens``: texts of more are cut."""

    model: str
    metric: str
    builds: Mapping[str, AcceleratorConfig | None]
    fusion: str = "residual"
    adapter: Path | None = None
    tokens: int | None = None
    offline: bool = False

    def opened(self, build: str) -> CompiledModel:
        """The model for a build; for fp32 whatever config, since it runs no program."""
        config = self.builds[build] or AcceleratorConfig("bf16")
        own = compile(self.model, config, fusion=self.fusion, offline=self.offline)
        if self.adapter is None:
            return own
        merged = with_adapters(self.model, own.model, self.adapter, self.builds[build])
        return compile(merged, config, fusion=self.fusion, tokenizer=own.tokenizer)


def check(model: Transformer, metric: str) -> None:
    """``SetError`` where the metric says nothing of what the model gives."""
    kinds = _KINDS[metric]
    if kind_of(model) not in kinds:
        raise SetError(f"metric {metric} takes a model that gives {' or '.join(kinds)}, which "
                       f"{model.name} does not: it gives {kind_of(model)}")


# One example

class _Judge:
    """A model for one build, and what an example says of it."""

    def __init__(self, plan: Plan, build: str) -> None:
        self.plan, self.own = plan, plan.opened(build)
        self.fp32 = plan.builds[build] is None
        self.model = self.own.model
        self.kind = kind_of(self.model)
        self.outcome: Callable[[Row], Outcome] = {
            "accuracy": self._class, "f1": self._f1, "exact-match": self._answer,
            "perplexity": self._perplexity, "spearman": self._similarity}[plan.metric]

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


# In processes

_PLAN: Plan | None = None
_JUDGES: dict[str, _Judge] = {}


def _start(plan: Plan) -> None:
    global _PLAN
    _PLAN = plan


def _judged(build: str, number: int, row: Row) -> tuple[Key, Outcome]:
    """In a worker, which keeps the model of each build."""
    assert _PLAN is not None, "a worker is started with its plan"
    if build not in _JUDGES:
        _JUDGES[build] = _Judge(_PLAN, build)
    return (build, number), _JUDGES[build].outcome(row)


def evaluate(plan: Plan, data: DataSet, record: Path | None = None, jobs: int = 1,
             tell: Callable[[float, str], None] = lambda share, where: None
             ) -> dict[str, list[Outcome]]:
    """Of each build the outcomes of all rows, in their order.

    ``record``: a file of JSON lines that each outcome goes to at once; one that is there already
    is gone on with. ``jobs``: processes. ``tell`` hears how far it is. ``SetError`` for a record of
    another evaluation, and, as ``ValueError`` or ``RunError``, for rows that the model cannot take.
    """
    found = _recorded(plan, data, record)
    todo = [(build, number) for number in range(len(data.rows)) for build in plan.builds
            if (build, number) not in found]
    total = len(data.rows) * len(plan.builds)
    with _Record(plan, data, record) as lines:
        for key, outcome in _outcomes(plan, data, todo, jobs):
            found[key] = outcome
            lines.add(key, outcome)
            tell(len(found) / total, f"{len(found)} of {total} examples")
    return {build: [found[build, number] for number in range(len(data.rows))]
            for build in plan.builds}


def _outcomes(plan: Plan, data: DataSet, todo: Sequence[Key], jobs: int
              ) -> Iterator[tuple[Key, Outcome]]:
    if jobs == 1 or len(todo) < 2:
        judges: dict[str, _Judge] = {}
        for build, number in todo:
            if build not in judges:
                judges[build] = _Judge(plan, build)
            yield (build, number), judges[build].outcome(data.rows[number])
        return
    # One thread a process: several would fight for the same cores.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with ProcessPoolExecutor(min(jobs, len(todo)), multiprocessing.get_context("spawn"),
                             initializer=_start, initargs=(plan,)) as pool:
        waiting = [pool.submit(_judged, build, number, data.rows[number])
                   for build, number in todo]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BrokenProcessPool as error:
            raise SetError("a process ended before its work did, for want of memory perhaps; "
                           "fewer --jobs need less") from error
        finally:
            for task in waiting:
                task.cancel()


# The record

def _about(plan: Plan, data: DataSet) -> dict[str, Any]:
    """What must be the same for an evaluation to go on."""
    return {"model": plan.model, "data": data.name, "sha256": data.digest, "metric": plan.metric,
            "fusion": plan.fusion, "tokens": plan.tokens,
            "adapter": None if plan.adapter is None else str(plan.adapter)}


def _builds(plan: Plan) -> dict[str, Any]:
    return {name: None if config is None else config.as_dict()
            for name, config in plan.builds.items()}


def _recorded(plan: Plan, data: DataSet, record: Path | None) -> dict[Key, Outcome]:
    """What a record has already; ``SetError`` for one of another evaluation. Its last line may have
    been cut."""
    if record is None or not record.exists():
        return {}
    try:
        lines = record.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise SetError(f"output must be a readable record of an evaluation, not {str(record)!r}: "
                       f"{error}") from error
    found, told = {}, _builds(plan)
    for number, line in enumerate(lines[:-1], 1):
        try:
            one = json.loads(line)
            if "about" in one:
                _same(record, one["about"], _about(plan, data))
                _same(record, {name: config for name, config in one["builds"].items()
                               if name in told}, {name: told[name] for name in one["builds"]
                                                  if name in told})
                continue
            key = one.pop("build"), one.pop("row")
            if key[0] in told and 0 <= key[1] < len(data.rows):
                found[key] = one
        except SetError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SetError(f"{record}, line {number}: a record of an evaluation must be as it was "
                           f"written: {error!r}") from error
    return found


def _same(record: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if found.get(name) != value:
            raise SetError(f"{record} is of another evaluation: {name} was {found.get(name)!r}, "
                           f"not {value!r}; another -o begins anew")


class _Record:
    """Appends to a record, whose end is mended first."""

    def __init__(self, plan: Plan, data: DataSet, record: Path | None) -> None:
        self._file = None
        if record is None:
            return
        if record.exists():
            content = record.read_bytes()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                os.truncate(record, whole)
        self._file = record.open("a", encoding="utf-8")
        self._line({"about": _about(plan, data), "builds": _builds(plan)})

    def __enter__(self) -> "_Record":
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, key: Key, outcome: Outcome) -> None:
        if self._file is not None:
            self._line({"build": key[0], "row": key[1], **outcome})

    def _line(self, told: Mapping[str, Any]) -> None:
        assert self._file is not None, "a record that is written"
        self._file.write(json.dumps(told, ensure_ascii=False) + "\n")
        self._file.flush()
