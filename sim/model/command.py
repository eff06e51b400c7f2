"""One command: what it names, what it does, and whether it is valid.

All of it follows from the tables of ``hdl.spec``: nothing here knows a field by its name, but for
the list. The hardware's check (``hdl.issue.command_check``) is written by hand, apart from it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache, reduce
from operator import or_

from hdl.spec.commands import (
    COMMAND,
    COMPUTING,
    INSTRUCTION,
    INSTRUCTIONS,
    LISTED,
    TENSORS,
    AtLeast,
    CommandField,
    ErrorCause,
    Meaning,
    Needs,
    Opcode,
    Role,
    Shape,
    Trait,
    When,
    available,
    meanings,
    members,
    reserved_mask,
    roles,
    touched,
    traits,
    unpack,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import INDEX_BYTES, row_fits
from sim.model.memory import ProgramError, TensorView

__all__ = ["CHECKED", "Command"]

CHECKED = (ErrorCause.BAD_SHAPE, ErrorCause.OVERSIZE, ErrorCause.K_RANGE, ErrorCause.BAD_FIELD,
           ErrorCause.MISALIGNED)
"""What a command that computes is checked for, in this order; after that OVERSIZE once more, for
rows that have to stay on chip."""

_WORD_BITS = 32
_RESERVED = reserved_mask(INSTRUCTION, _WORD_BITS)


@dataclass(frozen=True)
class _Step:
    """An instruction: its ``fields``, the meaning of each, what it does and touches."""

    fields: dict[str, int]
    meanings: dict[str, Meaning]
    traits: Trait
    touched: frozenset[str]


@lru_cache(4096)
def _step(word: int) -> _Step:
    fields = unpack(INSTRUCTION, word.to_bytes(_WORD_BITS // 8, "little"))
    fields["reserved"] = word & _RESERVED
    return _Step(fields, meanings(fields), traits(fields), frozenset(touched(fields)))


class _Build:
    """What a configuration's build has."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.opcodes = {int(opcode) for opcode in Opcode
                        if available(opcode.meaning.needs, config)}
        self.members = {name: {int(member) for member in members(name, config)}
                        for name, field in INSTRUCTION.items() if field.kind is not None}
        self._config = config
        self._has: dict[Needs, bool] = {(): True}

    def has(self, needs: Needs) -> bool:
        """Whether it has one feature of each entry."""
        if needs not in self._has:
            self._has[needs] = available(needs, self._config)
        return self._has[needs]


_build = cache(_Build)


