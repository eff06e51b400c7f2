"""A data set through builds, example by example: ``evaluate``.

What an example gave is a line of a record at once, so that an evaluation that was stopped goes on
where it was.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compiler.centred import CENTRINGS
from sim.inference.datasets import DataSet, SetError
from sim.inference.judging import Key, Outcome, Plan
from sim.inference.workers import outcomes

__all__ = ["evaluate"]


def evaluate(plan: Plan, data: DataSet, record: Path | None = None, jobs: int = 1,
             tell: Callable[[float, str], None] = lambda share, where: None,
             scheduler: str | None = None) -> dict[str, list[Outcome]]:
    """Of each build the outcomes of all rows, in their order.

    ``record``: a file of JSON lines that each outcome goes to at once; one that is there already
    is gone on with. ``jobs``, ``scheduler``: who works (``workers.outcomes``). ``tell`` hears how
    far it is. ``SetError`` for a record of another evaluation, and, as ``ValueError`` or
    ``RunError``, for rows that the model cannot take.
    """
    found = _recorded(plan, data, record)
    todo = [(build, number, row) for number, row in enumerate(data.rows) for build in plan.builds
            if (build, number) not in found]
    total = len(data.rows) * len(plan.builds)
    with _Record(plan, data, record) as lines:
        for key, outcome in outcomes(plan, todo, jobs, scheduler):
            found[key] = outcome
            lines.add(key, outcome)
            tell(len(found) / total, f"{len(found)} of {total} examples")
    return {build: [found[build, number] for number in range(len(data.rows))]
            for build in plan.builds}


def _about(plan: Plan, data: DataSet) -> dict[str, Any]:
    """What must be the same for an evaluation to go on."""
    return {"model": plan.model, "data": data.name, "sha256": data.digest, "metric": plan.metric,
            "fusion": plan.fusion, "tokens": plan.tokens,
            "adapter": None if plan.adapter is None else str(plan.adapter),
            "scales": plan.scales, "balance": plan.balance or None,
            "centring": None if plan.centring == CENTRINGS[0] else plan.centring} | (
                {"new": plan.new, "language": plan.language, "task": plan.task}
                if plan.metric == "wer" else {})


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
