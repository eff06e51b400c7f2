"""What stands before the tensors of a GGUF file: settings by name, and where each tensor lies.

Nothing is believed: every count and every place is checked against the file before it is used, so
that a damaged file costs no more than a sound one of its size.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError

__all__ = ["GgufHeader", "TensorPlace", "read_header"]

Bytes = memoryview
_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_BOOL, _STRING, _ARRAY = 7, 8, 9
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}
_LEAST_FIELD, _LEAST_TENSOR = 13, 24  # bytes: empty name, type, one byte; name, sizes, type, place
_SIZE = struct.Struct("<Q")  # of a text
_DEEPEST = 4
_MOST_SIZES = 4
_ALIGNMENT = 32
_LONGEST_NAME = 1 << 16


@dataclass(frozen=True)
class TensorPlace:
    """``shape`` as numpy has it, outputs × inputs; ``kind``: the number of its type; ``start``: its
    first byte in the file."""

    shape: tuple[int, ...]
    kind: int
    start: int


@dataclass(frozen=True)
class GgufHeader:
    """``fields``: of each setting its type and where its value begins."""

    path: Path
    data: Bytes
    fields: dict[str, tuple[int, int]]
    tensors: dict[str, TensorPlace]

    def value(self, name: str) -> Any:
        """A setting as Python's own type, a list for an array; ``CheckpointError``."""
        kind, start = self.fields[name]
        reader = _Reader(self.path, self.data, start)
        return reader.value(kind, name)


class _Reader:
    """Reads one value after the other from byte ``at`` on."""

    def __init__(self, path: Path, data: Bytes, at: int) -> None:
        self.path, self.data, self.at = path, data, at

    def fail(self, message: str) -> CheckpointError:
        return CheckpointError(f"{self.path} must be a whole GGUF file: {message}")

    def take(self, size: int, what: str) -> int:
        """Go ``size`` bytes on: where they begin."""
        start = self.at
        if size > len(self.data) - start:
            raise self.fail(f"{what} takes {size} bytes from byte {start} on, but the file ends at "
                            f"{len(self.data)}")
        self.at = start + size
        return start

    def number(self, form: str, what: str) -> Any:
        return struct.unpack_from(f"<{form}", self.data, self.take(struct.calcsize(form), what))[0]

    def text(self, what: str, most: int | None = None) -> str:
        size = self.number("Q", what)
        if most is not None and size > most:
            raise self.fail(f"{what} must have at most {most} bytes, not {size}")
        start = self.take(size, what)
        try:
            return str(self.data[start:start + size], "utf-8")
        except UnicodeDecodeError:
            raise self.fail(f"{what} at byte {start} must be UTF-8") from None

    def value(self, kind: int, what: str, depth: int = 0) -> Any:
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind], what)
        if kind == _BOOL:
            value = self.number("B", what)
            if value > 1:
                raise self.fail(f"{what} must be 0 or 1, not {value}")
            return bool(value)
        if kind == _STRING:
            return self.text(what)
        inner, count = self.array(kind, what, depth)
        if inner in _NUMBERS:
            form = np.dtype(f"<{_NUMBERS[inner]}")
            start = self.take(count * form.itemsize, what)
            return np.frombuffer(self.data, form, count, start).tolist()
        if inner == _STRING:
            return self._texts(count, what)
        return [self.value(inner, what, depth + 1) for _ in range(count)]

    def array(self, kind: int, what: str, depth: int) -> tuple[int, int]:
        """Type and count of the items of an array that begins here."""
        if kind != _ARRAY:
            raise self.fail(f"{what} must be of a type from 0 to 12, not {kind}")
        if depth == _DEEPEST:
            raise self.fail(f"{what} must have arrays at most {_DEEPEST} deep")
        inner, count = self.number("I", what), self.number("Q", what)
        least = 12 if inner == _ARRAY else 8 if inner == _STRING else 1
        if count > (len(self.data) - self.at) // least:
            raise self.fail(f"{what} must have as many items as the file has room for, not {count}")
        return inner, count

    def skip(self, kind: int, what: str, depth: int = 0) -> None:
        """Go past a value, which is checked and not kept."""
        if kind != _ARRAY:
            self.value(kind, what)
            return
        inner, count = self.array(kind, what, depth)
        if inner in _NUMBERS or inner == _BOOL:
            self.take(count * struct.calcsize(_NUMBERS.get(inner, "B")), what)
            return
        if inner == _STRING:
            self.at = self._after_texts(count, what)
            return
        for _ in range(count):
            self.skip(inner, what, depth + 1)

    def _after_texts(self, count: int, what: str) -> int:
        """Where ``count`` texts end. A vocabulary has a hundred thousand: nothing else is done."""
        at, end, size_at = self.at, len(self.data), _SIZE.unpack_from
        try:
            for _ in range(count):
                at += _SIZE.size + size_at(self.data, at)[0]
        except (struct.error, OverflowError):
            at = end + 1
        if at > end:
            raise self.fail(f"{what} must end before the file does, at byte {end}")
        return at

    def _texts(self, count: int, what: str) -> list[str]:
        """The ``count`` texts from here on."""
        found, at, size_at = [], self.at, _SIZE.unpack_from
        self.at = self._after_texts(count, what)
        try:
            for _ in range(count):
                start = at + _SIZE.size
                at = start + size_at(self.data, at)[0]
                found.append(str(self.data[start:at], "utf-8"))
        except UnicodeDecodeError:
            raise self.fail(f"{what} at byte {start} must be UTF-8") from None
        return found


