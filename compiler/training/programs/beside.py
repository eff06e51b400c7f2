"""Adapters beside their matrices as ops, as ``compiler.training.gradients.beside`` computes them.

Linear layers that read the same are one matrix in memory with all of their adapters:

    [W ‖ s B]      N + R rows, d + R columns: N outputs, d inputs, R the ranks together
    [A ‖ 0  ]

so that x, beside which T lies, times the upper rows is the layers' result, and its gradient, beside
which U lies, times the left columns that of x: one product each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from compiler.checkpoints.description import Linear
from compiler.lowering.lane_ops import Factor
from compiler.lowering.ops import Product
from compiler.lowering.tracer import Tracer
from compiler.lowering.values import Form, Value, View
from compiler.training.gradients.weights import INNER_LOG2

__all__ = ["BesideTracer", "Extended"]


@dataclass(frozen=True)
class Extended:
    """The matrix ``value`` of layers of ``inputs``; ``rows``: first row and number of rows of the
    part of each layer that has an adapter, in the order of their adapters."""

    value: Value
    inputs: int
    rank: int
    rows: Mapping[int, tuple[int, int]]

    @property
    def ranks(self) -> int:
        return self.rank * len(self.rows)

    @property
    def outputs(self) -> int:
        return self.value.rows - self.ranks

    @property
    def every_a(self) -> View:
        """All A below one another."""
        return self.value.whole.block(self.outputs, 0, self.ranks, self.inputs)

    @property
    def back(self) -> View:
        """[W ; A]."""
        return self.value.whole.block(0, 0, self.value.rows, self.inputs)

    def widened(self, part: View) -> View:
        """Rows ``part`` of W and what is beside them."""
        return View(self.value, part.offset, part.rows, self.value.columns, part.stride)

    def columns(self, weight: np.ndarray) -> slice:
        """Those of T and U of the adapter of ``weight``."""
        first = self.rank * list(self.rows).index(id(weight))
        return slice(first, first + self.rank)

    def a(self, weight: np.ndarray) -> View:
        return self.every_a.row_block(self.columns(weight).start, self.rank)

    def b(self, weight: np.ndarray) -> View:
        """2^INNER_LOG2 · s · B of ``weight``, outputs × rank."""
        row, rows = self.rows[id(weight)]
        return self.value.whole.block(row, self.inputs + self.columns(weight).start, rows,
                                      self.rank)


@dataclass
class BesideTracer(Tracer):
    """Traces linear layers with adapters of ``rank`` beside the matrices ``adapted``."""

    rank: int
    adapted: Sequence[np.ndarray]
    _matrices: dict[Value, Extended] = field(default_factory=dict)
    _given: dict[Value, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__(results=False)
        self._ids = {id(weight) for weight in self.adapted}

    def extended(self, weight: View) -> Extended | None:
        """What ``weight`` is a part of, where that has adapters."""
        return self._matrices.get(weight.value)

    def given_to(self, x: Value) -> Value:
        """What layers with adapters that were traced on ``x`` read: x with T beside it."""
        return self._given.get(x, x)

    def given(self, name: str, rows: int, columns: int, *linears: Linear) -> Value:
        count = sum(id(linear.weight) in self._ids for linear in linears)
        if not count:
            return super().given(name, rows, columns, *linears)
        return self.value(name, rows, columns, forms=(Form.STORED,), room=self.rank * count)

    def together(self, name: str, *parts: np.ndarray) -> View:
        own = [part for part in parts if id(part) in self._ids]
        if not own:
            return super().together(name, *parts)
        ranks, inputs, outputs = self.rank * len(own), parts[0].shape[1], sum(map(len, parts))

        def make() -> np.ndarray:
            found = np.zeros((outputs + ranks, inputs + ranks), np.float32)
            found[:outputs, :inputs] = np.concatenate(parts)
            return found

        key = id(parts[0]) if len(parts) == 1 else tuple(map(id, parts))
        value = self.shared(key, name, (outputs + ranks, inputs + ranks), Form.STORED, make, parts)
        joined, row, rows = value.whole.block(0, 0, outputs, inputs), 0, {}
        for part in parts:
            self._parts[id(part)] = joined.row_block(row, len(part))
            if id(part) in self._ids:
                rows[id(part)] = row, len(part)
            row += len(part)
        self._matrices[value] = Extended(value, inputs, self.rank, rows)
        return joined

    def matrix(self, name: str, values: np.ndarray) -> View:
        if id(values) in self._ids and id(values) not in self._parts:
            return self.together(name, values)
        return super().matrix(name, values)

    def product(self, x: View, weight: Value | View, bias: Value | None, out: Value | View,
                name: str, of: Sequence[Linear] = ()) -> None:
        value = weight if isinstance(weight, Value) else weight.value
        own = self._matrices.get(value)
        if own is None:
            super().product(x, weight, bias, out, name, of)
            return
        part = weight if isinstance(weight, View) else own.back.row_block(0, own.outputs)
        super().product(self._with_inner(x.value, own, name).widened, own.widened(part), bias, out,
                        name, of)

    def _with_inner(self, x: Value, own: Extended, name: str) -> Value:
        """``x`` with T beside it; a copy of x that has no room for it."""
        if x in self._given:
            return self._given[x]
        given = x
        if not x.room:
            given = self.value(f"{name} given", *x.shape, forms=(Form.STORED,), room=own.ranks)
            self.vector(x.whole, None, given)
        self._given[x] = given
        self.gemm([Product(given.whole, own.every_a, given.beside)], given.beside,
                  Factor(2.0 ** -INNER_LOG2))
        return given
