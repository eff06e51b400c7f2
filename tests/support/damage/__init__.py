"""Files of users, damaged or odd: more than two hundred, each with what reads it.

Every one is to be refused in one line, or read right where it is odd and no more (``read``).
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compiler.checkpoints import load
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import bert as sample
from compiler.lowering.lower import lower
from compiler.training.adapters import AdapterSet, save_adapters
from compiler.training.gradients.weights import Adapter
from hdl.spec.config import AcceleratorConfig

from .adapters import adapters
from .changes import Change
from .checkpoints import configs, counts, modules, safetensors, tokenizers
from .gguf import ggufs
from .images import images
from .onnx import onnx_files, write_sound
from .shards import in_parts, shards

__all__ = ["Damage", "copied", "damages", "sound_files"]


@dataclass(frozen=True)
class Damage:
    """``change`` spoils the copy of a sound file or folder of ``kind``; ``read``: it is odd alone,
    and read all the same."""

    name: str
    kind: str
    change: Change
    read: bool = False


def sound_files(folder: Path, bert: Path, llama: Path, gguf: Path) -> dict[str, Path]:
    """What is spoiled, by kind; a model's image beside checkpoints."""
    program = lower(AcceleratorConfig("posit8", dim=4), sample(), Inputs("ids", np.arange(6)[None]))
    program.image.save(folder / "image.ottava")
    rng = np.random.default_rng(1)
    save_adapters(folder / "adapter", load(bert), AdapterSet({"blocks.0.query": Adapter(
        rng.normal(0, 1, (2, 8)), rng.normal(0, 1, (8, 2)), 0.5)}))
    return {"bert": bert, "llama": llama, "gguf": gguf, "image": folder / "image.ottava",
            "adapter": folder / "adapter", "shards": in_parts(bert, folder / "shards"),
            "onnx": write_sound(folder / "onnx/graph.onnx")}


def copied(source: Path, target: Path) -> Path:
    target = target / source.name
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    return target


def damages() -> list[Damage]:
    return [Damage(f"{kind}: {name}", kind, change, read)
            for kind, part in (("bert", counts("bert")), ("llama", counts("llama")),
                               ("bert", configs()), ("bert", safetensors()),
                               ("bert", tokenizers()), ("bert", modules()), ("gguf", ggufs()),
                               ("image", images()), ("adapter", adapters()),
                               ("shards", shards()), ("onnx", onnx_files()))
            for name, change, read in ((*entry, False)[:3] for entry in part)]
