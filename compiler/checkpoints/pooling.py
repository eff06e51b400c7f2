"""What ``modules.json`` of Sentence Transformers says follows an encoder."""

from dataclasses import replace
from pathlib import Path

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.description import Pooling, Transformer
from compiler.checkpoints.settings import Settings, read_json, shown

__all__ = ["has_modules", "pooling_of"]

_FILE = "modules.json"
# From 5.4 on one value says what flags said before.
_MODES = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens",
          "lasttoken": "pooling_mode_lasttoken"}
_KINDS: dict[tuple[str, ...], dict[str, Pooling]] = {
    ("Transformer",): {"": "none"},
    ("Transformer", "Pooling"): {_MODES["cls"]: "first", _MODES["mean"]: "mean",
                                 _MODES["lasttoken"]: "last"},
    ("Transformer", "Pooling", "Normalize"): {_MODES["cls"]: "first_l2",
                                              _MODES["mean"]: "mean_l2"},
}


def has_modules(folder: Path) -> bool:
    return (folder / _FILE).exists()


def pooling_of(folder: Path, model: Transformer) -> Transformer:
    """``model`` with the pooling that the folder's modules have; ``CheckpointError``."""
    path = folder / _FILE
    kinds, chosen = [], []
    for module in read_json(path, list):
        where = Settings(module if isinstance(module, dict) else {}, str(path))
        kind = where.get("type")
        kinds.append(kind.rsplit(".", 1)[-1] if isinstance(kind, str) else shown(kind))
        if kinds[-1] == "Pooling":
            pooled = read_json(folder / str(where.get("path")) / "config.json", dict)
            chosen += [name for name, value in pooled.items()
                       if name.startswith("pooling_mode_") and value is True]
            mode = pooled.get("pooling_mode")
            chosen += [_MODES.get(mode, mode)] if isinstance(mode, str) else []
    found = _KINDS.get(tuple(kinds), {}).get(",".join(chosen))
    if found is None:
        raise CheckpointError(
            f"{path}: modules must be Transformer, then Pooling of the first, the mean or the "
            "last, then Normalize after the first or the mean alone, not "
            f"{', '.join(kinds)} with {', '.join(chosen) or 'no pooling'}")
    return replace(model, pooling=found)
