"""Executes a program on a memory image as the accelerator does, to the bit.

Commands run one after another, each over its whole matrix: what the hardware overlaps and tiles
must not show. Checks and their order are those of the sequencer: see ``_check_header`` and
``Command.check``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    COMPUTING,
    HEADER,
    HEADER_BYTES,
    ISA_MAJOR,
    MAGIC,
    PROGRAM_ALIGNMENT,
    Destination,
    ErrorCause,
    Opcode,
    features_of,
    isa_minor,
    reserved_mask,
    unpack,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16, BINARY32
from sim.model import fixed, lanes
from sim.model.accumulate import product_stored
from sim.model.codec import nar_count, saturates
from sim.model.command import Command
from sim.model.memory import Image, ProgramError, TensorView
from sim.model.rounding import Array, from_words, round_to
from sim.model.vector import RowState, execute

__all__ = ["Ending", "Machine"]

_RESERVED = reserved_mask(COMMAND, 8 * COMMAND_BYTES)


_KEPT = 1 << 16  # commands that stay decoded
_SCALAR_BYTES = BFLOAT16.bits // 8


@dataclass
class _Run:
    """What a program's commands share: its memory, the address of its ``scalars``, how it goes
    on, and the lanes' register A."""

    image: Image
    ending: "Ending"
    scalars: int = 0
    largest: float = 0.0


@dataclass
class Ending:
    """How a program ended: ``error`` is ``None`` after END.

    ``error_address`` is that of the offending header or command (0 without an error),
    ``commands`` counts those completed, END included, ``saturations`` and ``nars`` the encoded
    elements written that were clipped or NaR. Words and reductions of fixed lanes that saturated
    count as clipped too.
    """

    error: ErrorCause | None = None
    error_address: int = 0
    commands: int = 0
    saturations: int = 0
    nars: int = 0


