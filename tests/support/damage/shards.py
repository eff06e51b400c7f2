"""Damaged checkpoints of several files."""

import json
import shutil
from pathlib import Path

from safetensors.numpy import load_file, save_file

from .changes import DEEP, Entries, content, cut, edited, removed, update

__all__ = ["in_parts", "shards"]


_INDEX = "model.safetensors.index.json"


def in_parts(source: Path, folder: Path) -> Path:
    """The same checkpoint in two files with an index."""
    folder.mkdir()
    shutil.copy(source / "config.json", folder)
    found = load_file(source / "model.safetensors")
    places: dict[str, str] = {}
    for part, names in enumerate((sorted(found)[::2], sorted(found)[1::2])):
        save_file({name: found[name] for name in names}, folder / f"part-{part}.safetensors")
        places |= dict.fromkeys(names, f"part-{part}.safetensors")
    (folder / _INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def shards() -> Entries:
    for what, text in (("empty", ""), ("deep", DEEP), ("a list", "[]"), ("no map", "{}")):
        yield f"index {what}", content(_INDEX, text)
    first = "embeddings.word_embeddings.weight"
    for what, value in (("a list", []), ("numbers", {first: 5}), ("none", {}),
                        ("a path above", {first: "../part-0.safetensors"}),
                        ("an absolute path", {first: "/etc/passwd"}),
                        ("a file that is not there", {first: "part-9.safetensors"})):
        yield f"map of {what}", edited(_INDEX, update(weight_map=value))
    yield "a tensor less in the map", edited(_INDEX, lambda told: told["weight_map"].pop(first))
    yield "a tensor more in the map", edited(_INDEX, lambda told: told["weight_map"].update(
        extra="part-0.safetensors"))
    yield "a tensor in the other file", edited(_INDEX, lambda told: told["weight_map"].update(
        {first: "part-0.safetensors" if told["weight_map"][first].startswith("part-1")
         else "part-1.safetensors"}))
    yield "a file less", removed("part-1.safetensors")
    yield "a file cut", cut("part-1.safetensors", 0.5)
