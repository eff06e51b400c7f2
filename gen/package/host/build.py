"""What a driver knows of a build, what it needs, what it raises."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Build", "BusyError", "DriverError", "EndlessError", "FailedError", "ImageError",
           "Memory", "OtherBuildError", "Registers", "StuckError"]


class Registers(Protocol):
    """32-bit registers by byte offset, in the order of the calls."""

    def read(self, offset: int, /) -> int: ...

    def write(self, offset: int, value: int, /) -> object: ...


class Memory(Protocol):
    """Bytes that the device sees from ``address`` on, here by their offset.

    An object may also have ``flush()``, after which the device sees what was written, and
    ``discard()``, after which what the device wrote is read.
    """

    address: int

    def read(self, offset: int, count: int, /) -> bytes: ...

    def write(self, offset: int, data: bytes, /) -> object: ...


@dataclass(frozen=True)
class Build:
    """What a driver knows of a build.

    ``registers``: offsets; ``fields``: lowest bit and width of each, by register; ``known``: what
    registers of constants read; ``causes``: bits of ERROR, with meanings; ``clients``: whose
    transfer failed; ``counters``: meanings, in the order of their registers; ``header``,
    ``command``: bytes of each; ``places``: byte offsets of a header's fields, ``addresses``: of a
    command's addresses, whose opcode is its first byte; ``magic``, ``end``: what a header begins
    with, END's opcode.
    """

    name: str
    registers: Mapping[str, int]
    fields: Mapping[str, Mapping[str, tuple[int, int]]]
    known: Mapping[str, int]
    causes: Mapping[int, tuple[str, str]]
    clients: tuple[str, ...]
    counters: Mapping[str, str]
    header: int
    command: int
    places: Mapping[str, int]
    addresses: tuple[int, ...]
    magic: int
    end: int


class DriverError(RuntimeError):
    """What went wrong, in one line."""


class OtherBuildError(DriverError):
    """The registers are not those of the build."""


class BusyError(DriverError):
    """A program runs."""


class StuckError(DriverError):
    """The bus never answered: accelerator and memory need a reset."""


class EndlessError(DriverError):
    """The program has not ended in time; it still runs."""


class ImageError(DriverError):
    """A file that is no program image."""


class FailedError(DriverError):
    """The program ended with an error: ``causes`` by name, ``address`` of the header or command,
    ``client`` whose transfer it was, for an error of the bus."""

    def __init__(self, causes: Mapping[str, str], address: int, client: str) -> None:
        text = "; ".join(f"{name}: {meaning}" for name, meaning in causes.items())
        super().__init__(f"{text or 'no cause'}, at {address:#x}, {client}")
        self.causes, self.address, self.client = tuple(causes), address, client
