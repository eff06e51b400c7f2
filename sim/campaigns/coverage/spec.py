"""Spec coverage: which parts of the program format a build has run, with success or with its error.

The points follow from ``hdl.spec``: for each format the opcodes; for those that compute each flag
both ways, where it means something; each field of an instruction with each of its values, Y with
what is repeated of it, reductions with their register and post; lengths of the list; and each
error cause that the build has.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from compiler.program.records import commands, instructions
from hdl.spec.commands import (
    COMMAND,
    COMPUTING,
    INSTRUCTION,
    INSTRUCTIONS,
    STAGES,
    AtMost,
    ErrorCause,
    Opcode,
    Operand,
    Post,
    Reduce,
    Trait,
    available,
    means,
    members,
    unpack,
)
from hdl.spec.config import AcceleratorConfig

__all__ = ["Point", "SpecCoverage", "flags", "points"]

Point = tuple[str, ...]
# Told together with what they go with, or by the list's length.
_JOINED = ("subtract", "y", "reduce", "reduce_to", "post", "last")
_ALONE = tuple(name for name in INSTRUCTION if name not in _JOINED)


def flags(config: AcceleratorConfig, opcode: Opcode) -> list[str]:
    """The one-bit fields of a command that mean something to ``opcode`` in this build."""
    return [field.name for field in COMMAND.values()
            if field.bits == 1 and means(field, opcode, config)]


def _value(name: str, value: int) -> str:
    """How a point calls ``value`` of an instruction's field."""
    kind = INSTRUCTION[name].kind
    return str(value) if kind is None else kind(value).name


def _values(config: AcceleratorConfig, name: str) -> list[str]:
    """Every value of an instruction's field that a build has."""
    field = INSTRUCTION[name]
    if field.kind is not None:
        return [member.name for member in members(name, config)]
    return [str(value) for value in range(1 << field.bits)] if available(
        field.needs, config) else []


def _list_points(config: AcceleratorConfig) -> Iterator[Point]:
    yield from (("list", str(length)) for length in range(1, INSTRUCTIONS + 1))
    yield from ((name, value) for name in _ALONE for value in _values(config, name))
    yield from (("add", "subtract", str(value)) for value in (0, 1))
    yield from (("y", f"Y{value}", kind) for value, kind in product((0, 1), ("rows", "repeated")))
    for reduce in members("reduce", config):
        if Trait.REDUCES not in reduce.meaning.traits:
            yield ("reduce", reduce.name)
            continue
        yield from (("reduce", reduce.name, f"R{register}", f"post {post.name}")
                    for register, post in product((0, 1), members("post", config)))


def points(config: AcceleratorConfig) -> list[Point]:
    """Everything that a build can be made to do, each with its format first."""
    found: list[Point] = [("opcode", opcode.name) for opcode in Opcode
                          if available(opcode.meaning.needs, config)]
    for opcode in COMPUTING:
        found += [(opcode.name, flag, str(value))
                  for flag in flags(config, opcode) for value in (0, 1)]
        found += [(opcode.name, *point) for point in _list_points(config)]
    found += [("error", cause.name) for cause in ErrorCause if cause not in _impossible(config)]
    return [(config.fmt, *point) for point in found]


def _impossible(config: AcceleratorConfig) -> set[ErrorCause]:
    """Causes of limits that other builds have."""
    return {limit.cause for field in COMMAND.values() for limit in field.limits
            if isinstance(limit, AtMost) and not available(limit.needs, config)}


def _instruction_points(config: AcceleratorConfig, fields: dict[str, int], word: int
                        ) -> Iterator[Point]:
    values = unpack(INSTRUCTION, word.to_bytes(4, "little"))
    yield from ((name, _value(name, values[name])) for name in _ALONE
                if available(INSTRUCTION[name].needs, config))
    if values["add"]:
        yield ("add", "subtract", str(values["subtract"]))
    if Operand.Y in (values[stage] for stage in STAGES):
        y = values["y"]
        yield ("y", f"Y{y}", "rows" if fields[f"y{y}_stride"] else "repeated")
    reduce = Reduce(values["reduce"])
    if Trait.REDUCES in reduce.meaning.traits:
        yield ("reduce", reduce.name, f"R{values['reduce_to']}",
               f"post {Post(values['post']).name}")
    else:
        yield ("reduce", reduce.name)


class SpecCoverage:
    """Points that were met; give it programs that ended well, and the causes of those that did
    not."""

    def __init__(self) -> None:
        self.met: set[Point] = set()
        self._wanted: dict[Point, None] = {}
        self._own: dict[tuple[str, str], list[Point]] = {}

    def expect(self, config: AcceleratorConfig) -> None:
        """Count the points of ``config`` among those wanted."""
        wanted = points(config)
        self._wanted |= dict.fromkeys(wanted)
        usual = set(points(replace(config, functions="all", lane_kind=config.lane.name)))
        if own := [point for point in wanted if point not in usual]:
            self._own[config.fmt, config.functions] = own

    def program(self, config: AcceleratorConfig, memory: np.ndarray, address: int, base: int
                ) -> None:
        """A program that ran to its END and gave the right results."""
        for _, fields in commands(memory, address, base):
            opcode = Opcode(fields["opcode"])
            self.met.add((config.fmt, "opcode", opcode.name))
            if opcode in COMPUTING:
                words = list(instructions(fields["instructions"]))
                found: list[tuple[str, ...]] = [(flag, str(fields[flag]))
                                                for flag in flags(config, opcode)]
                found.append(("list", str(len(words))))
                for word in words:
                    found += _instruction_points(config, fields, word)
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
        """One line per format, one of what ``--functions`` adds to it where it adds anything, the
        total, and each missing point."""
        lines = []
        missing = set(self.missing)
        for fmt in dict.fromkeys(point[0] for point in self._wanted):
            own = [point for point in self._wanted if point[0] == fmt]
            lacking = sum(point in missing for point in own)
            lines.append(f"{fmt:10} {len(own) - lacking:4} of {len(own)} points")
            for (name, functions), more in self._own.items():
                if name == fmt:
                    met = sum(point not in missing for point in more)
                    lines.append(f"{'':10} {met:4} of {len(more)} that only builds with "
                                 f"--functions {functions} have")
        lines.append(f"spec coverage {self.share:.1%}: {len(self._wanted) - len(missing)} of "
                     f"{len(self._wanted)} points")
        return lines + [f"missing: {' '.join(point)}" for point in self.missing]
