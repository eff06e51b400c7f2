"""Program images, read and moved."""

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gen.package.host.build import Build, ImageError, Memory

__all__ = ["Image"]

_ALIGNMENT = 64


@dataclass(frozen=True)
class Image:
    """``memory`` from address ``base`` on, with a program's header at ``program``.

    ``tensors``: where each lies, by name: address, rows, columns, stride in bytes, encoding, and of
    codes that count something else than 1 factor, items, items_stride;
    ``results``: the names of those that the program writes. ``kept``: how many bytes of weights
    lie from ``base`` on, before ``memory``, which are there already.
    """

    memory: bytes
    base: int
    program: int
    tensors: Mapping[str, Mapping[str, Any]]
    results: tuple[str, ...]
    kept: int = 0

    @classmethod
    def apart(cls, path: Path | str) -> "Image":
        """Read ``image-SHAPE.json`` of ``--image-only --weights-separate`` and the program beside
        it; ``weights.bin`` goes to the memory's beginning, once for all programs. ``ImageError``,
        ``OSError``."""
        path = Path(path)
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            weights, program = about["memory"]
            memory = (path.parent / program["file"]).read_bytes()
            tensors = {tensor["name"]: tensor for tensor in (*about["inputs"], *about["results"])}
            image = cls(memory, weights["address"], about["start"], tensors,
                        tuple(tensor["name"] for tensor in about["results"]), weights["bytes"])
            whole = (zlib.crc32(memory) == program["crc32"]
                     and program["address"] == image.base + image.kept
                     and all(map(image._sound, tensors.values())))
        except (KeyError, TypeError, ValueError) as error:
            raise ImageError(f"{path} must be a program apart from weights: {error!r}") from None
        if not whole:
            raise ImageError(f"{path} must have a whole program beside it")
        return image

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
            whole = (about["version"] == 1 and zlib.crc32(memory) == about["crc32"]
                     and all(map(image._sound, image.tensors.values())))
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
        tensors = {name: {**tensor, **{place: tensor[place] + by for place in ("address", "items")
                                       if place in tensor}}
                   for name, tensor in self.tensors.items()}
        return replace(self, memory=bytes(memory), base=base, program=self.program + by,
                       tensors=tensors)

    def _addresses(self, build: Build) -> list[int]:
        """Byte offsets of all addresses in the program."""
        start = self.program - self.base - self.kept
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

    def _sound(self, tensor: Mapping[str, Any]) -> bool:
        """Whether what its codes count is said, and lies in the memory."""
        if "factor" not in tensor:
            return True
        first = end = 0
        if "items" in tensor:
            first = tensor["items"] - self.base
            end = first + (tensor["rows"] - 1) * tensor["items_stride"] + 2
        return (0 < tensor["factor"] < math.inf
                and 0 <= first <= end <= self.kept + len(self.memory))

    def values(self, name: str, memory: Memory) -> list[list[float]]:
        """The rows of a tensor of integers or BF16 as ``memory`` holds them, with the scale of its
        codes. ``ImageError`` for other encodings."""
        tensor = self.tensors[name]
        kind = {"bf16": "H", "int8": "b"}.get(tensor["encoding"])
        if kind is None:
            raise ImageError(f"{name} must hold int8 or bf16 to be read as numbers, not "
                             f"{tensor['encoding']}")
        words = struct.unpack(f"<{tensor['rows'] * tensor['columns']}{kind}",
                              self.result(name, memory))
        numbers = [float(word) for word in words] if kind == "b" else _bf16(words)
        columns, found = tensor["columns"], []
        for row in range(tensor["rows"]):
            factor = tensor.get("factor", 1.0)
            if "items" in tensor:
                place = tensor["items"] - self.base + row * tensor["items_stride"]
                factor *= _bf16(struct.unpack("<H", memory.read(place, 2)))[0]
            found.append([factor * number
                          for number in numbers[row * columns:(row + 1) * columns]])
        return found

    def result(self, name: str, memory: Memory) -> bytes:
        """The rows of a tensor one after the other, as ``memory`` holds them."""
        tensor = self.tensors[name]
        wide = {"bf16": 2, "index": 4}.get(tensor["encoding"], 1)
        start, size = tensor["address"] - self.base, tensor["columns"] * wide
        return b"".join(memory.read(start + row * tensor["stride"], size)
                        for row in range(tensor["rows"]))


def _bf16(words: Sequence[int]) -> list[float]:
    """BF16 numbers as floats."""
    return list(struct.unpack(f"<{len(words)}f", b"".join(
        struct.pack("<I", word << 16) for word in words)))
