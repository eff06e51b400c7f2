"""An op list in the making whose operands of products are codes and all else BF16."""

import math
from dataclasses import replace

from compiler.checkpoints.scales import LARGEST
from compiler.lowering.coded_values import CodedValues
from compiler.lowering.lane_ops import Factor, MultiplyRows
from compiler.lowering.ops import Gather, Op, Output
from compiler.lowering.values import Form, Life, Use, Value, View

__all__ = ["CodedList"]


class CodedList:
    """The new list, and what of it stands for values of the given one."""

    def __init__(self, shared: CodedValues) -> None:
        self._shared = shared
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
        codes, top = map(self._declare, self._shared.constant(table, 0, table.columns))
        items = self._declare(Value(f"{op.out.value.name} magnitudes of rows", op.out.rows, 1,
                                    forms=(Form.WIDE,)))
        height = op.out.rows // len(op.indices)
        self._kept |= {codes, top, items}
        self._ops.append(Gather(items.whole, top.whole, op.indices))
        return replace(op, table=codes.whole, then=(
            MultiplyRows(tuple(items.whole.row_block(first, height)
                               for first in range(0, op.out.rows, height))),
            Factor(LARGEST * math.prod(factors))))
