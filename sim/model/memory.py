"""A memory image with tensors in it, as the accelerator's AXI port sees it."""

from dataclasses import dataclass

import numpy as np

from hdl.spec.commands import ErrorCause
from hdl.spec.formats import BFLOAT16, Encoding
from sim.model.codec import decode, encode
from sim.model.rounding import Array, from_words, to_words

__all__ = ["Image", "ProgramError", "TensorView"]


class ProgramError(Exception):
    """The program stops with ``cause``; ``address`` is of the header or command at fault."""

    def __init__(self, cause: ErrorCause, address: int = 0) -> None:
        super().__init__(f"{cause.name} at {address:#x}")
        self.cause = cause
        self.address = address


@dataclass(frozen=True)
class TensorView:
    """A row-major matrix as a command sees it in memory; ``stride`` in bytes, 0 repeats one row.

    ``encoding`` is ``None`` for raw BF16 lane words of a build with an 8-bit format, and for
    indices; ``element_bytes`` tells them apart.
    """

    address: int
    stride: int
    rows: int
    columns: int
    encoding: Encoding | None
    element_bytes: int

    @property
    def size(self) -> int:
        """Bytes from the first element to the end of the last."""
        return (self.rows - 1) * self.stride + self.columns * self.element_bytes

    @property
    def aligned(self) -> bool:
        """Whether BF16 stands at an even address with an even stride; all else may stand
        anywhere."""
        return self.element_bytes != 2 or not (self.address | self.stride) & 1


class Image:
    """``memory`` (uint8) at addresses from ``base``."""

    def __init__(self, memory: Array, base: int) -> None:
        if memory.dtype != np.uint8 or memory.ndim != 1:
            raise ValueError("memory must be a one-dimensional array of uint8, "
                             f"not {memory.ndim}-dimensional {memory.dtype}")
        self.memory = memory
        self.base = base

    def _window(self, tensor: TensorView, cause: ErrorCause) -> Array:
        """View of the bytes of ``tensor``; rows × bytes of a row."""
        row_bytes = tensor.columns * tensor.element_bytes
        first = tensor.address - self.base
        if first < 0 or first + tensor.size > len(self.memory):
            raise ProgramError(cause)
        step, = self.memory.strides
        return np.lib.stride_tricks.as_strided(
            self.memory[first:], (tensor.rows, row_bytes), (tensor.stride * step, step))

    def record(self, address: int, size: int) -> bytes:
        """``size`` bytes of the program at ``address``; READ_ERROR there outside the image."""
        start = address - self.base
        if start < 0 or start + size > len(self.memory):
            raise ProgramError(ErrorCause.READ_ERROR, address)
        return self.memory[start:start + size].tobytes()

    def codes(self, tensor: TensorView) -> Array:
        """What ``tensor`` holds as it is stored, rows × columns."""
        stored = np.ascontiguousarray(self._window(tensor, ErrorCause.READ_ERROR))
        return stored.view("<u2") if tensor.element_bytes == 2 else stored

    def load(self, tensor: TensorView) -> Array:
        """Lane values of ``tensor``, rows × columns."""
        stored = self.codes(tensor)
        if tensor.encoding is None:
            return from_words(BFLOAT16, stored)
        return decode(tensor.encoding, stored)

    def store(self, tensor: TensorView, values: Array) -> None:
        """Encode lane ``values`` into ``tensor``."""
        window = self._window(tensor, ErrorCause.WRITE_ERROR)
        if tensor.encoding is None:
            codes = to_words(BFLOAT16, values)
        else:
            codes = encode(tensor.encoding, values)
        if tensor.element_bytes == 2:
            codes = np.ascontiguousarray(codes).astype("<u2")
        # One by one: rows may overlap, and the last one written stays.
        for row, written in zip(window, np.ascontiguousarray(codes).view(np.uint8), strict=True):
            row[:] = written