def read_header(path: Path, data: Bytes) -> GgufHeader:
    """The header of a file whose bytes are ``data``; ``CheckpointError`` where it is none, or says
    what cannot be."""
    reader = _Reader(path, data, 0)
    magic = bytes(data[:4])
    if magic != _MAGIC:
        raise reader.fail(f"it begins with {magic!r}, not with {_MAGIC!r}")
    reader.at = 4
    version = reader.number("I", "version")
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big") in _VERSIONS
        raise reader.fail(f"version must be 2 or 3, little-endian, not "
                          f"{'big-endian' if swapped else version}")
    tensors, fields = reader.number("Q", "number of tensors"), reader.number("Q", "settings")
    if tensors * _LEAST_TENSOR + fields * _LEAST_FIELD > len(data):
        raise reader.fail(f"{tensors} tensors and {fields} settings must be as many as its "
                          f"{len(data)} bytes have room for")
    found: dict[str, tuple[int, int]] = {}
    for number in range(fields):
        name = reader.text(f"name of setting {number}", _LONGEST_NAME)
        kind = reader.number("I", name)
        if name in found:
            raise reader.fail(f"setting {name} must stand once, not again")
        found[name] = kind, reader.at
        reader.skip(kind, name)
    listed = dict(_tensors(reader, tensors))
    header = GgufHeader(path, data, found, {})
    alignment = _ALIGNMENT
    if "general.alignment" in found:
        alignment = header.value("general.alignment")
    if not isinstance(alignment, int) or alignment < 8 or alignment & (alignment - 1):
        raise reader.fail(f"general.alignment must be a power of two from 8 up, not {alignment!r}")
    first = -(-reader.at // alignment) * alignment
    for name, place in listed.items():
        if place.start % alignment:
            raise reader.fail(f"tensor {name} must lie at a multiple of {alignment}, "
                              f"not at {place.start}")
        header.tensors[name] = TensorPlace(place.shape, place.kind, first + place.start)
    return header


def _tensors(reader: _Reader, count: int) -> Iterator[tuple[str, TensorPlace]]:
    seen = set()
    for number in range(count):
        name = reader.text(f"name of tensor {number}", _LONGEST_NAME)
        sizes = reader.number("I", f"tensor {name}")
        if name in seen:
            raise reader.fail(f"tensor {name} must stand once, not again")
        if not 1 <= sizes <= _MOST_SIZES:
            raise reader.fail(f"tensor {name} must have 1 to {_MOST_SIZES} sizes, not {sizes}")
        seen.add(name)
        shape = tuple(reader.number("Q", f"tensor {name}") for _ in range(sizes))
        if 0 in shape:
            raise reader.fail(f"tensor {name} must have sizes of at least 1, not {shape}")
        kind = reader.number("I", f"tensor {name}")
        yield name, TensorPlace(shape[::-1], kind, reader.number("Q", f"tensor {name}"))
