"""Tensors of an ONNX file: where they lie, in it or beside it, and their values when asked for."""

import math
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError, read_bytes
from compiler.checkpoints.onnx.wire import BYTES, Field, Message, varints

__all__ = ["BFLOAT16", "FLOATS", "MOST_SIZES", "TYPES", "Tensor", "read_tensor"]

MOST_SIZES = 8
"""Of a shape."""
BFLOAT16 = 16
TYPES = {1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2",
         11: "<f8", 12: "<u4", 13: "<u8", BFLOAT16: "bfloat16"}
"""Of the numbers of types those that are read."""
FLOATS = (1, 10, 11, BFLOAT16)
# Fields of numbers, and how wide they are; 0: as long as they need.
_FIXED, _VARYING = {4: "<f4", 10: "<f8"}, (5, 7, 11)


@dataclass(frozen=True)
class Tensor:
    """``places``: byte and size of each run of its bytes in file ``path``. ``field``: the number of
    the field that they are in, 9 of raw bytes."""

    name: str
    shape: tuple[int, ...]
    kind: int
    path: Path
    source: Path
    places: tuple[tuple[int, int], ...]
    field: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def dtype(self) -> np.dtype:
        if self.kind == BFLOAT16:
            import ml_dtypes

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(TYPES[self.kind])

    def load(self) -> np.ndarray:
        """The values as they are stored; ``CheckpointError``."""
        if self.field == 9:
            (start, size), = self.places
            return self._read(start, size).view(self.dtype).reshape(self.shape)
        parts = [self._read(start, size) for start, size in self.places]
        content = np.concatenate(parts) if parts else np.zeros(0, np.uint8)
        if self.field in _FIXED:
            if content.size % np.dtype(_FIXED[self.field]).itemsize:
                raise self._refuse("end with a whole number")
            values = content.view(_FIXED[self.field])
        else:
            numbers = varints(content)
            if numbers is None:
                raise self._refuse("end with a whole number")
            values = numbers
        if values.size != self.size:
            raise self._refuse(f"have {self.size} values, not {values.size}")
        if self.kind in (10, BFLOAT16):  # stored as the numbers that their bits are
            return values.astype(np.uint16).view(self.dtype).reshape(self.shape)
        return values.astype(self.dtype).reshape(self.shape)

    def _refuse(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: tensor {self.name} must {what}")

    def _read(self, start: int, size: int) -> np.ndarray:
        return read_bytes(self.source, start, size, f"tensor {self.name}")


def read_tensor(path: Path, message: Message) -> Tensor:
    """Where the tensor of ``message`` lies in file ``path`` or beside it; ``CheckpointError``."""
    shape: list[int] = []
    kind, name, outside = 0, "", False
    places: dict[int, list[Field]] = {}
    beside: dict[str, str] = {}
    for own in message.fields():
        if own.number == 1:
            shape += message.many(own)
        elif own.number == 2:
            kind = message.signed(own)
        elif own.number == 8:
            name = message.text(own)
        elif own.number in (9, *_FIXED, *_VARYING):
            places.setdefault(own.number, []).append(own)
        elif own.number == 13:
            beside |= dict([_entry(message.inner(own, "a place outside"))])
        elif own.number == 14:
            outside = message.signed(own) == 1
    if kind not in TYPES:
        raise CheckpointError(f"{path}: tensor {name} must be of a type of "
                              f"{', '.join(map(str, TYPES))}, not {kind}")
    if len(shape) > MOST_SIZES or min(shape, default=0) < 0:
        raise CheckpointError(f"{path}: tensor {name} must have at most {MOST_SIZES} sizes from 0 "
                              f"up, not {shape[:MOST_SIZES]}")
    tensor = Tensor(name, tuple(shape), kind, path, path, (), 9)
    if outside:
        return _external(tensor, beside)
    return _placed(tensor, places)


def _placed(tensor: Tensor, places: dict[int, list[Field]]) -> Tensor:
    """With the bytes that hold it, as many as its shape says."""
    if len(places) > 1:
        raise CheckpointError(f"{tensor.path}: tensor {tensor.name} must have its values in one "
                              f"field, not in {', '.join(map(str, places))}")
    size = tensor.size
    if not places:
        if size:
            raise CheckpointError(f"{tensor.path}: tensor {tensor.name} must have {size} values, "
                                  "not 0")
        return replace(tensor, places=((0, 0),))
    (number, fields), = places.items()
    found = tuple((own.start, own.end - own.start) for own in fields)
    if number == 9:
        needed = size * tensor.dtype.itemsize
        if len(found) != 1 or fields[0].kind != BYTES or found[0][1] != needed:
            raise CheckpointError(
                f"{tensor.path}: tensor {tensor.name} must have {needed} bytes for its shape "
                f"{tensor.shape}, not {', '.join(str(own) for _, own in found)}")
    elif size > sum(own for _, own in found):  # a value has a byte at least
        raise CheckpointError(f"{tensor.path}: tensor {tensor.name} must have {size} values, not "
                              f"{sum(own for _, own in found)} bytes of them")
    return replace(tensor, places=found, field=number)


def _entry(message: Message) -> tuple[str, str]:
    texts = {own.number: message.text(own) for own in message.fields() if own.number in (1, 2)}
    return texts.get(1, ""), texts.get(2, "")


def _external(tensor: Tensor, beside: dict[str, str]) -> Tensor:
    """In another file, in or under the folder of the model."""
    where = f"{tensor.path}: tensor {tensor.name}"
    location = PurePosixPath(beside.get("location", ""))
    if not location.name or location.is_absolute() or ".." in location.parts:
        raise CheckpointError(f"{where} must lie in a file of the model's folder, not at "
                              f"{beside.get('location', '')[:100]!r}")
    path = tensor.path.parent / location
    try:
        whole = path.stat().st_size
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{where} must lie in {path}: {reason}") from error
    try:
        start = int(beside.get("offset", 0))
        size = int(beside.get("length", whole - start))
    except ValueError:
        raise CheckpointError(f"{where} must have whole numbers as offset and length") from None
    needed = tensor.size * tensor.dtype.itemsize
    if start < 0 or size != needed or start + size > whole:
        raise CheckpointError(f"{where} must have {needed} bytes for its shape {tensor.shape} in "
                              f"{path.name}, which has {whole}, not {size} from byte {start}")
    return replace(tensor, source=path, places=((start, size),))
