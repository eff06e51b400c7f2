"""Protocol Buffers as they lie in a file: fields of a message, by number and place.

Nothing is believed: every length is checked against its message before it is used, and what is of
no use is stepped over, so that a file costs what is read of it.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError

__all__ = ["VARINT", "Field", "Message", "varints"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_LONGEST = 10  # bytes of a number
_KINDS = {VARINT: "a number", FIXED64: "8 bytes", BYTES: "a length and bytes", FIXED32: "4 bytes"}
_MOST_TEXT = 1 << 16


@dataclass(frozen=True)
class Field:
    """``value``: of a number, read as unsigned, or of bytes of a fixed size; they are
    ``start`` … ``end``."""

    number: int
    kind: int
    value: int
    start: int
    end: int


@dataclass(frozen=True)
class Message:
    """Bytes ``start`` … ``end`` of a file; ``what`` it is, for messages of errors."""

    data: memoryview
    start: int
    end: int
    where: str
    what: str

    def error(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.where} must be a whole ONNX file: {self.what} {what}")

    def fields(self) -> Iterator[Field]:
        """In their order; ``CheckpointError`` where the bytes are none."""
        at = self.start
        while at < self.end:
            tag, at = self._varint(at)
            number, kind = tag >> 3, tag & 7
            if not number or kind not in _KINDS:
                raise self.error(f"has field {number} of type {kind} at byte {at}")
            if kind == VARINT:
                value, after = self._varint(at)
                yield Field(number, kind, value, at, after)
                at = after
                continue
            if kind == BYTES:
                size, at = self._varint(at)
            else:
                size = 8 if kind == FIXED64 else 4
            if size > self.end - at:
                raise self.error(f"ends at byte {self.end}, its field {number} of {size} bytes "
                                 f"begins at {at}")
            value = 0 if kind == BYTES else int.from_bytes(self.data[at:at + size], "little")
            yield Field(number, kind, value, at, at + size)
            at += size

    def _varint(self, at: int) -> tuple[int, int]:
        """A number and the byte after it."""
        value = 0
        for index in range(_LONGEST):
            if at + index >= self.end:
                raise self.error(f"ends at byte {self.end}, within a number")
            byte = self.data[at + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value & (1 << 64) - 1, at + index + 1
        raise self.error(f"has a number of more than {_LONGEST} bytes at byte {at}")

    def inner(self, field: Field, what: str) -> "Message":
        """The message that is the value of ``field``."""
        self.require(field, BYTES)
        return Message(self.data, field.start, field.end, self.where, what)

    def require(self, field: Field, *kinds: int) -> None:
        if field.kind not in kinds:
            raise self.error(f"must have {' or '.join(_KINDS[kind] for kind in kinds)} in field "
                             f"{field.number}, not {_KINDS[field.kind]}")

    def text(self, field: Field) -> str:
        self.require(field, BYTES)
        if field.end - field.start > _MOST_TEXT:
            raise self.error(f"has a text of {field.end - field.start} bytes in field "
                             f"{field.number}, more than {_MOST_TEXT}")
        try:
            return bytes(self.data[field.start:field.end]).decode()
        except UnicodeDecodeError as error:
            raise self.error(f"must have UTF-8 in field {field.number}") from error

    def signed(self, field: Field) -> int:
        """A number of 64 bits."""
        self.require(field, VARINT)
        return field.value - (1 << 64) if field.value >> 63 else field.value

    def floating(self, field: Field) -> float:
        self.require(field, FIXED32)
        return struct.unpack("<f", field.value.to_bytes(4, "little"))[0]

    def many(self, field: Field) -> list[int]:
        """Signed numbers, one or packed."""
        if field.kind == VARINT:
            return [self.signed(field)]
        self.require(field, BYTES, VARINT)
        found = varints(np.frombuffer(self.data[field.start:field.end], np.uint8))
        if found is None:
            raise self.error(f"ends field {field.number} within a number")
        return found.tolist()

    def many_floats(self, field: Field) -> list[float]:
        if field.kind == FIXED32:
            return [self.floating(field)]
        self.require(field, BYTES, FIXED32)
        if (field.end - field.start) % 4:
            raise self.error(f"ends field {field.number} within a number")
        return np.frombuffer(self.data[field.start:field.end], "<f4").tolist()


def varints(content: np.ndarray) -> np.ndarray | None:
    """Packed numbers in the uint8 ``content`` as int64; ``None`` where the last is cut off or one
    is too long."""
    if not content.size:
        return np.zeros(0, np.int64)
    last = content < 0x80
    ends = np.flatnonzero(last)
    if not last[-1]:
        return None
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST:
        return None
    found = np.zeros(len(ends), np.uint64)
    for index in range(int(lengths.max())):
        here = np.minimum(starts + index, len(content) - 1)
        part = (content[here] & 0x7F).astype(np.uint64) << np.uint64(7 * index)
        found |= np.where(index < lengths, part, np.uint64(0))
    return found.view(np.int64)
