"""One file for a program and the memory that it works on, for the machine model, the harness and
the benches.

A safetensors file: the tensor ``memory`` holds the bytes from address ``base`` on; the metadata's
entry ``ottava`` is JSON:

    version      1
    base         address of the first byte, a multiple of 64
    program      address of the program's header
    config       every value of the build's ``AcceleratorConfig``, config_hash its digest
    tensors      list of {name, address, rows, columns, encoding, stride}; of codes that count
                 something else than 1 also {factor}, and where each row's count a BF16 item besides
                 {items, items_stride}: the address of the first one, and bytes to the next, 0 where
                 one is for all rows
    results      names of the tensors that the program leaves its results in
    crc32        of the memory's bytes
"""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from compiler.program.builder import ProgramBuilder, read
from compiler.program.code_scale import CodeScale
from compiler.program.records import commands
from compiler.program.tensor import INDICES, Tensor
from hdl.spec.commands import (
    HEADER,
    HEADER_BYTES,
    PROGRAM_ALIGNMENT,
    TENSORS,
    Feature,
    Opcode,
    features_of,
    unpack,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING
from sim.model.command import Command

__all__ = ["ImageError", "ProgramImage", "placed"]

_VERSION = 1
_KEY = "ottava"
_LONGEST = 600
_SHOWN = 200  # characters of what a file holds, in a message


class ImageError(ValueError):
    """A file that is no sound image, or one for another build; one line."""

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        super().__init__(line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …")


@dataclass(frozen=True)
class ProgramImage:
    """``memory`` (uint8) from address ``base`` on, with a program for a build of ``config``.

    ``address``: the program's header. ``tensors``: what lies where, for those who look;
    ``results``: the names of those that the program writes. ``scales``: by the address of a tensor
    what its codes count, where that is not 1.
    """

    config: AcceleratorConfig
    memory: np.ndarray
    address: int
    base: int = 0
    tensors: tuple[Tensor, ...] = ()
    results: tuple[str, ...] = ()
    scales: Mapping[int, CodeScale] = field(default_factory=dict)

    @classmethod
    def of(cls, builder: ProgramBuilder, results: tuple[Tensor, ...] = (), **build: Any
           ) -> "ProgramImage":
        """What ``builder.build(**build)`` gives."""
        memory, address = builder.build(**build)
        tensors = tuple(dict.fromkeys((*builder.tensors, *results)))
        here = {tensor.address for tensor in tensors}
        return cls(builder.config, memory, address, builder.base, tensors,
                   tuple(tensor.name for tensor in results),
                   {place: scale for place, scale in builder.scales.items() if place in here})

    def tensor(self, name: str) -> Tensor:
        """The last tensor of that name; ``KeyError``."""
        return {tensor.name: tensor for tensor in self.tensors}[name]

    def values(self, name: str, memory: np.ndarray | None = None) -> np.ndarray:
        """What the tensor of that name holds in ``memory``, as ``self.memory`` but after a run say:
        float64, with the scale of its codes. ``KeyError``; ``ValueError`` for indices."""
        memory, tensor = self.memory if memory is None else memory, self.tensor(name)
        values, scale = read(memory, tensor, self.base), self.scales.get(tensor.address)
        return values if scale is None else values * scale.of_rows(memory, self.base)

    def save(self, path: Path | str) -> None:
        """Write the file; ``OSError``."""
        about = {
            "version": _VERSION, "base": self.base, "program": self.address,
            "config": self.config.as_dict(), "config_hash": f"{self.config.hash:#x}",
            "tensors": [placed(t, self.scales.get(t.address)) for t in self.tensors],
            "results": list(self.results), "crc32": zlib.crc32(self.memory.data)}
        try:
            save_file({"memory": np.ascontiguousarray(self.memory)}, path,
                      {_KEY: json.dumps(about)})
        except SafetensorError as error:
            raise OSError(str(error)) from error

    @classmethod
    def load(cls, path: Path | str) -> "ProgramImage":
        """Read and ``check`` a file; ``ImageError``."""
        try:
            with safe_open(path, "numpy") as file:
                about = json.loads((file.metadata() or {})[_KEY])
                memory = file.get_tensor("memory")
        except KeyError:
            raise ImageError(f"{path} must be a program image, not other safetensors") from None
        except (OSError, SafetensorError, ValueError, RecursionError) as error:
            reason = str(error).splitlines()[0]
            raise ImageError(f"{path} must be a whole program image: {reason}") from None
        try:
            image = _described(memory, about)
            image.check()
        except ImageError as error:
            raise ImageError(f"{path}: {error}") from None
        return image

    def check(self) -> None:
        """``ImageError`` where header, commands or tensors do not lie in the memory."""
        end = self.base + self.memory.size
        where = f"the {self.memory.size} bytes of memory from {self.base:#x} on"
        for name, address in (("base", self.base), ("program", self.address)):
            if address % PROGRAM_ALIGNMENT:
                raise ImageError(f"{name} must be a multiple of {PROGRAM_ALIGNMENT}, "
                                 f"not {address:#x}")
        if not self.base <= self.address <= end - HEADER_BYTES:
            raise ImageError(f"program at {self.address:#x} must lie in {where}")
        for tensor in self.tensors:
            if tensor.address < self.base or tensor.address + tensor.span > end:
                raise ImageError(f"{tensor.name}, {tensor.span} bytes at {tensor.address:#x}, "
                                 f"must lie in {where}")
        for scale in self.scales.values():
            items = scale.items
            if items is not None and not self.base <= items.address <= end - items.span:
                raise ImageError(f"{items.name}, {items.span} bytes at {items.address:#x}, must "
                                 f"lie in {where}")
        opcode, scalars = None, self._header()["scalars"]
        for address, fields in commands(self.memory, self.address, self.base):
            command, opcode = Command(self.config, fields), fields["opcode"]
            for name in filter(command.uses, TENSORS):
                view, shape = command.tensor(name), command.shape(name)
                assert shape is not None, "a tensor that is used has a shape"
                self._check_span(shape.label, view.address, view.size, address, where)
            for number in command.scalars.values():
                self._check_span("scalar", scalars + 2 * number, 2, address, where)
        if opcode != Opcode.END:
            raise ImageError(f"program at {self.address:#x} must end with END in {where}")

    def _check_span(self, name: str, start: int, size: int, address: int, where: str) -> None:
        """``size`` bytes from ``start`` on, which the command at ``address`` calls ``name``."""
        if start < self.base or start + size > self.base + self.memory.size:
            raise ImageError(f"{name} of the command at {address:#x}, {size} bytes at "
                             f"{start:#x}, must lie in {where}")

    @property
    def features(self) -> Feature:
        """What the program needs of a build, as its header says."""
        return Feature(self._header()["features"])

    def _header(self) -> dict[str, int]:
        start = self.address - self.base
        return unpack(HEADER, self.memory[start:start + HEADER_BYTES].tobytes())

    def require(self, config: AcceleratorConfig) -> None:
        """``ImageError`` where a build of ``config`` lacks what the program needs."""
        missing = self.features & ~features_of(config)
        if missing:
            names = " and ".join(feature.name or hex(feature) for feature in missing)
            raise ImageError(
                f"program must run on a build with {names}, as that of fmt {self.config.fmt}, acc "
                f"{self.config.acc}, softmax {self.config.softmax}, not on fmt {config.fmt}, acc "
                f"{config.acc}, softmax {config.softmax}, functions {config.functions}")


def _described(memory: np.ndarray, about: Any) -> ProgramImage:
    """The image that the metadata describes; ``ImageError``."""
    try:
        if about["version"] != _VERSION:
            raise ImageError(f"version must be {_VERSION}, not {about['version']!r}")
        if (memory.dtype != np.uint8 or memory.ndim != 1
                or zlib.crc32(memory.data) != about["crc32"]):
            raise ImageError("memory must have the bytes that it was written with")
        config = AcceleratorConfig(**about["config"])
        if f"{config.hash:#x}" != about["config_hash"]:
            raise ImageError(f"config must have the digest {about['config_hash']}, "
                             f"not {config.hash:#x}: another version wrote the file")
        encodings = {e.name: e for e in (*config.format.encodings, BF16_ENCODING, INDICES)}
        tensors = tuple(
            Tensor(_text(t["name"]), _whole(t["address"], "address"), _whole(t["rows"], "rows"),
                   _whole(t["columns"], "columns"), encodings[t["encoding"]],
                   _whole(t["stride"], "stride")) for t in about["tensors"])
        results = tuple(map(_text, about["results"]))
        unknown = set(results) - {tensor.name for tensor in tensors}
        if unknown:
            raise ImageError(f"results must be tensors of the image, not {min(unknown)[:_SHOWN]}")
        scales = {tensor.address: _scale(tensor, told) for tensor, told in zip(
            tensors, about["tensors"], strict=True) if "factor" in told}
        return ProgramImage(config, memory, _whole(about["program"], "program"),
                            _whole(about["base"], "base"), tensors,
                            results, scales)
    except ImageError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = " ".join(repr(error).split())[:_SHOWN]
        raise ImageError(f"description must be that of a program image: {reason}") from None


def placed(tensor: Tensor, scale: CodeScale | None = None) -> dict[str, Any]:
    """Where a tensor lies, what it holds and what its codes count, as plain data."""
    told: dict[str, Any] = {
        "name": tensor.name, "address": tensor.address, "rows": tensor.rows,
        "columns": tensor.columns, "stride": tensor.stride, "encoding": tensor.encoding.name}
    if scale is not None:
        told["factor"] = scale.factor
        if scale.items is not None:
            told |= {"items": scale.items.address, "items_stride": scale.stride}
    return told


def _scale(tensor: Tensor, told: dict[str, Any]) -> CodeScale:
    """What codes of ``tensor`` count; ``ImageError``."""
    factor, items = told["factor"], None
    if type(factor) not in (int, float):
        raise ImageError(f"factor of {tensor.name[:_SHOWN]} must be a number, not "
                         f"{str(factor)[:_SHOWN]}")
    if "items" in told:
        stride = _whole(told["items_stride"], "items_stride")
        items = Tensor(f"items of {tensor.name}", _whole(told["items"], "items"),
                       tensor.rows if stride else 1, 1, BF16_ENCODING, stride or 2)
    return CodeScale(float(factor), items)


def _whole(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value < 1 << 64:
        raise ImageError(f"{name} must be a whole number of 64 bits, not "
                         f"{str(value)[:_SHOWN]}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ImageError(f"names must be texts, not {str(value)[:_SHOWN]}")
    return value
