"""A program that a host fits to a position before each start: fields that are linear in variables.

The commands of a step of decoding differ from one position to the next by addresses and sizes
alone, each of which grows by the same amount with every position. A host writes these fields, and
nothing else of the program.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hdl.spec.commands import COMMAND, COMMAND_BYTES, HEADER_BYTES, Opcode, pack

__all__ = ["Template", "Varying", "fit"]

Fields = Mapping[str, int]


@dataclass(frozen=True)
class Varying:
    """A field of command number ``command``: ``base`` where all variables are 0, and what each of
    them adds by one."""

    command: int
    field: str
    base: int
    slopes: tuple[int, ...]


@dataclass(frozen=True)
class Template:
    """The program whose header is at ``address``; ``variables``: the values that each may take."""

    address: int
    variables: Mapping[str, range]
    commands: tuple[Fields, ...]
    varying: tuple[Varying, ...]

    def takes(self, **values: int) -> bool:
        """Whether the program can be fitted to these values of all variables."""
        return values.keys() == self.variables.keys() and all(
            value in self.variables[name] for name, value in values.items())

    def fitted(self, **values: int) -> Iterator[tuple[int, dict[str, int]]]:
        """Number and fields of each command that varies, for these ``values``; ``ValueError``."""
        if not self.takes(**values):
            allowed = ", ".join(f"{name} from {own.start} to {own.stop - 1}"
                                for name, own in self.variables.items())
            raise ValueError(f"a program for {allowed} does not take {values}")
        changed: dict[int, dict[str, int]] = {}
        for one in self.varying:
            changed.setdefault(one.command, {})[one.field] = one.base + sum(
                slope * values[name]
                for slope, name in zip(one.slopes, self.variables, strict=True))
        for index, own in changed.items():
            yield index, dict(self.commands[index]) | own

    def write(self, memory: np.ndarray, base: int = 0, **values: int) -> None:
        """Fit the program in ``memory``, which is from address ``base`` on."""
        for index, fields in self.fitted(**values):
            start = self.address - base + HEADER_BYTES + COMMAND_BYTES * index
            memory[start:start + COMMAND_BYTES] = np.frombuffer(
                pack(COMMAND, fields, COMMAND_BYTES), np.uint8)

    def patches(self) -> list[dict[str, object]]:
        """What a host writes, as plain data: address and bit of each field, its width, its value
        where all variables are 0 and what each of them adds."""
        return [{"address": self.address + HEADER_BYTES + COMMAND_BYTES * one.command
                 + 4 * COMMAND[one.field].word, "bit": COMMAND[one.field].low,
                 "bits": COMMAND[one.field].bits, "base": one.base,
                 "adds": dict(zip(self.variables, one.slopes, strict=True))}
                for one in self.varying]


def fit(variables: Mapping[str, range], emit: Callable[..., Sequence[Fields]]
        ) -> tuple[tuple[Fields, ...], tuple[Varying, ...]]:
    """The commands that ``emit(**values)`` gives for the largest value of every variable, and the
    fields of them that vary.

    Fences are those of the largest values: tensors of smaller ones lie inside theirs.
    ``ValueError`` where the commands differ by more than fields that are linear; it is looked at
    the ends of every variable, and in the middle of all.
    """
    most = {name: own[-1] for name, own in variables.items()}
    commands = tuple(dict(fields) for fields in emit(**most))
    numbers = [index for index, fields in enumerate(commands) if not _fence(fields)]
    slopes: dict[tuple[int, str], dict[str, int]] = {}
    for name, own in variables.items():
        if len(own) == 1:
            continue
        for index, field, value in _differing(commands, numbers, emit(**most | {name: own[0]})):
            step, rest = divmod(commands[index].get(field, 0) - value, own[-1] - own[0])
            if rest:
                raise ValueError(f"{field} of command {index} must be linear in {name}")
            slopes.setdefault((index, field), {})[name] = step
    varying = tuple(
        Varying(index, field, commands[index].get(field, 0) - sum(
            step * most[name] for name, step in steps.items()),
                tuple(steps.get(name, 0) for name in variables))
        for (index, field), steps in sorted(slopes.items()))
    template = Template(0, variables, commands, varying)
    middle = {name: own[len(own) // 2] for name, own in variables.items()}
    fitted = [dict(fields) for fields in commands]
    for index, fields in template.fitted(**middle):
        fitted[index] = fields
    wrong = next(iter(_differing(fitted, numbers, emit(**middle))), None)
    if wrong is not None:
        raise ValueError(f"{wrong[1]} of command {wrong[0]} must be linear in "
                         f"{' and '.join(variables)}")
    return commands, varying


def _fence(fields: Fields) -> bool:
    return fields["opcode"] == Opcode.FENCE


def _differing(commands: Sequence[Fields], numbers: Sequence[int], others: Sequence[Fields]
               ) -> Iterator[tuple[int, str, int]]:
    """Number, field and other value where ``others`` differ, fences aside."""
    others = [fields for fields in others if not _fence(fields)]
    if len(others) != len(numbers):
        raise ValueError(f"programs of one kind must have {len(numbers)} commands, "
                         f"not {len(others)}")
    for index, other in zip(numbers, others, strict=True):
        own = commands[index]
        if own == other:
            continue
        for field in own.keys() | other.keys():
            if own.get(field, 0) != other.get(field, 0):
                yield index, field, other.get(field, 0)
