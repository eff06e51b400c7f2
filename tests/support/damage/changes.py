"""What is done to a copy of a file or folder, and the parts that damages are made of."""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

__all__ = ["DEEP", "Change", "Edit", "Entries", "content", "cut", "edited", "header", "inner",
           "put", "raw", "removed", "replaced_by_folder", "tensors", "update"]


Change = Callable[[Path], None]
Edit = Callable[[dict], object]
# Name, change, and whether it is read all the same.
Entries = Iterator[tuple]
DEEP = "[" * 100_000


def content(name: str, text: str | bytes) -> Change:
    def change(folder: Path) -> None:
        path = folder / name if folder.is_dir() else folder
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    return change


def removed(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def replaced_by_folder(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()
    return change


def tensors(edit: Callable[[dict[str, np.ndarray]], object]) -> Change:
    """Of ``model.safetensors``."""
    def change(folder: Path) -> None:
        path = folder / "model.safetensors"
        found = dict(load_file(path))
        edit(found)
        save_file(found, path)
    return change


def cut(name: str, share: float) -> Change:
    """The file's first part alone."""
    def change(folder: Path) -> None:
        path = folder / name if folder.is_dir() else folder
        data = path.read_bytes()
        path.write_bytes(data[:int(len(data) * share)])
    return change


def header(edit: Edit, name: str = "model.safetensors") -> Change:
    """Of a safetensors file, whatever its data."""
    def change(folder: Path) -> None:
        path = folder / name if folder.is_dir() else folder
        data = path.read_bytes()
        size, = struct.unpack("<Q", data[:8])
        told = json.loads(data[8:8 + size])
        edited = edit(told)
        text = json.dumps(told if edited is None else edited).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size:])
    return change


def raw(edit: Callable[[bytearray], Any], name: str = "model.safetensors") -> Change:
    def change(folder: Path) -> None:
        path = folder / name if folder.is_dir() else folder
        data = bytearray(path.read_bytes())
        edited = edit(data)
        path.write_bytes(data if edited is None else edited)
    return change


def update(**values: object) -> Edit:
    return lambda told: told.update(values)


def inner(name: str, **values: object) -> Edit:
    """Of an object inside."""
    return lambda told: told[name].update(values)


def put(first: int, last: int | None, value: bytes) -> Callable[[bytearray], object]:
    return lambda data: data.__setitem__(slice(first, last), value)


def edited(name: str, edit: Edit) -> Change:
    """Of a JSON file."""
    def change(folder: Path) -> None:
        told = json.loads((folder / name).read_text())
        edited = edit(told)
        (folder / name).write_text(json.dumps(told if edited is None else edited))
    return change
