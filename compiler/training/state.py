"""A training run in a file: it goes on from there with the bits of a run that never stopped."""

import json
import os
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.training.trainer import Trainer

__all__ = ["restore", "save_state"]

_ROWS = ("high", "low", "first", "second")


def save_state(path: Path, trainer: Trainer, about: dict[str, object]) -> None:
    """Write masters, moments, scales and the number of steps; the file appears whole or not at
    all. ``about``: what makes the run what it is, compared when it goes on. ``OSError``."""
    told = {"about": about, "steps": trainer.updater.steps,
            "histories": trainer.numerics.histories()}
    whole = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with whole.open("wb") as file:
            np.savez(file, told=np.array(json.dumps(told)), **trainer.updater.state())
        os.replace(whole, path)
    finally:
        whole.unlink(missing_ok=True)


def restore(path: Path, trainer: Trainer, about: dict[str, object]) -> None:
    """Put ``trainer`` where the run in ``path`` was; ``CheckpointError`` in one line for a file
    that is damaged or of another run."""
    try:
        # Opened here: numpy does not close what it opened and cannot read.
        with path.open("rb") as raw, np.load(raw) as file:
            told = json.loads(str(file["told"]))
            rows = {name: file[name] for name in _ROWS}
        saved, steps, histories = told["about"], told["steps"], told["histories"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"state must be a file of an earlier run, not {path}: {reason}"
                              ) from error
    for name in dict.fromkeys((*about, *saved)):
        value = about.get(name)
        if saved.get(name) != json.loads(json.dumps(value)):
            raise CheckpointError(f"{path} is of another run: {name} was {saved.get(name)!r}, "
                                  f"not {value!r}")
    try:
        trainer.resume(steps, rows, histories)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
