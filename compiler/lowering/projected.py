"""Projections whose columns heads read, as codes of each head's rows right out of the array."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from compiler.checkpoints.scales import LARGEST
from compiler.lowering import lists
from compiler.lowering.coded_values import CodedValues
from compiler.lowering.lane_ops import Listed
from compiler.lowering.ops import Gemm, OpList, Output, Product
from compiler.lowering.row_codes import Coded, RowCodes
from compiler.lowering.values import Counts, Form, Life, Read, Use, Value

__all__ = ["ProjectedHeads"]


class ProjectedHeads(RowCodes):
    """``RowCodes`` that cuts a linear layer by the heads that read its columns.

    A head's columns fit a bank with all rows of a block, so that the lanes find magnitudes and
    codes while the array goes on: queries and keys then need no command for their codes.
    """

    def __init__(self, listed: OpList, shared: CodedValues) -> None:
        super().__init__(listed, shared)
        self._blocks, self._sums = _heads(listed)

    def _projected(self, op: Gemm, out: Value, bias: Value) -> bool:
        """``op`` with its ``bias`` by heads of ``out``; False where no heads read that."""
        blocks = self._blocks.get(out)
        if blocks is None:
            return False
        self._written(out.whole)
        for columns, coded in _parts(blocks, out.columns):
            own = self._shared.rows(op.products[0].b.value, columns)
            added = self._shared.columns(bias, columns)
            to = out.whole.block(0, columns.start, out.rows, len(columns))
            if coded:
                codes = self._codes_of(op, own, added, out)
                self._found.setdefault(out, {})[columns.start, len(columns)] = codes
            elif not self._of_values(op, out, columns, bias):
                self._linear(replace(op, out=to, products=(
                    Product(op.products[0].a, own.whole, to),)), added)
        return True

    def _of_values(self, op: Gemm, out: Value, columns: range, bias: Value) -> bool:
        """``columns`` of ``out`` by heads, and the magnitudes of rows of these; False where they
        are no heads' values of one sequence, which these are of one scale for."""
        heads = sorted(self._sums.get(out, ()))
        ends = [columns.start, *(first + width for first, width in heads)]
        if [first for first, _ in heads] != ends[:-1] or ends[-1] != columns.stop:
            return False
        tops = self._declare(Value(f"{out.name} magnitudes of heads", len(heads) * out.rows, 1,
                                   forms=(Form.WIDE,)))
        for index, (first, width) in enumerate(heads):
            part = range(first, first + width)
            a, pair, b = self._operands(op, self._shared.rows(op.products[0].b.value, part),
                                        self._shared.columns(bias, part))
            to = self._view(out.whole.block(0, first, out.rows, width))
            top = tops.whole.row_block(index * out.rows, out.rows)
            reads = tuple(Read(view, Use.LANES) for view in (a.top, pair.whole, top))
            self._ops.append(Gemm(to, (Product(a.codes, b.codes, to),), then=(Listed(
                "magnitudes by row of a linear layer", lambda tensors: lists.linear_magnitudes(
                    *tensors), (reads,)),)))
        self._tops[out, columns.start, out.rows, len(columns)] = tops
        return True

    def _operands(self, op: Gemm, weight: Value, bias: Value) -> tuple[Coded, Value, Coded]:
        """What a product reads, and the scales of its outputs with their bias."""
        a, b = self._coded(op.products[0].a), self._coded(weight.whole, True)
        return a, self._declare(self._shared.pair(f"{bias.name} and scales", b.top.value, bias)), b

    def _linear(self, op: Gemm, bias: Value) -> None:
        raise NotImplementedError

    def _codes_of(self, op: Gemm, weight: Value, bias: Value, out: Value) -> tuple[Value, Value]:
        a, pair, b = self._operands(op, weight, bias)
        top = self._declare(Value(f"{out.name} magnitudes", out.rows, 1, forms=(Form.WIDE,)))
        codes = self._declare(Value(f"{out.name} codes", out.rows, weight.rows,
                                    forms=(Form.STORED,), counts=Counts(1 / LARGEST, top)))
        operands = tuple(Read(view, Use.LANES) for view in (a.top, pair.whole, top.whole))
        self._ops.append(Gemm(codes.whole, (Product(a.codes, b.codes, codes.whole),), then=(Listed(
            "codes by row of a linear layer", lambda tensors: lists.linear_codes(
                LARGEST, *tensors), (operands,)),)))
        return codes, top


Blocks = dict[Value, set[tuple[int, int]]]


def _heads(listed: OpList) -> tuple[Blocks, Blocks]:
    """Of each value that products alone read the columns, the first and how many, that some read
    transposed, and those that others read of all its rows."""
    found, sums = Blocks(), Blocks()
    others = set[Value]()
    for op in listed.ops:
        for read in op.reads:
            value, view = read.view.value, read.view
            if not isinstance(op, Gemm) or read.use != Use.OPERAND or isinstance(op, Output) or (
                    value.life != Life.TEMPORARY or view.stride % value.columns):
                others.add(value)
            elif op.b_transposed and view.columns < value.columns:
                found.setdefault(value, set()).add((view.offset % value.columns, view.columns))
            elif not op.b_transposed and view.rows == value.rows:
                sums.setdefault(value, set()).add((view.offset, view.columns))
    return {value: own for value, own in found.items()
            if value not in others and _apart(own)}, sums


def _apart(blocks: set[tuple[int, int]]) -> bool:
    ends = [(first, first + width) for first, width in sorted(blocks)]
    return all(end <= start for (_, end), (start, _) in pairwise(ends))


def _parts(blocks: set[tuple[int, int]], columns: int) -> Iterator[tuple[range, bool]]:
    """``blocks`` of ``columns`` and what is between them, in order; whether it is a block."""
    done = 0
    for first, width in sorted(blocks):
        if first > done:
            yield range(done, first), False
        yield range(first, first + width), True
        done = first + width
    if done < columns:
        yield range(done, columns), False
