"""A tensor in a memory image: where its rows lie and which encoding its items have."""

from dataclasses import dataclass, replace

import numpy as np

from hdl.spec.formats import Encoding

__all__ = ["INDICES", "IndexEncoding", "Tensor", "overlap"]


@dataclass(frozen=True)
class IndexEncoding:
    """Row numbers: no format's, only a gather reads them."""

    name: str = "index"
    bits: int = 32


INDICES = IndexEncoding()


@dataclass(frozen=True)
class Tensor:
    """``rows`` × ``columns`` items of ``encoding``, little-endian.

    ``address`` is the byte address of the first item on the bus, ``stride`` the bytes from a row
    to the next. Rows may not overlap; gaps between them are unused. ``INDICES`` are unsigned
    words of 32 bits.
    """

    name: str
    address: int
    rows: int
    columns: int
    encoding: Encoding | IndexEncoding
    stride: int

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1:
            raise ValueError(f"{self.name} must have at least one row and one column, "
                             f"not {self.rows}×{self.columns}")
        if self.rows > 1 and self.stride < self.row_bytes:
            raise ValueError(f"stride of {self.name} must be at least {self.row_bytes}, "
                             f"not {self.stride!r}")
        if self.address % self.item_bytes or self.stride % self.item_bytes:
            raise ValueError(f"address and stride of {self.name} must be even: it holds BF16"
                             if self.item_bytes == 2 else
                             f"address and stride of {self.name} must be multiples of 4: it holds "
                             "indices")

    @property
    def item_bytes(self) -> int:
        return self.encoding.bits // 8

    @property
    def row_bytes(self) -> int:
        return self.columns * self.item_bytes

    @property
    def span(self) -> int:
        """Bytes from the first item to the end of the last."""
        return (self.rows - 1) * self.stride + self.row_bytes

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    def block(self, row: int, column: int, rows: int, columns: int) -> "Tensor":
        """The ``rows`` × ``columns`` items from (``row``, ``column``) on, in the same memory."""
        if (row < 0 or column < 0 or row + rows > self.rows
                or column + columns > self.columns):
            raise ValueError(f"block of {self.name} must lie inside {self.rows}×{self.columns}, "
                             f"not {rows}×{columns} from ({row}, {column})")
        address = self.address + row * self.stride + column * self.item_bytes
        name = f"{self.name}[{row}:{row + rows}, {column}:{column + columns}]"
        return replace(self, name=name, address=address, rows=rows, columns=columns)

    def window(self, memory: np.ndarray, base: int = 0) -> np.ndarray:
        """View of the tensor's bytes in ``memory`` (uint8, from address ``base``).

        Shape rows × ``row_bytes``; writing to it writes the image.
        """
        first = self.address - base
        if first < 0 or first + self.span > memory.size:
            raise ValueError(f"{self.name} must lie inside the image of {memory.size} bytes")
        return np.lib.stride_tricks.as_strided(
            memory[first:], (self.rows, self.row_bytes), (self.stride, 1))

    def codes(self, memory: np.ndarray, base: int = 0) -> np.ndarray:
        """The stored codes, rows × columns, unsigned integers of the item's size."""
        raw = np.ascontiguousarray(self.window(memory, base))
        return raw.view(f"<u{self.item_bytes}")


def overlap(first: Tensor, second: Tensor) -> bool:
    """Whether the two may share a byte.

    Exact where both have one stride (column blocks of one matrix do not meet); otherwise their
    spans decide, which errs on the safe side.
    """
    distance = second.address - first.address
    if distance >= first.span or -distance >= second.span:
        return False
    stride = first.stride if first.rows > 1 else second.stride
    if (second.rows > 1 and second.stride != stride) or stride == 0:
        return True
    lowest = (-second.row_bytes - distance) // stride + 1
    highest = -((distance - first.row_bytes) // stride) - 1
    return max(lowest, 1 - first.rows) <= min(highest, second.rows - 1)
