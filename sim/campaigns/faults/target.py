"""A program that a fault is put into: what every command reads, writes and leaves in memory."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    COMPUTING,
    HEADER,
    HEADER_BYTES,
    TENSORS,
    Opcode,
    pack,
    unpack,
)
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import Case
from sim.model.command import Command
from sim.model.machine import Machine

__all__ = ["Target"]


@dataclass
class Target:
    """``case`` on a build of ``config``.

    ``cycles`` and ``transfers`` (bus channel to count) are those of its last clean run.
    """

    config: AcceleratorConfig
    case: Case
    cycles: int = 400
    transfers: dict[str, int] | None = None

    def __post_init__(self) -> None:
        self._snapshots: dict[int, np.ndarray] = {}

    @cached_property
    def records(self) -> list[dict[str, int]]:
        """The fields of every command, END included."""
        records: list[dict[str, int]] = []
        while not records or records[-1]["opcode"] != Opcode.END:
            at = self.offset(len(records))
            records.append(unpack(COMMAND, self.case.memory[at:at + COMMAND_BYTES].tobytes()))
        return records

    @property
    def end(self) -> int:
        """Index of END."""
        return len(self.records) - 1

    @cached_property
    def computing(self) -> list[int]:
        """Indices of the commands that compute."""
        return [i for i, fields in enumerate(self.records) if fields["opcode"] in COMPUTING]

    def offset(self, index: int) -> int:
        """Where command ``index`` starts in the image; -1: the header."""
        start = self.case.address - self.case.base
        return start if index < 0 else start + HEADER_BYTES + index * COMMAND_BYTES

    def address(self, index: int) -> int:
        return self.case.base + self.offset(index)

    @property
    def addresses(self) -> frozenset[int]:
        """Of the header and every command."""
        return frozenset(self.address(i) for i in range(-1, self.end + 1))

    def index(self, address: int) -> int | None:
        """Index of the record at ``address``; ``None`` where there is none."""
        found = [i for i in range(-1, self.end + 1) if self.address(i) == address]
        return found[0] if found else None

    def fenced(self, index: int) -> int:
        """How many commands are complete for certain when command ``index`` is read."""
        fences = [i for i in range(max(index, 0)) if self.records[i]["opcode"] == Opcode.FENCE]
        return fences[-1] if fences else 0

    def after(self, count: int) -> np.ndarray:
        """The image when the first ``count`` commands are complete."""
        if count not in self._snapshots:
            memory = self.case.memory.copy()
            at = self.offset(min(count, self.end))
            record = memory[at:at + COMMAND_BYTES]
            kept = record.copy()
            record[:] = np.frombuffer(pack(COMMAND, {"opcode": Opcode.END}, COMMAND_BYTES), "u1")
            outcome = Machine(self.config).run(memory, self.case.address, self.case.base)
            if outcome.error is not None:
                raise ValueError(f"{self.case.label} must run, not end with {outcome.error.name}")
            record[:] = kept
            self._snapshots[count] = memory
        return self._snapshots[count]

    @property
    def expected(self) -> np.ndarray:
        """The image after all commands."""
        return self.after(self.end)

    def writes(self, count: int) -> np.ndarray:
        """How often the first ``count`` commands write each byte of the image."""
        written = np.zeros_like(self.case.memory)
        for index in range(min(count, self.end)):
            if index in self.computing:
                written[self.written(index)] += 1
        return written

    def uses(self, index: int, name: str) -> bool:
        """Whether command ``index`` touches tensor ``name`` (of ``TENSORS``)."""
        return Command(self.config, self.records[index]).uses(name)

    @cached_property
    def scalars(self) -> dict[int, list[int]]:
        """Positions in the image of the scalars of each command that takes any, by its index."""
        at = self.offset(-1)
        table = unpack(HEADER, self.case.memory[at:at + HEADER_BYTES].tobytes())["scalars"]
        taken = {i: Command(self.config, self.records[i]).scalars.values() for i in self.computing}
        return {index: [table + 2 * number - self.case.base for number in numbers]
                for index, numbers in taken.items() if numbers}

    def client(self, index: int, name: str) -> str:
        """Whose transfers (of ``CLIENTS``) a tensor that command ``index`` touches takes."""
        shape = Command(self.config, self.records[index]).shape(name)
        assert shape is not None, "a tensor that is touched has a shape"
        return shape.client

    def footprint(self, index: int, name: str) -> np.ndarray:
        """Positions in the image of the bytes of a command's tensor, in order; of Y of all that its
        instructions take."""
        command = Command(self.config, self.records[index])
        tensors = [command.operand(number, second) for number, second in command.operands
                   if f"y{number}" == name] or [command.tensor(name)]
        rows = np.concatenate([tensor.address - self.case.base
                               + np.arange(tensor.rows) * tensor.stride for tensor in tensors])
        return np.unique(rows[:, None] + np.arange(tensors[0].columns * tensors[0].element_bytes))

    def written(self, index: int) -> np.ndarray:
        """Positions of the bytes that a command writes, in order."""
        return np.unique(np.concatenate([
            self.footprint(index, name) for name, spec in TENSORS.items()
            if spec.written and self.uses(index, name)]))

    def readers(self, first: int, end: int) -> list[tuple[int, str]]:
        """The (command, tensor) whose reads take a bus beat with bytes ``[first, end)``."""
        width = self.config.bus_bytes
        beats = range(first // width, -(-end // width))
        return [(index, name) for index in self.computing for name, spec in TENSORS.items()
                if not spec.written and self.uses(index, name)
                and np.isin((self.footprint(index, name) + self.case.base) // width, beats).any()]
