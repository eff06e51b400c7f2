"""Checkpoints as Hugging Face lays them out: ``config.json`` next to files of tensors."""

from dataclasses import dataclass
from pathlib import Path

from compiler.checkpoints.checkpoint import Checkpoint, CheckpointError, Safetensors, Store
from compiler.checkpoints.description import Activation
from compiler.checkpoints.pickled import Pickled
from compiler.checkpoints.settings import Settings
from compiler.checkpoints.shards import Shards

__all__ = ["Folder", "activation"]

# Names of transformers.activations and what they are here.
_ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu", "gelu_python": "gelu", "quick_gelu": "gelu_sigmoid", "relu": "relu",
    "silu": "silu", "swish": "silu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh", "gelu_python_tanh": "gelu_tanh",
    "gelu_accurate": "gelu_tanh", "tanh": "tanh", "relu2": "relu_squared",
}
_NEAREST = {"gelu_10": "gelu", "relu6": "relu", "leaky_relu": "relu",
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
        folder = path if path.is_dir() else path.parent
        settings = Settings.from_json(folder / "config.json")
        return cls(folder, settings, Checkpoint(_store(path)))


def _store(path: Path) -> Store:
    """The tensors of a folder, or of one safetensors file."""
    if not path.is_dir():
        return Safetensors(path)
    for name, opened in (("model.safetensors", Safetensors), ("pytorch_model.bin", Pickled)):
        if (path / name).exists():
            return opened(path / name)
        if (path / f"{name}.index.json").exists():
            return Shards(path / f"{name}.index.json", opened)
    found = sorted(item.name for item in path.iterdir()
                   if item.suffix in (".bin", ".h5", ".msgpack", ".onnx", ".pt", ".pth",
                                      ".safetensors", ".gguf", ".npz", ".ckpt"))
    raise CheckpointError(f"{path} must hold model.safetensors or pytorch_model.bin, the index "
                          "of several such files, or model.onnx, not "
                          f"{', '.join(found[:5]) or 'no tensors'}")


def activation(settings: Settings, name: str = "hidden_act", default: str | None = None
               ) -> Activation:
    """The activation that setting ``name`` names; other forms of it are refused."""
    value = settings.get(name) if settings.get(name) is not None else default
    if not isinstance(value, str) or value not in _ACTIVATIONS:
        nearest = _NEAREST.get(str(value))
        raise settings.refuse(name, f"one of {', '.join(_ACTIVATIONS)}"
                              + (f" (the nearest is {nearest})" if nearest else ""))
    return _ACTIVATIONS[value]