class Command:
    """A command's ``fields`` (``hdl.spec.commands.COMMAND``) as a build of ``config`` sees them.

    ``fields`` may hold ``reserved``, the bits of the record that belong to no field.
    ``instructions``: the fields of each vector instruction up to the one marked last; all eight
    where none is (``check`` refuses that).
    """

    def __init__(self, config: AcceleratorConfig, fields: dict[str, int]) -> None:
        self.config = config
        self.fields = fields
        self._build = _build(config)
        self._tensors: dict[str, TensorView] = {}
        self._steps: list[_Step] = []
        for index in range(INSTRUCTIONS):
            step = _step(fields["instructions"] >> _WORD_BITS * index & (1 << _WORD_BITS) - 1)
            self._steps.append(step)
            if step.fields["last"]:
                break
        self.instructions = [step.fields for step in self._steps]

    @property
    def opcode(self) -> int:
        return self.fields["opcode"]

    def _holds(self, when: When) -> bool:
        return self.opcode in when.opcodes and (not when.flag or bool(self.fields[when.flag]))

    def means(self, field: CommandField) -> bool:
        """Whether ``field`` says something in this command."""
        return self._build.has(field.needs) and any(map(self._holds, field.used))

    def value(self, field: CommandField) -> int:
        """What ``field`` says, its default where it says nothing."""
        return self.fields[field.name] if self.means(field) else field.default

    def shape(self, name: str) -> Shape | None:
        """What tensor ``name`` (of ``TENSORS``) is in this command; ``None``: it has none."""
        return next((shape for shape in TENSORS[name].shapes if self._holds(shape.when)), None)

    def uses(self, name: str) -> bool:
        """Whether tensor ``name`` is touched."""
        return self.shape(name) is not None and (
            name not in LISTED or any(name in step.touched for step in self._steps))

    def tensor(self, name: str) -> TensorView:
        """Tensor ``name`` as stored; ``ValueError`` where the command has none."""
        if name not in self._tensors:
            self._tensors[name] = self._tensor(name)
        return self._tensors[name]

    def _tensor(self, name: str) -> TensorView:
        shape = self.shape(name)
        if shape is None:
            raise ValueError(f"name must be a tensor of the command, not {name!r}")
        told = {role: self.value(field) for role, field in roles(name).items()}
        rows, columns = (count if isinstance(count, int) else self.fields[count]
                         for count in (shape.rows, shape.columns))
        columns = 1 if told.get(Role.COLUMN) else columns
        if told.get(Role.TRANSPOSED):
            rows, columns = columns, rows
        if shape.indices:
            return TensorView(told[Role.ADDRESS], INDEX_BYTES * columns, rows, columns, None,
                              INDEX_BYTES)
        fmt = self.config.format
        if Role.OFFSET in told:
            offset = told[Role.OFFSET] - (told[Role.OFFSET] >> 31 << 32)
            address = (self._tensor("c").address + offset) % (1 << 64)
            encoding = None if fmt.storage_bytes == 1 else fmt.encodings[0]
            return TensorView(address, 0, rows, columns, encoding, 2)
        if told.get(Role.WIDE):
            return TensorView(told[Role.ADDRESS], told[Role.STRIDE], rows, columns, None, 2)
        encoding = fmt.encodings[told[Role.E5M2]]
        return TensorView(told[Role.ADDRESS], told[Role.STRIDE], rows, columns, encoding,
                          fmt.storage_bytes)

    @cached_property
    def operands(self) -> set[tuple[int, int]]:
        """What instructions take as Y: its number, and whether they take what follows it."""
        return {(step.fields["y"], step.fields["y_second"]) for step in self._steps
                if f"y{step.fields['y']}" in step.touched}

    def operand(self, number: int, second: int) -> TensorView:
        """What one of ``operands`` is in memory."""
        view = self.tensor(f"y{number}")
        return replace(view, address=(view.address + view.columns * view.element_bytes * second)
                       % (1 << 64))

    @cached_property
    def scalars(self) -> dict[str, int]:
        """The immediates that are scalars from memory, and their numbers."""
        return {field.scalar: self.fields[field.scalar] for field in COMMAND.values()
                if field.scalar and self.value(field)}

    @cached_property
    def traits(self) -> Trait:
        """All that its flags and its instructions do."""
        return reduce(or_, [*(step.traits for step in self._steps),
                            *(field.traits for field in COMMAND.values()
                              if field.traits and self.value(field))])

    def check(self, table: int = 0) -> None:
        """Raise a ``ProgramError`` of the first cause that there is. ``table``: the address of the
        program's scalars."""
        cause = self.invalid
        if cause is None and self.scalars and table & 1:
            cause = ErrorCause.MISALIGNED
        # FENCE and END have a list, too, which says nothing.
        on_chip = self.opcode in COMPUTING and Trait.ON_CHIP in self.traits
        if cause is None and on_chip and not row_fits(self.config, self.fields["n"]):
            cause = ErrorCause.OVERSIZE
        if cause is not None:
            raise ProgramError(cause)

    @cached_property
    def invalid(self) -> ErrorCause | None:
        """What is wrong with the record, whatever the sizes of the build's banks: its opcode, or
        the first of ``CHECKED``."""
        if self.opcode not in self._build.opcodes:
            return ErrorCause.BAD_OPCODE
        found = set(self._causes()) if self.opcode in COMPUTING else ()
        return next((cause for cause in CHECKED if cause in found), None)

    def _causes(self) -> Iterator[ErrorCause]:
        """What every rule that does not hold says."""
        for field in COMMAND.values():
            yield from self._limited(field)
            if field.strict and not self.means(field) and self.fields[field.name] != field.default:
                yield ErrorCause.BAD_FIELD
        if self.fields.get("reserved") or not self._list_valid():
            yield ErrorCause.BAD_FIELD
        for name in TENSORS:
            if self.uses(name) and not self.tensor(name).aligned:
                yield ErrorCause.MISALIGNED

    def _limited(self, field: CommandField) -> Iterator[ErrorCause]:
        value = self.fields[field.name]
        for limit in field.limits:
            if isinstance(limit, AtLeast):
                broken = value < limit.least
            else:
                most = limit.most if isinstance(limit.most, int) else getattr(
                    self.config, limit.most)
                broken = (value > most and self._holds(limit.when)
                          and self._build.has(limit.needs))
            if broken:
                yield limit.cause

    def _list_valid(self) -> bool:
        barred = [field.bars for field in COMMAND.values() if field.bars and self.value(field)]
        barred += [meaning.bars for step in self._steps for meaning in step.meanings.values()
                   if meaning.bars]
        return (bool(self._steps[-1].fields["last"])
                and all(map(self._step_valid, self._steps))
                and not any(bars in step.traits for step in self._steps for bars in barred)
                and self._registers_filled())

    def _step_valid(self, step: _Step) -> bool:
        """Whether the build knows its values, and it does nothing that they bar."""
        if step.fields["reserved"]:
            return False
        for name, field in INSTRUCTION.items():
            value = step.fields[name]
            if field.kind is not None and value not in self._build.members[name]:
                return False
            if value and (not self._build.has(field.needs) or field.only not in step.traits
                          or (field.bars and field.bars in step.traits)):
                return False
        if not all(step.fields[meaning.requires] for meaning in step.meanings.values()
                   if meaning.requires):
            return False
        once = [(INSTRUCTION[name].kind, step.fields[name])
                for name, meaning in step.meanings.items() if meaning.once]
        return len(once) == len(set(once))

    def _registers_filled(self) -> bool:
        """Whether each row register is filled by the command, or reduced into by an instruction,
        before those that read it."""
        filled = {field.register for field in COMMAND.values()
                  if field.register is not None and self.value(field)}
        for step in self._steps:
            read = {meaning.register for meaning in step.meanings.values()}
            if not read - {None} <= filled:
                return False
            if Trait.REDUCES in step.traits:
                filled.add(step.fields["reduce_to"])
        return True