class Machine:
    """Reference model of a build of ``config``."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.config = config
        self._commands: dict[bytes, Command] = {}

    def run(self, memory: Array, program_address: int, base: int = 0, *,
            progress: Callable[[int], None] | None = None) -> Ending:
        """Run the program at ``program_address``, changing ``memory`` in place.

        ``memory`` is uint8 and covers addresses from ``base``; a read or write outside it ends
        the program with READ_ERROR or WRITE_ERROR. After an error, what the failing command has
        written is not defined. ``progress`` is called with the number of commands completed.
        """
        ending = Ending()
        run = _Run(Image(memory, base), ending)
        try:
            count = self._check_header(run, program_address)
            for index in range(count):
                address = program_address + HEADER_BYTES + index * COMMAND_BYTES
                ended = self._run_command(run, address)
                ending.commands += 1
                if progress is not None:
                    progress(ending.commands)
                if ended:
                    return ending
            raise ProgramError(ErrorCause.BAD_LENGTH, program_address + HEADER_BYTES
                        + count * COMMAND_BYTES)
        except ProgramError as error:
            ending.error = error.cause
            ending.error_address = error.address
        return ending

    def _check_header(self, run: _Run, address: int) -> int:
        """Number of commands; refuses what this build cannot run."""
        if address % PROGRAM_ALIGNMENT:
            raise ProgramError(ErrorCause.MISALIGNED, address)
        header = unpack(HEADER, run.image.record(address, HEADER_BYTES))
        if header["magic"] != MAGIC:
            raise ProgramError(ErrorCause.BAD_MAGIC, address)
        if header["isa_major"] != ISA_MAJOR or header["isa_minor"] > isa_minor(
                self.config):
            raise ProgramError(ErrorCause.BAD_VERSION, address)
        if header["features"] & ~int(features_of(self.config)):
            raise ProgramError(ErrorCause.BAD_FEATURE, address)
        if not header["commands"]:
            raise ProgramError(ErrorCause.BAD_LENGTH, address)
        run.scalars = header["scalars"]
        return header["commands"]

    def _run_command(self, run: _Run, address: int) -> bool:
        """Run the command at ``address``; True for END."""
        command = self._decoded(run.image.record(address, COMMAND_BYTES))
        try:
            command.check(run.scalars)
            if command.opcode in COMPUTING:
                self._compute(run, command)
        except ProgramError as error:
            raise ProgramError(error.cause, address) from None
        return command.opcode == Opcode.END

    def _decoded(self, record: bytes) -> Command:
        """The command in ``record``: programs that run again have the same ones."""
        command = self._commands.get(record)
        if command is None:
            if len(self._commands) >= _KEPT:
                self._commands.clear()
            fields = unpack(COMMAND, record)
            fields["reserved"] = int.from_bytes(record, "little") & _RESERVED
            command = self._commands[record] = Command(self.config, fields)
        return command

    @staticmethod
    def _scalar(run: _Run, number: int) -> int:
        """The word of a scalar."""
        address = run.scalars + _SCALAR_BYTES * number
        return int.from_bytes(run.image.record(address, _SCALAR_BYTES), "little")

    def _compute(self, run: _Run, command: Command) -> None:
        """Fill the block X, then run the instruction list over it."""
        image = run.image
        words = command.fields | {name: self._scalar(run, number)
                                  for name, number in command.scalars.items()}
        x = self._fill(image, command)
        state = RowState(
            immediates=tuple(float(from_words(BFLOAT16, np.uint32(words[name] & 0xFFFF)))
                             for name in ("imm0", "imm1")),
            y={taken: image.load(command.operand(*taken)) for taken in command.operands},
            inverse_n=float(from_words(BINARY32, np.uint32(command.fields["inverse_n"]))),
            epsilon=float(from_words(BINARY32, np.uint32(command.fields["epsilon"]))),
            row_result=bool(command.fields["row_result"]), before=run.largest, largest=run.largest)
        if command.fields["row_max"]:
            state.registers[0] = self._row_maxima(x, state.immediates[0])
        for instruction in command.instructions:
            result = execute(self.config, instruction, x, state)
            if instruction["destination"] == Destination.BUFFER:
                x = result
            elif instruction["destination"] == Destination.MEMORY:
                self._write(image, command, result, run.ending)
            elif instruction["destination"] == Destination.SECOND:
                self._store(image, command.tensor("d"), result[:, :1].T, run.ending)
        run.largest = state.largest
        run.ending.saturations += state.saturations

    def _row_maxima(self, x: Array, scale: float) -> Array:
        """What the array's drain finds: the largest accumulator of each row, × ``scale``."""
        if self.config.fixed:
            return fixed.row_maximum(x, scale)
        return lanes.multiply(self.config.lane, lanes.row_max(self.config.lane, x),
                              np.asarray(scale))

    def _fill(self, image: Image, command: Command) -> Array:
        if command.opcode == Opcode.VECTOR:
            x = self._gather(image, command) if command.fields["x_gather"] else image.load(
                command.tensor("a"))
            return fixed.enter(x) if self.config.fixed else x
        a = image.load(command.tensor("a"))
        if command.fields["a_transposed"]:
            a = a.T
        b = command.tensor("b")
        assert b.encoding is not None, "operands of the array are of the format"
        return product_stored(self.config, a, b.encoding, image.codes(b),
                              bool(command.fields["b_transposed"]))

    def _gather(self, image: Image, command: Command) -> Array:
        """The rows of the table that the indices name."""
        table, listed = command.tensor("a"), command.tensor("b")
        words = image.record(listed.address, listed.size)
        indices = np.frombuffer(words, "<u4").astype(np.int64)
        if indices.max() >= table.rows:
            raise ProgramError(ErrorCause.INDEX_RANGE)
        named, places = np.unique(indices, return_inverse=True)
        return np.concatenate([
            image.load(replace(table, address=table.address + int(index) * table.stride, rows=1))
            for index in named])[places]

    def _write(self, image: Image, command: Command, values: Array, ending: Ending) -> None:
        values = values[:, :1] if command.fields["row_result"] else values
        values = values.T if command.fields["c_transposed"] else values
        self._store(image, command.tensor("c"), values, ending)

    def _store(self, image: Image, tensor: TensorView, values: Array, ending: Ending) -> None:
        if self.config.fixed and tensor.encoding is None:
            values = round_to(BFLOAT16, values)
        image.store(tensor, values)
        if tensor.encoding is not None:
            ending.saturations += int(np.count_nonzero(saturates(tensor.encoding, values)))
            ending.nars += nar_count(tensor.encoding, values)
        else:  # BF16 has infinities
            ending.nars += int(np.count_nonzero(np.isnan(values)))
