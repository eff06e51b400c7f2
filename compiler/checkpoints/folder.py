"""Checkpoints as Hugging Face lays them out: ``config.json`` next to ``model.safetensors``."""

from dataclasses import dataclass
from pathlib import Path

from compiler.checkpoints.checkpoint import Checkpoint, CheckpointError, Safetensors
from compiler.checkpoints.description import Activation
from compiler.checkpoints.settings import Settings

__all__ = ["Folder", "activation"]

_TENSORS = "model.safetensors"
# Names of transformers.activations and what they are here.
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu", "gelu_python": "gelu", "quick_gelu": "gelu_sigmoid", "relu": "relu",
    "silu": "silu", "swish": "silu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh", "gelu_python_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh", "tanh": "tanh",
}
_NEAREST = {"gelu_10": "gelu", "relu6": "relu", "relu2": "relu", "leaky_relu": "relu",
            "mish": "silu", "sigmoid": "silu"}


@dataclass(frozen=True)
class Folder:
    """A checkpoint's settings and tensors; nothing is read yet but the names and shapes."""

    path: Path
    settings: Settings
    checkpoint: Checkpoint

    @classmethod
    def open(cls, path: Path) -> "Folder":
        """``path``: the folder, or a safetensors file with ``config.json`` next to it.

        Raises ``CheckpointError``.
        """
        folder, tensors = (path, path / _TENSORS) if path.is_dir() else (path.parent, path)
        settings = Settings.from_json(folder / "config.json")
        if not tensors.exists() and (folder / f"{_TENSORS}.index.json").exists():
            raise CheckpointError(f"{folder}: tensors must be in one file, {_TENSORS}, "
                                  "not in several")
        return cls(folder, settings, Checkpoint(Safetensors(tensors)))


def activation(settings: Settings, name: str = "hidden_act", default: str | None = None
               ) -> Activation:
    """The activation that setting ``name`` names; other forms of it are refused."""
    value = settings.get(name) if settings.get(name) is not None else default
    if not isinstance(value, str) or value not in _ACTIVATIONS:
        nearest = _NEAREST.get(str(value))
        raise settings.refuse(name, f"one of {', '.join(_ACTIVATIONS)}"
                              + (f" (the nearest is {nearest})" if nearest else ""))
    return _ACTIVATIONS[value]
