"""Last pass: ops as commands of a program builder.

An op is a command for each of its products or blocks of rows. A list that keeps its block on chip
takes rows that fit an accumulation bank: longer ones are cut into columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from compiler.lowering.command import Command, columns_of, rows_of
from compiler.lowering.epilogues import epilogue_of
from compiler.lowering.lane_ops import LaneOp, Listed, MultiplyRows, Normalise
from compiler.lowering.ops import Gather, Gemm, Op, OpList, Output, Vector
from compiler.lowering.place import Places, Tell, silent
from compiler.lowering.polynomial_ops import Polynomial
from compiler.lowering.turns import in_turns
from compiler.lowering.values import View
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from hdl.spec.commands import Destination, Opcode
from hdl.spec.timing import row_columns, row_fits

__all__ = ["Emitted", "emit"]


@dataclass(frozen=True)
class Emitted:
    """``macs``: multiply-accumulates of the GEMMs' shapes; ``written``: for each command the name
    of the tensor that it writes, empty for a fence and the end."""

    macs: int
    written: tuple[str, ...]


def emit(fused: OpList, places: Places, builder: ProgramBuilder, tell: Tell = silent) -> Emitted:
    """The commands of every op in order, and END; ``ValueError`` for what the build cannot do.
    ``tell`` hears how far it is."""
    emitter, done = _Emitter(places, builder), 0
    for part in fused.parts():
        emitter.emit(part)
        done += len(part)
        tell(done / len(fused.ops), f"{len(builder.commands)} commands")
    builder.end()
    return Emitted(emitter.macs, tuple(_written(builder, emitter.ends)))


def _written(builder: ProgramBuilder, ends: Sequence[tuple[int, str]]) -> Iterator[str]:
    start = 0
    for end, name in (*ends, (len(builder.commands), "")):
        for fields in builder.commands[start:end]:
            yield name if fields["opcode"] in (Opcode.GEMM, Opcode.VECTOR) else ""
        start = end


class _Emitter:
    """Commands of one op after the other; ``macs`` counts, ``ends`` has after how many commands
    which tensor was written."""

    def __init__(self, places: Places, builder: ProgramBuilder) -> None:
        self.places, self.builder, self.config = places, builder, builder.config
        self.macs, self.ends = 0, list[tuple[int, str]]()

    def emit(self, ops: Sequence[Op]) -> None:
        """One op, or several that come in turns."""
        found = [[(command, self.places[op.out.value, op.out.form].name)
                  for command in self._commands(op)] for op in ops if not isinstance(op, Output)]
        for command, name in chain(*found) if len(ops) == 1 else in_turns(self.config, ops, found):
            self.macs += command.macs
            command.issue(self.builder)
            self.ends.append((len(self.builder.commands), name))

    def _commands(self, op: Op) -> Iterator[Command]:
        if op.blocks is None:
            raise ValueError(f"{op.out.value.name} must have operands of one number of blocks")
        if isinstance(op, Gemm):
            yield from self._gemm(op)
        elif isinstance(op, Gather):
            yield from self._gather(op)
        elif isinstance(op, Vector):
            yield from self._vector(op)

    def _gemm(self, op: Gemm) -> Iterator[Command]:
        parts = [(product.a, product.b, product.out) for product in op.products]
        if len(parts) < op.blocks:
            (a, b, out), = parts
            if op.a_transposed:
                raise ValueError(f"{out.value.name} must have one block, for Aᵀ is not cut")
            parts = [(own, b, to) for own, to in _cut(op.blocks, a, out)]
        for index, views in enumerate(parts):
            a, b, out = map(self.places.tensor, views)
            for columns, epilogue in self._epilogues(op.then, index, out.columns):
                own = (rows_of if op.b_transposed else columns_of)(b, columns)
                yield Command(a, columns_of(out, columns), epilogue, own,
                              a_transposed=op.a_transposed, b_transposed=op.b_transposed)

    def _vector(self, op: Vector) -> Iterator[Command]:
        for index, views in enumerate(_cut(op.blocks, op.x, op.out)):
            x, out = map(self.places.tensor, views)
            for columns, epilogue in self._epilogues(op.then, index, x.columns):
                target = out
                if columns != range(x.columns):
                    target = (rows_of if op.transposed else columns_of)(out, columns)
                yield Command(columns_of(x, columns), target, epilogue,
                              out_transposed=op.transposed)

    def _gather(self, op: Gather) -> Iterator[Command]:
        table = self.places.tensor(op.table)
        outs = _cut(len(op.indices), op.out)
        for index, (numbers, (out,)) in enumerate(zip(op.indices, outs, strict=True)):
            numbers, out = self.places.tensor(numbers), self.places.tensor(out)
            for columns, epilogue in self._epilogues(op.then, index, out.columns):
                yield Command(columns_of(table, columns), columns_of(out, columns), epilogue,
                              indices=numbers)

    def _epilogues(self, lane_ops: Sequence[LaneOp], index: int, width: int
                   ) -> Iterator[tuple[range, Epilogue]]:
        """Columns and epilogue of each command for block ``index`` of rows of ``width`` items."""
        blocks = [lane_op.of_block(index) for lane_op in lane_ops]
        own = [lane_op for lane_op in blocks if lane_op is not None]
        given = [(lane_op, tuple(self.places.tensor(read.view) for read in lane_op.reads))
                 for lane_op in own]
        epilogue = epilogue_of(given, self.config.scales)
        if not _keeps_block(epilogue) or row_fits(self.config, width):
            yield range(width), epilogue
            return
        widest = row_columns(self.config)
        listed = [str(lane_op) for lane_op in own if isinstance(lane_op, (Listed, Polynomial))]
        if listed:
            raise ValueError(f"{listed[0]} takes rows of at most {widest} items in this build, not "
                             f"{width}; a larger acc_depth takes longer ones")
        if any(isinstance(lane_op, Normalise) and not lane_op.affine for lane_op in own):
            raise ValueError(f"LayerNorm takes rows of at most {widest} items in this build, not "
                             f"{width}; RMSNorm takes any, a larger acc_depth longer ones")
        for first in range(0, width, widest):
            columns = range(first, min(first + widest, width))
            yield columns, epilogue_of([
                (lane_op, tensors if isinstance(lane_op, MultiplyRows)
                 else tuple(columns_of(tensor, columns) for tensor in tensors))
                for lane_op, tensors in given], self.config.scales)


def _keeps_block(epilogue: Epilogue) -> bool:
    """Whether its list writes the block back on chip."""
    return any(lane_op.destination == Destination.BUFFER for lane_op in epilogue.instructions or ())


def _cut(count: int, *views: View) -> Iterator[tuple[View, ...]]:
    """``count`` equal blocks of rows of each view, side by side; the views themselves if one."""
    if count == 1:
        yield views
        return
    for index in range(count):
        heights = [view.rows // count for view in views]
        yield tuple(view.block(index * height, 0, height, view.columns)
                    for view, height in zip(views, heights, strict=True))
