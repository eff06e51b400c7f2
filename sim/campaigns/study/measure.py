"""One cell: trains, measures, and keeps the result in the build folder by what it was made from."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from compiler.checkpoints.registry import load, tokenizer
from compiler.training.description import AdamW, LowRank, Training
from compiler.training.gradients.eight_bit import EightBit
from compiler.training.gradients.network import Batch
from compiler.training.gradients.numerics import Array, Exact
from compiler.training.tasks import Task, digits_task, movie_reviews, with_head
from compiler.training.trainer import NotFinite, Trainer, batches
from gen.cli.folders import build_folder
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.sources import digest_of
from sim.campaigns.study.cells import PLAIN, Cell

__all__ = ["Result", "kept", "measure", "sources"]

Result = dict[str, object]
_POINTS = 21  # of a curve of losses
_SOURCES = ("compiler/training/gradients", "compiler/training/trainer.py",
            "compiler/training/update.py", "sim/campaigns/study/measure.py",
            *(f"sim/model/{name}.py" for name in ("codec", "lanes", "rounding", "tables")),
            *(f"hdl/spec/{name}.py" for name in ("activations", "formats", "tables")))


def sources() -> str:
    """Digest of the programs that a result follows from."""
    return digest_of(_SOURCES)


def _path(cell: Cell) -> Path:
    text = json.dumps(asdict(cell), sort_keys=True)
    return build_folder() / "study" / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.json"


def kept(cell: Cell, any_sources: bool = False) -> Result | None:
    """The result of an earlier run, unless its programs were others; ``any_sources``: even then."""
    try:
        found = json.loads(_path(cell).read_text())
    except (OSError, ValueError):
        return None
    return found if any_sources or found["sources"] == sources() else None


class _Watched(EightBit):
    """Reports how far rows of score gradients are from adding up to zero, while ``watching``."""

    watching = False
    rows = items = 0.0

    def gradient(self, site: str, g: Array) -> Array:
        stored = super().gradient(site, g)
        if self.watching and site.endswith(" ds"):
            self.rows += float(np.abs(g.sum(axis=-1, dtype=np.float64)).sum())
            self.items += float(np.abs(g).sum(dtype=np.float64))
        return stored


@cache
def _task(name: str, model: str) -> Task:
    return digits_task(name) if name.startswith("digits") else movie_reviews(tokenizer(model))


def _trainer(cell: Cell) -> tuple[Trainer, Iterator[Batch], Task]:
    task = _task(cell.task, cell.model)
    training = Training(LowRank(rank=cell.rank), AdamW(), rate=cell.rate, steps=cell.steps,
                        batch=cell.batch, seed=cell.seed)
    numerics = Exact(np.float32) if cell.fmt == PLAIN else _Watched(
        AcceleratorConfig(cell.fmt, softmax=cell.softmax), backward=cell.backward,
        scaling=cell.scaling)
    model = with_head(load(cell.model), len(task.classes), seed=cell.seed)
    trainer = Trainer(model, training, task.kind, numerics, cell.masters)
    return trainer, batches(task.train, cell.batch, cell.seed), task


def measure(cell: Cell) -> Result:
    """Train and measure; the result is kept.

    ``accuracy`` and ``held_out_loss`` on what is held out, as the run's own arithmetic reads it;
    ``last_loss`` the mean of the last twentieth of the updates; ``curve`` the mean of every
    twentieth. After a tenth of the updates: ``cosine`` of all gradients to those of fp32 at the
    same place, ``worst_cosine`` of one tensor; ``leak``, the row sums of score gradients over
    their items, both in magnitude. ``failed``: why it ended early.
    """
    started = time.process_time()
    trainer, stream, task = _trainer(cell)
    result: Result = {"cell": asdict(cell), "sources": sources(), "failed": None}
    losses: list[float] = []
    try:
        trainer.calibrate(next(stream))
        for number, batch in zip(range(cell.steps), stream, strict=False):
            if number == cell.steps // 10 and cell.fmt != PLAIN:
                result |= _probe(trainer, batch)
            losses.append(trainer.step(batch).loss)
    except NotFinite as error:
        result["failed"] = str(error)
    loss, accuracy = trainer.evaluate(task.held_out)
    part = max(1, cell.steps // (_POINTS - 1))
    curve = [float(np.mean(losses[start:start + part]))
             for start in range(0, len(losses), part)][:_POINTS]
    last = float(np.mean(losses[-part:])) if losses else float("nan")
    result |= {"accuracy": accuracy, "held_out_loss": loss, "last_loss": last, "curve": curve,
               "saturated": int(getattr(trainer.numerics, "saturated", 0)),
               "seconds": round(time.process_time() - started, 1)}
    _keep(cell, result)
    return result


def _probe(trainer: Trainer, batch: Batch) -> Result:
    """Gradients of one batch against those of float32 with the very same arrays."""
    numerics: Any = trainer.numerics
    numerics.watching = True
    _, own = trainer.gradients(batch)
    numerics.watching = False
    plain = trainer.again(Exact(np.float32))
    _, true = plain.gradients(batch)
    cosines = {name: _cosine(own[name], true[name]) for name in own}
    worst = min(cosines, key=cosines.get)
    every = [np.concatenate([found[name].ravel() for name in own]) for found in (own, true)]
    return {"cosine": _cosine(*every), "worst_cosine": cosines[worst], "worst_tensor": worst,
            "leak": numerics.rows / numerics.items if numerics.items else 0.0}


def _cosine(a: Array, b: Array) -> float:
    a, b = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths else 0.0


def _keep(cell: Cell, result: Result) -> None:
    path = _path(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_suffix(f".{os.getpid()}")
    whole.write_text(json.dumps(result))
    os.replace(whole, path)
