"""Registers and memories of PYNQ and of LiteX's server."""

import struct
from typing import Any

__all__ = ["PynqMemory", "Remote", "RemoteMemory"]


class PynqMemory:
    """A buffer of ``pynq.allocate((count,), dtype="u1")``; registers are a ``pynq.MMIO``."""

    def __init__(self, buffer: Any) -> None:
        self.buffer, self.address = buffer, buffer.device_address
        self.flush, self.discard = buffer.flush, buffer.invalidate

    def read(self, offset: int, count: int) -> bytes:
        return bytes(self.buffer[offset:offset + count])

    def write(self, offset: int, data: bytes) -> None:
        self.buffer[offset:offset + len(data)] = memoryview(data)


class Remote:
    """Bus addresses from ``address`` on behind a client that moves words of 32 bits, LiteX's
    ``RemoteClient`` say: as registers, and with ``Remote.memory`` as memory."""

    def __init__(self, client: Any, address: int) -> None:
        self.client, self.address = client, address

    def read(self, offset: int) -> int:
        return self.client.read(self.address + offset)

    def write(self, offset: int, value: int) -> None:
        self.client.write(self.address + offset, value)

    @property
    def memory(self) -> "RemoteMemory":
        return RemoteMemory(self)


class RemoteMemory:
    """The same as memory: bytes, of whole words."""

    def __init__(self, words: Remote) -> None:
        self.words, self.address = words, words.address

    def read(self, offset: int, count: int) -> bytes:
        first, end = offset & ~3, offset + count
        found = [self.words.read(place) for place in range(first, end, 4)]
        return struct.pack(f"<{len(found)}I", *found)[offset - first:end - first]

    def write(self, offset: int, data: bytes) -> None:
        first, end = offset & ~3, -(-(offset + len(data)) // 4) * 4
        whole = (self.read(first, offset - first) + data
                 + self.read(offset + len(data), end - offset - len(data)))
        for index, (word,) in enumerate(struct.iter_unpack("<I", whole)):
            self.words.write(first + 4 * index, word)
