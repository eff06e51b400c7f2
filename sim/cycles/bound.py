"""A lower bound of a program's ACTIVE cycles, from first principles.

It knows shapes, formats and places of the tensors, the sizes of the parts that data pass through
and the memory's latency, and nothing of how the parts are controlled: no blocks, queues, bursts or
states. docs/cycles.md ("The lower bound") gives the argument of every term.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from hdl.spec.commands import (
    INSTRUCTION,
    INSTRUCTIONS,
    Destination,
    Opcode,
    Operand,
    Reduce,
    unpack,
)
from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["Bound", "program_bound", "work_bound"]

_INDEX = 4  # bytes
_REGISTERS = (Operand.R0, Operand.R1)


@dataclass(frozen=True)
class Bound:
    """``cycles`` that a program, or part of one, takes at least, and what ``limit`` demands them:
    a part of the accelerator, or ``latency``, the way of one row through all of them."""

    cycles: int
    limit: str

    def ratio(self, cycles: int) -> float:
        """``cycles`` that were taken, in those that must be; 0 where none must."""
        return cycles / self.cycles if self.cycles else 0.0


@dataclass(frozen=True)
class _Need:
    """Of a part for one command: cycles of ``work``; cycles in which the command is in flight and
    the part has nothing of it to do, ``before`` its first work and ``after`` its last."""

    work: int
    before: int
    after: int


def _up(count: int, size: int) -> int:
    return -(-count // size)


class _Command:
    """A GEMM or VECTOR and what it asks of each part of a build; ``latency`` of the memory."""

    def __init__(self, config: AcceleratorConfig, fields: Mapping[str, int], latency: int) -> None:
        self.config, self.latency = config, latency
        self.fields = fields
        self.m, self.k, self.n = (fields[name] for name in "mkn")
        self.gemm = fields["opcode"] == Opcode.GEMM
        self.passes = list(self._instructions())
        self.lane = 1 + 4 * config.lane_latency

    def _flag(self, name: str) -> bool:
        return bool(self.fields.get(name, 0))

    def _instructions(self) -> Iterator[dict[str, int]]:
        for index in range(INSTRUCTIONS):
            word = self.fields.get("instructions", 0) >> 32 * index & 0xFFFFFFFF
            found = unpack(INSTRUCTION, word.to_bytes(4, "little"))
            yield found
            if found["last"]:
                return

    # ---- instructions

    @staticmethod
    def _takes(instruction: Mapping[str, int], *operands: Operand) -> bool:
        return any(instruction[stage] in operands for stage in ("multiply", "add", "scale"))

    @staticmethod
    def _stores(instruction: Mapping[str, int]) -> bool:
        return instruction["destination"] in (Destination.MEMORY, Destination.SECOND)

    def _columns(self, instruction: Mapping[str, int]) -> int:
        """Elements of each row that the instruction works on."""
        if instruction["destination"] == Destination.SECOND:
            return 1
        return 1 if self._flag("row_result") and self._stores(instruction) else self.n

    def _element(self, wide: str | None) -> int:
        """Bytes of an element of the tensor whose width field ``wide`` gives."""
        return 2 if wide and self._flag(wide) else self.config.format.storage_bytes

    def _chunks(self, columns: int, size: int, wide: str) -> int:
        """Cycles in which ``columns`` elements pass a port of ``size`` stored ones."""
        return _up(columns * self._element(wide), size * self.config.format.storage_bytes)

    def _ys(self) -> Iterator[tuple[str, int]]:
        """For each instruction that takes Y: which, and columns of it."""
        for instruction in self.passes:
            if self._takes(instruction, Operand.Y):
                name = f"y{instruction['y']}"
                yield name, 1 if self._flag(f"{name}_column") else self._columns(instruction)

    def depth(self) -> int:
        """Cycles from that in which a row's last beat may first enter the lanes to the end of all
        that follows from it: a pass that takes what another leaves waits for it to leave the lanes,
        and for the tree of its reduction."""
        rows: dict[Operand, int] = {}
        if self._flag("row_max"):
            rows[Operand.R0] = log2_exact(self.config.dim)
        stored = end = 0
        for instruction in self.passes:
            start = max([stored, *(ready for register, ready in rows.items()
                                   if self._takes(instruction, register))])
            left = start + self.lane
            end = max(end, left + (self.latency if self._stores(instruction) else 0))
            if instruction["destination"] == Destination.BUFFER:
                stored = left
            if instruction["reduce"] != Reduce.NONE:
                rows[_REGISTERS[instruction["reduce_to"]]] = left + (
                    self.config.sum_ways * log2_exact(self.config.lanes))
        return end

    # ---- memory

    def _rows(self, name: str, rows: int, columns: int, wide: str | None = None,
              transposed: bool = False) -> tuple[int, int, int, int]:
        """A tensor as rows of bytes: address, stride, rows, bytes of each."""
        if transposed:
            rows, columns = columns, rows
        return (self.fields.get(f"{name}_address", 0), self.fields.get(f"{name}_stride", 0), rows,
                columns * self._element(wide))

    def _read(self) -> list[tuple[int, int, int, int]]:
        found = []
        if self.gemm:
            found = [self._rows("a", self.m, self.k, None, self._flag("a_transposed")),
                     self._rows("b", self.k, self.n, None, self._flag("b_transposed"))]
        elif self._flag("x_gather"):
            found = [(self.fields.get("b_address", 0), _INDEX, self.m, _INDEX)]
        else:
            found = [self._rows("a", self.m, self.n, "x_wide")]
        return found + [self._rows(name, self.m, columns, f"{name}_wide")
                        for name, columns in self._ys()]

    def _written(self) -> list[tuple[int, int, int, int]]:
        columns = 1 if self._flag("row_result") else self.n
        found = [self._rows("c", self.m, columns, "c_wide", self._flag("c_transposed"))
                 for instruction in self.passes
                 if instruction["destination"] == Destination.MEMORY]
        if len(found) < sum(map(self._stores, self.passes)):
            offset = self.fields.get("d_offset", 0)
            address = self.fields.get("c_address", 0) + offset - (offset >> 31 << 32)
            found.append((address, 0, 1, 2 * self.m))
        return found

    # ---- needs

    def needs(self) -> dict[str, _Need]:
        """What each part must do, by its name."""
        dim, lanes, bus = self.config.dim, self.config.lanes, self.config.bus_bytes
        final = self.lane + (self.latency if self._stores(self.passes[-1]) else 0)
        ready, found = self.latency, {}
        if self.gemm:
            tiles = _up(self.k, dim) * _up(self.n, dim)
            found["array"] = _Need(tiles * max(self.m, dim), self.latency,
                                   min(self.m, dim) + self.config.array_latency + self.depth())
            ready += dim * _up(self.k, dim) + self.config.array_latency
        else:
            fill = self.m * self._chunks(self.n, dim, "x_wide")
            found["fill"] = _Need(fill, self.latency, final)
        beats = sum(self.m * _up(self._columns(each), lanes) for each in self.passes)
        operands = sum(self.m * self._chunks(columns, lanes, f"{name}_wide")
                       for name, columns in self._ys())
        reads = _beats(self._read(), bus)
        if self._flag("x_gather"):
            # At least one row, whose first beat may be that of the last index.
            reads += max(0, _up(self.n * self._element("x_wide"), bus) - 1)
        stores = sum(each["destination"] == Destination.MEMORY for each in self.passes)
        items = sum(map(self._stores, self.passes)) - stores
        columns = 1 if self._flag("row_result") else self.n
        rows, length = (columns, self.m) if self._flag("c_transposed") else (self.m, columns)
        results = rows * self._chunks(length, lanes, "c_wide")
        second = items * _up(2 * self.m, lanes * self._element(None))
        return found | {
            "lanes": _Need(beats, ready, final),
            "Y": _Need(operands, self.latency, final),
            "results": _Need(stores * results + second, ready + self.lane,
                             self.latency),
            "read": _Need(reads, self.latency, final),
            "write": _Need(_beats(self._written(), bus), ready + self.lane, self.latency)}

    def alone(self) -> int:
        """The way of one row: to the chip, through array and lanes, to memory and the answer."""
        before = self.latency
        if self.gemm:
            before += self.config.dim * _up(self.k, self.config.dim) + self.config.array_latency
        return before + self.depth()


def _beats(rows: Sequence[tuple[int, int, int, int]], bus: int) -> int:
    """Distinct beats of ``bus`` bytes that hold a byte of ``rows``: (address, stride, rows, bytes
    of each)."""
    if not rows:
        return 0
    origin = min(address for address, *_ in rows) // bus * bus
    firsts, lasts = [], []
    for address, stride, count, size in rows:
        begins = address - origin + stride * np.arange(count if stride else 1, dtype=np.int64)
        firsts.append(begins // bus)
        lasts.append((begins + size - 1) // bus)
    first, last = np.concatenate(firsts), np.concatenate(lasts)
    order = np.argsort(first, kind="stable")
    first, last = first[order], last[order]
    before = np.concatenate([[-1], np.maximum.accumulate(last)[:-1]])
    return int(np.maximum(last - np.maximum(first - 1, before), 0).sum())


def _commands(config: AcceleratorConfig, commands: Sequence[Mapping[str, int]], latency: int
              ) -> Iterator[list[_Command]]:
    """The commands that compute, those between two fences together."""
    def computes(fields: Mapping[str, int]) -> bool:
        return fields["opcode"] in (Opcode.GEMM, Opcode.VECTOR)

    for found, group in groupby(commands, key=computes):
        if found:
            yield [_Command(config, fields, latency) for fields in group]


def _together(commands: Sequence[_Command]) -> Bound:
    """Of commands that may all run at once."""
    longest = max(command.alone() for command in commands)
    needs = [command.needs() for command in commands]
    found = [Bound(longest, "latency")]
    for part, work in _work(needs).items():
        those = [need[part] for need in needs if part in need and need[part].work]
        found.append(Bound(min(need.before for need in those) + work
                           + min(need.after for need in those), part))
    return max(found, key=lambda each: each.cycles)


def _work(needs: Sequence[Mapping[str, _Need]]) -> dict[str, int]:
    """Of each part that has any."""
    parts = sorted(set().union(*needs))
    total = {part: sum(need[part].work for need in needs if part in need) for part in parts}
    return {part: work for part, work in total.items() if work}


def _in_turn(bounds: Sequence[Bound]) -> Bound:
    """Of parts of a program that fences keep apart; the limit is that of the longest."""
    longest = max(bounds, key=lambda each: each.cycles, default=Bound(0, "latency"))
    return Bound(sum(each.cycles for each in bounds), longest.limit)


def program_bound(config: AcceleratorConfig, commands: Sequence[Mapping[str, int]], latency: int
                  ) -> Bound:
    """Of a whole program's counter ACTIVE, whose memory answers ``latency`` cycles after an
    address or the last datum. What lies between two fences can overlap, nothing else.

    ``commands``: fields of ``hdl.spec.commands.COMMAND``, those that are 0 may lack.
    """
    return _in_turn([_together(group) for group in _commands(config, commands, latency)])


def work_bound(config: AcceleratorConfig, commands: Sequence[Mapping[str, int]]) -> Bound:
    """Of ``commands`` amid others that they may overlap with: the longest work of one part."""
    found = []
    for group in _commands(config, commands, 0):
        total = _work([command.needs() for command in group])
        limit = max(total, key=total.__getitem__)
        found.append(Bound(total[limit], limit))
    return _in_turn(found)
