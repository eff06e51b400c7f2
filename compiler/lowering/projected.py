"""Projections whose columns heads read, as codes of each head's rows right out of the array."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

from compiler.checkpoints.scales import LARGEST
from compiler.lowering import lists
from compiler.lowering.coded_values import CodedValues
from compiler.lowering.lane_ops import Listed
from compiler.lowering.ops import Gemm, OpList, Output, Product
from compiler.lowering.row_codes import RowCodes
from compiler.lowering.values import Counts, Form, Life, Read, Use, Value

__all__ = ["ProjectedHeads"]


class ProjectedHeads(RowCodes):
    """``RowCodes`` that cuts a linear layer by the heads that read its columns.

    A head's columns fit a bank with all rows of a block, so that the lanes find magnitudes and
    codes while the array goes on: queries and keys then need no command for their codes.
    """

    def __init__(self, listed: OpList, shared: CodedValues) -> None:
        super().__init__(listed, shared)
        self._blocks = _heads(listed)

    def _projected(self, op: Gemm, out: Value, bias: Value) -> bool:
        """``op`` with its ``bias`` by heads of ``out``; False where no heads read that."""
        blocks = self._blocks.get(out)
        if blocks is None:
            return False
        found = {}
        for columns, coded in _parts(blocks, out.columns):
            own = self._shared.rows(op.products[0].b.value, columns)
            added = self._shared.columns(bias, columns)
            to = out.whole.block(0, columns.start, out.rows, len(columns))
            if coded:
                found[columns.start, len(columns)] = self._codes_of(op, own, added, out)
            else:
                self._linear(replace(op, out=to, products=(
                    Product(op.products[0].a, own.whole, to),)), added)
        self._written(out.whole)
        self._found[out] = {**found}
        return True

    def _linear(self, op: Gemm, bias: Value) -> None:
        raise NotImplementedError

    def _codes_of(self, op: Gemm, weight: Value, bias: Value, out: Value) -> tuple[Value, Value]:
        a, b = self._coded(op.products[0].a), self._coded(weight.whole, True)
        pair = self._declare(self._shared.pair(f"{bias.name} and scales", b.top.value, bias))
        top = self._declare(Value(f"{out.name} magnitudes", out.rows, 1, forms=(Form.WIDE,)))
        codes = self._declare(Value(f"{out.name} codes", out.rows, weight.rows,
                                    forms=(Form.STORED,), counts=Counts(1 / LARGEST, top)))
        operands = tuple(Read(view, Use.LANES) for view in (a.top, pair.whole, top.whole))
        self._ops.append(Gemm(codes.whole, (Product(a.codes, b.codes, codes.whole),), then=(Listed(
            "codes by row of a linear layer", lambda tensors: lists.linear_codes(
                LARGEST, *tensors), (operands,)),)))
        return codes, top


def _heads(listed: OpList) -> dict[Value, set[tuple[int, int]]]:
    """Of each value that products alone read, and some of them transposed by columns: these, the
    first of them and how many."""
    found: dict[Value, set[tuple[int, int]]] = {}
    others = set[Value]()
    for op in listed.ops:
        for read in op.reads:
            value, view = read.view.value, read.view
            if not isinstance(op, Gemm) or read.use != Use.OPERAND or isinstance(op, Output) or (
                    value.life != Life.TEMPORARY or view.stride % value.columns):
                others.add(value)
            elif op.b_transposed and view.columns < value.columns:
                found.setdefault(value, set()).add((view.offset % value.columns, view.columns))
    return {value: own for value, own in found.items() if value not in others and _apart(own)}


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
