"""What a host does in a training step: it writes the batch and the rate, starts programs, reads.

Nothing that it reads goes back into the memory: losses and norms are for people.
"""

from collections.abc import Mapping

import numpy as np

from compiler.program.builder import read
from compiler.program.start import Ran, Start
from compiler.program.tensor import INDICES, Tensor
from compiler.training.description import AdamW, Training
from compiler.training.gradients.loss import LossKind, labelled, loss_of, next_told, rows_counted
from compiler.training.gradients.network import Batch
from compiler.training.gradients.numerics import Exact
from compiler.training.programs.ends import pooled_rows
from compiler.training.programs.lower import TrainingProgram
from compiler.training.programs.scales import DECAY, RATE
from hdl.spec.formats import BF16_ENCODING
from sim.model import codec

__all__ = ["Host"]


class Host:
    """Steps of ``program`` on whatever ``start`` runs it on; ``masters``: the trained arrays at
    first, by name; with ``lower``, words that their upper words leave."""

    def __init__(self, program: TrainingProgram, training: Training, kind: LossKind,
                 start: Start, masters: Mapping[str, np.ndarray],
                 lower: Mapping[str, np.ndarray] | None = None) -> None:
        self.program, self.training, self.kind = program, training, kind
        self.memory = program.image.memory.copy()
        self.steps = 0
        self._start = start
        self.set_masters(masters, lower)

    # Tensors

    def read(self, tensor: Tensor) -> np.ndarray:
        return read(self.memory, tensor, self.program.image.base)

    def write(self, tensor: Tensor, values: np.ndarray) -> None:
        """``values`` as ``tensor`` holds them: rounded, or row numbers."""
        values = np.asarray(values).reshape(tensor.shape)
        if tensor.encoding == INDICES:
            codes = values.astype("<u4")
        else:
            codes = codec.encode(tensor.encoding, values.astype(np.float64)).astype(
                f"<u{tensor.item_bytes}")
        tensor.window(self.memory, self.program.image.base)[:] = np.ascontiguousarray(codes).view(
            np.uint8)

    def set_masters(self, masters: Mapping[str, np.ndarray],
                    lower: Mapping[str, np.ndarray] | None = None) -> None:
        """Both words of each master: of ``masters``, where ``lower`` is not given."""
        state, layout = self.program.tensors.state, self.program.layout
        matrix = layout.matrix(masters)
        high = codec.decode(BF16_ENCODING, codec.encode(BF16_ENCODING, matrix))
        self.write(state.moved, high)
        self.write(state.low, matrix - high if lower is None else layout.matrix(lower))
        self._run(self.program.start)

    def masters(self, before: bool = False) -> dict[str, np.ndarray]:
        """What is trained, as the upper words of the masters; ``before`` the last update."""
        state = self.program.tensors.state
        return self.program.layout.arrays(
            self.read(state.high if before else state.moved), self.program.shapes)

    def histories(self, count: int) -> dict[str, list[float]]:
        """The last ``count`` magnitudes of each site, the oldest first."""
        tables = self.program.tensors.tables
        rows = self.read(tables.history)
        return {name: rows[place, rows.shape[1] - count:].tolist()
                for name, place in tables.factors.sites.items()}

    def set_histories(self, histories: Mapping[str, list[float]]) -> None:
        """Take those of another run, and the scales that follow."""
        tables = self.program.tensors.tables
        rows = np.zeros(tables.history.shape)
        for name, place in tables.factors.sites.items():
            found = histories.get(name, [])[-rows.shape[1]:]
            rows[place, rows.shape[1] - len(found):] = found
        self.write(tables.history, rows)
        self._run(self.program.start)

    # Steps

    def _run(self, address: int) -> Ran:
        return self._start(self.memory, address, self.program.image.base)

    def gradients(self, batch: Batch) -> tuple[float, Ran]:
        """The mean loss; its gradients stay in the memory."""
        micro, loss, rows, ran = self.training.micro, 0.0, 0, Ran()
        for first in range(0, len(batch), micro):
            part = self._padded(batch.part(slice(first, first + micro)))
            self._write_batch(part)
            ran += self._run(self.program.next if first else self.program.first)
            logits = self.read(self.program.logits)
            if self.kind != "classes":
                logits = logits.reshape(len(part), -1, logits.shape[1])
            own = rows_counted(self.kind, part.labels, part.valid)
            with np.errstate(over="ignore", invalid="ignore"):
                loss += own * loss_of(self.kind, Exact(), logits, part.labels, part.valid)[0]
            rows += own
        return loss / rows, ran

    def _padded(self, part: Batch) -> Batch:
        """``part`` with sequences as long as the program's, where those may be padded."""
        length, inputs, labels, valid = (
            self.program.batch.length, part.inputs, part.labels, part.valid)
        if (part.segments is None) != (self.program.batch.segments is None):
            raise ValueError("segments must be given to this program if and only if it was made "
                             "for sequences of several kinds of positions")
        if length is None:
            return part
        missing = length - inputs.shape[1]
        if missing < 0:
            raise ValueError(f"a sequence must have at most {length} positions in this program, "
                             f"not {inputs.shape[1]}")
        valid = np.ones(inputs.shape[:2], bool) if valid is None else valid
        if self.program.pooling == "first" and not valid[:, 0].all():
            raise ValueError("the first position of each sequence must be valid where it is pooled")
        more = (0, 0), (0, missing)
        if self.kind == "vocabulary":
            if (valid[:, 1:] & ~valid[:, :-1]).any() or not next_told(labels, valid).any():
                raise ValueError("of sequences whose next ids are told, what pads must come last, "
                                 "and a position with a next one be among them")
            labels = np.pad(labels, more)
        if self.kind == "tokens":
            labels = np.pad(labels, more, constant_values=-1)
        segments = None if part.segments is None else np.pad(part.segments, more)
        return Batch(np.pad(inputs, more), labels, np.pad(valid, more), segments)

    def _write_batch(self, part: Batch) -> None:
        """One micro-batch, of sequences as long as the program's."""
        own = self.program.batch
        for tensor, values in zip(own.inputs, np.split(part.inputs, len(own.inputs)), strict=True):
            self.write(tensor, values)
        if own.segments is not None:
            self.write(own.segments, part.segments)
        if self.kind == "tokens":
            self._write_valid(part.valid)
            self._write_rows(labelled(part.labels, part.valid), part.labels)
        elif self.kind == "vocabulary":
            # A position's label is the next one's id; the last one has none.
            counted = next_told(part.labels, part.valid)
            self._write_rows(np.pad(counted, ((0, 0), (0, 1))),
                             np.roll(part.labels, -1, axis=1))
        else:
            # Of spans all first positions, then all last ones.
            self.write(own.labels, part.labels.T)
            if part.valid is not None:
                self._write_valid(part.valid)

    def _write_rows(self, counted: np.ndarray, labels: np.ndarray) -> None:
        """A one-hot row of the label of each position that is ``counted``, and which are."""
        own, rows = self.program.batch, np.zeros(self.program.batch.labels.shape)
        numbers = np.arange(labels.size).reshape(labels.shape)
        found = numbers[counted]
        rows[found, labels[counted]] = 1
        self.write(own.labels, rows)
        if own.counted is not None:
            self.write(own.counted, np.where(np.isin(numbers, found), numbers, numbers.size))
            self.write(own.lengths, np.full(own.lengths.shape, 1 / found.size))

    def _write_valid(self, valid: np.ndarray) -> None:
        """Masks, and what goes by the number of positions."""
        own, counts = self.program.batch, valid.sum(axis=1)
        for tensor, values in ((own.masks, np.where(valid, 0.0, Exact.masked)),
                               (own.lengths, 1 / counts), (own.valid, valid)):
            if tensor is not None:
                self.write(tensor, values)
        if own.rows is not None:
            first = self.program.pooling == "first"
            self.write(own.rows, pooled_rows(first, valid))
        for addresses, count in zip(own.counts, counts if own.counts else (), strict=True):
            word = np.frombuffer(np.float32(1 / np.float64(count)).tobytes(), np.uint8)
            for address in addresses:
                start = address - self.program.image.base
                self.memory[start:start + word.size] = word

    def calibrate(self, batch: Batch) -> None:
        """Gradients alone, so that the first step has magnitudes to scale its gradients by."""
        self.gradients(batch)
        self._run(self.program.calibrate)

    def step(self, batch: Batch, rate: float) -> tuple[float, float, Ran]:
        """One update at ``rate``: loss before it, norm of the gradients, what happened."""
        self.steps += 1
        loss, ran = self.gradients(batch)
        optimiser, tables = self.training.optimiser, self.program.tensors.tables
        eta = rate * optimiser.correction(self.steps) if isinstance(optimiser, AdamW) else rate
        self._word(tables.word(RATE), -eta)
        self._word(tables.word(DECAY), -rate * optimiser.decay)
        ran += self._run(self.program.update)
        squares = self.read(self.program.tensors.squares)
        return loss, float(np.sqrt(squares.sum())), ran

    def _word(self, number: int, value: float) -> None:
        self.write(self.program.tensors.tables.table.block(number, 0, 1, 1), np.array([[value]]))
