"""Small checkpoints of every family, with what transformers computes of them."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compiler.checkpoints.description import Patches, Transformer
from compiler.checkpoints.inputs import Inputs
from tools import family_vectors
from tools.family_vectors import write

__all__ = ["NAMES", "Stored", "stored"]

# Those of the project, or others that tools/family_vectors.py has made.
FOLDER = Path(os.environ.get("OTTAVA_FAMILIES") or family_vectors.FOLDER)
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


@dataclass(frozen=True)
class Stored:
    """One file of ``tests/golden/families``."""

    values: dict[str, Any]

    @property
    def output(self) -> np.ndarray:
        return np.array(self.values["output"])

    def write(self, folder: Path, **config: Any) -> Path:
        """The checkpoint, with changes to its settings."""
        return write(folder, self.values["config"] | config, self.values["shapes"])

    def inputs(self, model: Transformer) -> Inputs:
        """What ``model`` reads: one sequence."""
        given = self.values["inputs"]
        if isinstance(model.embedding, Patches):
            return Inputs("patches", model.embedding.of_image(np.array(given["pixels"]))[None])
        segments = np.array([given["segments"]]) if "segments" in given else None
        source = Inputs("ids", np.array([given["source"]])) if "source" in given else None
        if "frames" in given:
            assert model.encoder is not None and isinstance(model.encoder.embedding, Patches)
            frames = model.encoder.embedding.of_frames(np.array(given["frames"]).T)
            source = Inputs("patches", frames[None])
        return Inputs("ids", np.array([given["ids"]]), segments=segments, source=source)


def stored(name: str) -> Stored:
    return Stored(json.loads((FOLDER / f"{name}.json").read_text()))
