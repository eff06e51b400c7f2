"""Program images, read and moved."""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gen.package.host.build import Build, ImageError, Memory

__all__ = ["Image"]

_ALIGNMENT = 64


@dataclass(frozen=True)
class Image:
    """``memory`` from address ``base`` on, with a program's header at ``program``.

    ``tensors``: where each lies, by name: address, rows, columns, stride in bytes, encoding;
    ``results``: the names of those that the program writes.
    """

    memory: bytes
    base: int
    program: int
    tensors: Mapping[str, Mapping[str, Any]]
    results: tuple[str, ...]

    @classmethod
    def load(cls, path: Path | str) -> "Image":
        """Read a file; ``ImageError``, ``OSError``."""
        content = Path(path).read_bytes()
        try:
            (length,) = struct.unpack_from("<Q", content)
            header = json.loads(content[8:8 + length])
            about = json.loads(header["__metadata__"]["ottava"])
            first, end = header["memory"]["data_offsets"]
            memory = content[8 + length + first:8 + length + end]
            image = cls(memory, about["base"], about["program"],
                        {tensor["name"]: tensor for tensor in about["tensors"]},
                        tuple(about["results"]))
            whole = about["version"] == 1 and zlib.crc32(memory) == about["crc32"]
        except (KeyError, TypeError, ValueError, struct.error) as error:
            raise ImageError(f"{path} must be a program image: {error!r}") from None
        if not whole:
            raise ImageError(f"{path} must be a whole program image of version 1")
        return image

    def moved(self, base: int, build: Build) -> "Image":
        """The same at another address: what it has been moved by is added to every address in the
        program. ``ImageError`` where header and commands up to END do not lie in the memory."""
        if (base | self.base | self.program) % _ALIGNMENT:
            raise ImageError(f"addresses must be multiples of {_ALIGNMENT}, not {base:#x}, "
                             f"{self.base:#x} and {self.program:#x}")
        memory, by = bytearray(self.memory), base - self.base
        for place in self._addresses(build):
            (address,) = struct.unpack_from("<Q", memory, place)
            struct.pack_into("<Q", memory, place, (address + by) % (1 << 64))
        tensors = {name: {**tensor, "address": tensor["address"] + by}
                   for name, tensor in self.tensors.items()}
        return replace(self, memory=bytes(memory), base=base, program=self.program + by,
                       tensors=tensors)

    def _addresses(self, build: Build) -> list[int]:
        """Byte offsets of all addresses in the program."""
        start = self.program - self.base
        if not 0 <= start <= len(self.memory) - build.header:
            raise ImageError("the program's header must lie in the memory")
        magic, count = (struct.unpack_from("<I", self.memory, start + build.places[name])[0]
                        for name in ("magic", "commands"))
        if magic != build.magic:
            raise ImageError(f"the header must begin with {build.magic:#x}, not {magic:#x}")
        found = [start + build.places["scalars"]]
        for index in range(count):
            place = start + build.header + index * build.command
            if place + build.command > len(self.memory):
                break
            found += [place + offset for offset in build.addresses]
            if self.memory[place] == build.end:
                return found
        raise ImageError("the program must end with END in the memory")

    def result(self, name: str, memory: Memory) -> bytes:
        """The rows of a tensor one after the other, as ``memory`` holds them."""
        tensor = self.tensors[name]
        wide = {"bf16": 2, "index": 4}.get(tensor["encoding"], 1)
        start, size = tensor["address"] - self.base, tensor["columns"] * wide
        return b"".join(memory.read(start + row * tensor["stride"], size)
                        for row in range(tensor["rows"]))
