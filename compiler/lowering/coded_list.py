"""An op list in the making whose operands of products are codes and all else BF16."""

import math
from collections import Counter
from dataclasses import replace
from typing import TypeGuard

from compiler.checkpoints.scales import LARGEST
from compiler.lowering.coded_values import CodedValues
from compiler.lowering.lane_ops import Add, Factor, MultiplyRows
from compiler.lowering.ops import Gather, Gemm, Op, OpList, Output, Vector
from compiler.lowering.values import Form, Life, Use, Value, View

__all__ = ["CodedList", "items_of"]


class CodedList:
    """The new list, and what of it stands for values of the given one."""

    def __init__(self, listed: OpList, shared: CodedValues) -> None:
        self._given, self._shared = listed, shared
        self._readings = Counter(read.view.value for op in listed.ops for read in op.reads)
        self._values: dict[Value, None] = {}
        self._wide: dict[Value, Value] = {}
        self._ops: list[Op] = []
        self._kept: set[Value] = set()  # of the new list, as they are

    def _declare(self, value: Value) -> Value:
        self._values.setdefault(value)
        return value

    def _as_wide(self, value: Value) -> Value:
        """The value as everything but a product reads it."""
        if value not in self._wide:
            self._wide[value] = self._declare(self._shared.wide(value))
        return self._wide[value]

    def _view(self, view: View, use: Use | None = None) -> View:
        return replace(view, value=self._as_wide(view.value))

    def _divided(self, p: Value) -> Value:
        """What takes 1 over the sums of the rows of ``p``."""
        return self._declare(Value(f"{p.name} divisors", p.rows, 1, forms=(Form.WIDE,)))

    def _follows(self, second: Op | None, first: Op) -> TypeGuard[Vector]:
        """Whether ``second`` alone reads what ``first`` gives, and does one thing to it."""
        return (isinstance(second, Vector) and not second.transposed and len(second.then) == 1
                and second.x == first.out and self._readings[first.out.value] == 1
                and first.out.value.life == Life.TEMPORARY and first.out.is_whole)

    @staticmethod
    def _bias(first: Gemm, second: Vector) -> Value | None:
        """What ``second`` adds to each row of a product with a constant."""
        lane_op = second.then[0]
        if first.then or len(first.products) != 1 or not first.b_transposed or (
                first.products[0].b.value.life != Life.CONSTANT or type(lane_op) is not Add
                or len(lane_op.y) != 1):
            return None
        bias = lane_op.y[0]
        if bias is None or not bias.is_whole or bias.value.life != Life.CONSTANT or bias.rows != 1:
            return None
        return bias.value

    def _as_it_is(self, op: Op) -> None:
        """An op that is no product, on BF16."""
        if isinstance(op, Output):
            uses = dict.fromkeys(Use.LANES if use == Use.OPERAND else use for use in op.uses)
            op = replace(op, uses=tuple(uses))
        if isinstance(op, Gather):
            op = self._of_codes(op)
        self._ops.append(op.with_views(lambda view, use: view if view.value in self._kept
                                       else self._view(view)))

    def _of_codes(self, op: Gather) -> Gather:
        """Rows of a constant table by its codes, × the magnitudes of these rows."""
        table = op.table.value
        factors = [lane_op.factor for lane_op in op.then if isinstance(lane_op, Factor)]
        if table.life != Life.CONSTANT or not op.table.is_whole or len(factors) < len(op.then):
            return op
        codes, top, unit = self._table(table)
        self._declare(codes)
        self._declare(top)
        items = self._declare(Value(f"{op.out.value.name} magnitudes of rows", op.out.rows, 1,
                                    forms=(Form.WIDE,)))
        height = op.out.rows // len(op.indices)
        self._kept |= {codes, top, items}
        self._ops.append(Gather(items.whole, top.whole, op.indices))
        return replace(op, table=codes.whole, then=(
            MultiplyRows(tuple(items.whole.row_block(first, height)
                               for first in range(0, op.out.rows, height))),
            Factor(LARGEST * unit * math.prod(factors))))

    def _table(self, table: Value) -> tuple[Value, Value, float]:
        """Codes of a table and magnitudes of its rows, which count so much over 127²."""
        return (*self._shared.constant(table, 0, table.columns), 1.0)


def items_of(value: Value, rows: View) -> View:
    """Of ``value``, which has an item for each row of another, those of ``rows``."""
    return View(value, rows.offset // rows.value.columns, rows.rows, 1, 1)
