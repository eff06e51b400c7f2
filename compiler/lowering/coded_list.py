"""An op list in the making whose operands of products are codes and all else BF16."""

from dataclasses import replace

from compiler.lowering.coded_values import CodedValues
from compiler.lowering.ops import Op, Output
from compiler.lowering.values import Use, Value, View

__all__ = ["CodedList"]


class CodedList:
    """The new list, and what of it stands for values of the given one."""

    def __init__(self, shared: CodedValues) -> None:
        self._shared = shared
        self._values: dict[Value, None] = {}
        self._wide: dict[Value, Value] = {}
        self._ops: list[Op] = []

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
        self._ops.append(op.with_views(self._view))
