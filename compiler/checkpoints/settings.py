"""Values that describe a model, from ``config.json`` or a GGUF file, checked one by one."""

import json
import reprlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from compiler.checkpoints.checkpoint import CheckpointError

__all__ = ["Settings", "read_json", "shown"]


_LARGEST = 1 << 26  # bytes of a JSON file: an index of many thousand tensors has a hundredth
_MOST = 1 << 20  # of anything that is counted, but for these
_MOST_ROWS, _MOST_LAYERS = 1 << 24, 10_000
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxstring, _SHOWN.maxother, _SHOWN.maxlong = 3, 100, 100, 60


def shown(value: object) -> str:
    """A value of a file in a message: a few of its items, a few levels deep."""
    return _SHOWN.repr(value)


def read_json(path: Path, kind: type) -> Any:
    """What a JSON file holds, a ``dict`` or a ``list`` as ``kind`` says; ``CheckpointError``. No
    name may stand twice in an object: which of the two counts is not known."""
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise ValueError(f"it has {size} bytes, more than {_LARGEST}")
        values = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once)
    except (OSError, ValueError, RecursionError) as error:  # the last: nested too deep
        reason = getattr(error, "strerror", None) or str(error)
        raise CheckpointError(f"{path} must be a readable JSON file: {reason}") from error
    if not isinstance(values, kind):
        raise CheckpointError(f"{path} must hold a JSON {kind.__name__}, "
                              f"not {type(values).__name__}")
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} must stand once in an object, not again")
    return found


class Lookup(Protocol):
    """A mapping, or a file that finds values by name."""

    def get(self, name: str, /) -> Any:
        """The value, ``None`` where there is none."""


class Settings:
    """``values`` by name; ``where`` opens the message of each ``CheckpointError``.

    A null counts as absent. ``prefix`` stands before each name, in the messages too.
    """

    def __init__(self, values: Lookup, where: str, prefix: str = "") -> None:
        self.values = values
        self.where = where
        self.prefix = prefix

    @classmethod
    def from_json(cls, path: Path) -> "Settings":
        """The object in a JSON file; ``CheckpointError``."""
        return cls(read_json(path, dict), str(path))

    def get(self, name: str) -> Any:
        """The value or None."""
        return self.values.get(self.prefix + name)

    def refuse(self, name: str, what: str) -> CheckpointError:
        """The error that says what ``name`` must be."""
        return CheckpointError(f"{self.where}: {self.prefix}{name} must be {what}, "
                               f"not {shown(self.get(name))}")

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number of at least 1, and no more than any model has."""
        value = self.get(name) if self.get(name) is not None else default
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.refuse(name, "a whole number of at least 1")
        most = (_MOST_LAYERS if "layer" in name or "block" in name
                else _MOST_ROWS if "vocab" in name or "position" in name else _MOST)
        if value > most:
            raise self.refuse(name, f"at most {most}")
        return value

    def divided(self, name: str, by: str) -> tuple[int, int]:
        """Two counts of which the second divides the first, a width and its heads."""
        whole, parts = self.count(name), self.count(by)
        if whole % parts:
            raise self.refuse(by, f"a divisor of {self.prefix}{name} = {whole}")
        return whole, parts

    def whole(self, name: str, default: int | None = None) -> int:
        """A whole number of at least 0."""
        value = self.get(name) if self.get(name) is not None else default
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.refuse(name, "a whole number of at least 0")
        return value

    def positive(self, name: str, default: float | None = None) -> float:
        """A finite number above 0."""
        value = self.get(name) if self.get(name) is not None else default
        if (isinstance(value, bool) or not isinstance(value, int | float)
                or not 0 < value <= sys.float_info.max):
            raise self.refuse(name, "a number above 0")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        value = self.get(name) if self.get(name) is not None else default
        if not isinstance(value, bool):
            raise self.refuse(name, "true or false")
        return value

    def require(self, name: str, allowed: Sequence[Any], what: str) -> None:
        """Refuse a value that is given and not among ``allowed``."""
        if self.get(name) is not None and self.get(name) not in allowed:
            raise self.refuse(name, what)
