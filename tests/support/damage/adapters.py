"""Damaged adapters."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from .changes import DEEP, Change, Entries, content, cut, edited, removed, update

__all__ = ["adapters"]


def adapters() -> Entries:
    config, file = "adapter_config.json", "adapter_model.safetensors"
    yield "no config", removed(config)
    yield "no tensors", removed(file)
    for what, text in (("empty", ""), ("a list", "[]"), ("deep", DEEP), ("cut", '{"r": 2, "lo')):
        yield f"config {what}", content(config, text)
    for name, values in (("r", ("2", 0, 3, 1 << 60, [2])), ("lora_alpha", ("1", -1, [1], None)),
                         ("peft_type", ("MAGIC", 5)), ("bias", ("all", 1)),
                         ("use_dora", (True, "yes")), ("rank_pattern", ({"a": 4}, [1])),
                         ("fan_in_fan_out", (True,)), ("use_rslora", ("yes",))):
        for value in values:
            yield f"{name} {value}", edited(config, update(**{name: value}))
    for share in (0.01, 0.5, 0.99):
        yield f"cut at {share}", cut(file, share)
    yield "text", content(file, "no tensors at all")
    for what, edit in (
            ("half a pair", lambda found: found.pop(sorted(found)[0])),
            ("none", dict.clear), ("NaN", lambda found: found[sorted(found)[0]].fill(np.nan)),
            ("another layer", lambda found: found.update({name.replace("layer.0", "layer.7"):
                                                          found.pop(name) for name in [*found]})),
            ("another shape", lambda found: found.update(dict.fromkeys(
                found, np.ones((3, 3), np.float32)))),
            ("one too many", lambda found: found.update(extra=np.ones(3, np.float32))),
            ("a row", lambda found: found.update({sorted(found)[0]: np.ones(8, np.float32)}))):
        yield f"tensors: {what}", _adapter_tensors(file, edit)


def _adapter_tensors(name: str, edit: Callable[[dict[str, np.ndarray]], object]) -> Change:
    def change(folder: Path) -> None:
        found = dict(load_file(folder / name))
        edit(found)
        save_file(found, folder / name, {"format": "pt", "pooling": "none"})
    return change
