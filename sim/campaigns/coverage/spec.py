"""Spec coverage: which parts of the program format a build has run, rightly or with its error.

The points follow from ``hdl.spec``: for each format the opcodes; for GEMM and VECTOR each flag
both ways, each stage with each operand, functions, reductions with their register and post, the
destinations, lengths of the list; and each error cause. A field that the table calls reserved
has no points.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np

from compiler.program.records import commands, instructions
from hdl.spec.commands import (
    COMMAND,
    INSTRUCTION,
    INSTRUCTIONS,
    Destination,
    ErrorCause,
    Function,
    Opcode,
    Operand,
    Post,
    Reduce,
    largest_members,
    unpack,
)
from hdl.spec.config import AcceleratorConfig

__all__ = ["Point", "SpecCoverage", "points"]

Point = tuple[str, ...]
_STAGES = ("multiply", "add", "scale")
_COMPUTING = (Opcode.GEMM, Opcode.VECTOR)
_RESERVED_FROM = Opcode.COPY
_GEMM_ONLY = {"a_transposed", "b_transposed", "b_e5m2", "row_max"}
_VECTOR_ONLY = {"x_wide", "x_gather"}


def flags(config: AcceleratorConfig, opcode: Opcode) -> list[str]:
    """The one-bit fields of a command that mean something to ``opcode`` in this build."""
    other = _VECTOR_ONLY if opcode == Opcode.GEMM else _GEMM_ONLY
    names = [field.name for field in COMMAND.values()
             if field.bits == 1 and not field.doc.startswith("reserved")]
    return [name for name in names if name not in other
            and (config.format.hybrid or not name.endswith("_e5m2"))
            and (config.format.storage_bytes == 1 or not name.endswith("_wide"))]


def _list_points(config: AcceleratorConfig) -> Iterator[Point]:
    last = largest_members(config)
    yield from (("list", str(length)) for length in range(1, INSTRUCTIONS + 1))
    yield from ((stage, operand.name) for stage, operand in product(_STAGES, Operand)
               if operand <= last[stage])
    yield from (("add", "subtract", str(value)) for value in (0, 1))
    yield from (("function", function.name) for function in Function
               if function <= last["function"])
    yield from (("relu", str(value)) for value in (0, 1))
    yield from (("y", f"Y{value}", kind) for value, kind in product((0, 1), ("rows", "repeated")))
    yield ("reduce", Reduce.NONE.name)
    for reduce, register, post in product(Reduce, (0, 1), Post):
        if reduce != Reduce.NONE and post <= last["post"]:
            yield ("reduce", reduce.name, f"R{register}", f"post {post.name}")
    yield from (("destination", destination.name) for destination in Destination)


def points(config: AcceleratorConfig) -> list[Point]:
    """Everything that a build can be made to do, each with its format first."""
    found: list[Point] = [("opcode", op.name) for op in Opcode if op < _RESERVED_FROM]
    for opcode in _COMPUTING:
        found += [(opcode.name, flag, str(value))
                  for flag in flags(config, opcode) for value in (0, 1)]
        found += [(opcode.name, *point) for point in _list_points(config)]
    found += [("error", cause.name) for cause in ErrorCause if _can_fail(config, cause)]
    return [(config.fmt, *point) for point in found]


def _can_fail(config: AcceleratorConfig, cause: ErrorCause) -> bool:
    return config.acc == "exact" or cause.name != "K_RANGE"


def _instruction_points(fields: dict[str, int], word: int) -> Iterator[Point]:
    values = unpack(INSTRUCTION, word.to_bytes(4, "little"))
    operands = {stage: Operand(values[stage]) for stage in _STAGES}
    yield from ((stage, operand.name) for stage, operand in operands.items())
    if operands["add"]:
        yield ("add", "subtract", str(values["subtract"]))
    yield ("function", Function(values["function"]).name)
    yield ("relu", str(values["relu"]))
    if Operand.Y in operands.values():
        y = values["y"]
        yield ("y", f"Y{y}", "rows" if fields[f"y{y}_stride"] else "repeated")
    reduce = Reduce(values["reduce"])
    if reduce:
        yield ("reduce", reduce.name, f"R{values['reduce_to']}",
               f"post {Post(values['post']).name}")
    else:
        yield ("reduce", reduce.name)
    yield ("destination", Destination(values["destination"]).name)


class SpecCoverage:
    """Points that were met; give it programs that ended well, and the causes of those that did
    not."""

    def __init__(self) -> None:
        self.met: set[Point] = set()
        self._wanted: dict[Point, None] = {}

    def expect(self, config: AcceleratorConfig) -> None:
        """Count the points of ``config`` among those wanted."""
        self._wanted |= dict.fromkeys(points(config))

    def program(self, config: AcceleratorConfig, memory: np.ndarray, address: int, base: int
                ) -> None:
        """A program that ran to its END and gave the right results."""
        for _, fields in commands(memory, address, base):
            opcode = Opcode(fields["opcode"])
            self.met.add((config.fmt, "opcode", opcode.name))
            if opcode in _COMPUTING:
                words = list(instructions(fields["instructions"]))
                found = [(flag, str(fields[flag])) for flag in flags(config, opcode)]
                found.append(("list", str(len(words))))
                for word in words:
                    found += _instruction_points(fields, word)
                self.met |= {(config.fmt, opcode.name, *point) for point in found}

    def error(self, config: AcceleratorConfig, cause: ErrorCause) -> None:
        """A program that stopped with ``cause``, as it had to."""
        self.met.add((config.fmt, "error", cause.name))

    @property
    def missing(self) -> list[Point]:
        return [point for point in self._wanted if point not in self.met]

    @property
    def share(self) -> float:
        """Part of the wanted points that was met; ``ValueError`` where none is wanted."""
        if not self._wanted:
            raise ValueError("a configuration must be expected first")
        return 1 - len(self.missing) / len(self._wanted)

    def report(self) -> list[str]:
        """A line a format, the total, and each missing point."""
        lines = []
        missing = set(self.missing)
        for fmt in dict.fromkeys(point[0] for point in self._wanted):
            own = [point for point in self._wanted if point[0] == fmt]
            lacking = sum(point in missing for point in own)
            lines.append(f"{fmt:10} {len(own) - lacking:4} of {len(own)} points")
        lines.append(f"spec coverage {self.share:.1%}: {len(self._wanted) - len(missing)} of "
                     f"{len(self._wanted)} points")
        return lines + [f"missing: {' '.join(point)}" for point in self.missing]
