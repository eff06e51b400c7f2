"""Scales by row: operands of products as codes beside the largest magnitude of each row.

A format without an exponent, ``int8``, holds a tensor as integers of which the largest of a row is
±127, and that row's largest magnitude, a BF16 word. ``by_row`` rewrites an op list so that every
operand of a GEMM is stored that way and everything else in BF16:

- Of an activation magnitudes and codes are found at run time, once for all that reads them; a head
  of queries, keys or values has its own.
- Of weights they are constants: a row of weights is an output channel.
- A · Bᵀ leaves the array as integers; × the magnitudes of A's rows, an item for each row of the
  result, × those of B's rows, one for each column, × 1/127² makes numbers of them.
- A · B sums over B's rows: their magnitudes are multiplied into A before A has codes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from compiler.lowering import lists
from compiler.lowering.coded_values import LARGEST, CodedValues
from compiler.lowering.lane_ops import (
    Add,
    AddResidual,
    Factor,
    LaneOp,
    Listed,
    Multiply,
    MultiplyAdd,
    MultiplyRows,
    Normalise,
)
from compiler.lowering.ops import Gemm, Op, OpList, Output, Product, Vector
from compiler.lowering.values import Form, Life, Read, Use, Value, View
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import row_fits

__all__ = ["by_row"]


def by_row(listed: OpList, shared: CodedValues, config: AcceleratorConfig) -> OpList:
    """``listed`` with every operand of a product as codes and magnitudes of its rows."""
    return _Rows(listed, shared, config).done()


@dataclass(frozen=True)
class _Coded:
    """An operand of a product: its ``codes``, and the magnitudes of its rows, rows × 1, which are
    127² times too small where they are ``folded``."""

    codes: View
    top: View
    folded: bool

    @property
    def row(self) -> View:
        """The magnitudes side by side."""
        if self.top.stride != 1:
            raise ValueError(f"{self.codes.value.name} must be read by rows that follow one "
                             "another with scales by row")
        return replace(self.top, rows=1, columns=self.top.rows, stride=self.top.rows)


class _Rows:
    """The new list in the making."""

    def __init__(self, listed: OpList, shared: CodedValues, config: AcceleratorConfig) -> None:
        self._given, self._shared, self._config = listed, shared, config
        self._readings = Counter(read.view.value for op in listed.ops for read in op.reads)
        # Of each value the codes and magnitudes of what is read of it: of columns of all rows, or
        # of rows that are parts of one.
        self._found: dict[Value, dict[tuple[int, ...], tuple[Value, Value]]] = {}
        self._values: dict[Value, None] = {}
        self._wide: dict[Value, Value] = {}
        self._ops: list[Op] = []
        # Of columns of a state the rows that are written and have no codes yet: the first, how
        # many, how far apart.
        self._uncoded: dict[tuple[Value, int, int], dict[tuple[int, int, int], None]] = {
            key: {} for key in _read_states(listed)}

    def done(self) -> OpList:
        ops = list(self._given.ops)
        while ops:
            taken = self._together(ops)
            if not taken:
                self._take(ops[0])
            del ops[:taken or 1]
        return OpList(tuple(self._values), tuple(self._ops))

    def _together(self, ops: Sequence[Op]) -> int:
        """How many of the first of ``ops`` one op takes the place of; 0 where none does."""
        first, second = [*ops[:2], None][:2]
        if not isinstance(second, Vector) or second.transposed or len(second.then) != 1 or (
                second.x != first.out or self._readings[first.out.value] != 1
                or first.out.value.life != Life.TEMPORARY or not first.out.is_whole
                or not row_fits(self._config, second.out.columns)):
            return 0
        lane_op = second.then[0]
        if (isinstance(first, Gemm) and not first.then and len(first.products) == 1
                and first.b_transposed and first.products[0].b.value.life == Life.CONSTANT
                and type(lane_op) is Add and len(lane_op.y) == 1):
            bias = lane_op.y[0]
            if bias is None or not bias.is_whole or bias.value.life != Life.CONSTANT or (
                    bias.rows != 1):
                return 0
            self._gemm(replace(first, out=second.out, products=(
                replace(first.products[0], out=second.out),)), bias.value)
        elif (isinstance(first, Vector) and not first.transposed and len(first.then) == 1
                and isinstance(first.then[0], AddResidual) and len(first.then[0].y) == 1
                and isinstance(lane_op, Normalise) and lane_op.shift is not None
                and not lane_op.affine):
            self._sum_norm(first, second, lane_op)
        else:
            return 0
        self._written(second.out)
        return 2

    def _sum_norm(self, first: Vector, second: Vector, norm: Normalise) -> None:
        """LayerNorm of a sum, which stays on chip."""
        (y,), = (lane_op.y for lane_op in first.then if isinstance(lane_op, AddResidual))
        assert y is not None and norm.shift is not None, "as was asked for"
        pair = self._declare(self._shared.pair(f"{norm.gain.value.name} and shift",
                                               norm.gain.value, norm.shift.value))
        eps = norm.eps
        self._ops.append(Vector(self._view(second.out), self._view(first.x), then=(Listed(
            "LayerNorm of the sum", lambda tensors: lists.sum_norm(tensors[0], tensors[1], eps),
            ((Read(self._view(y), Use.LANES), Read(pair.whole, Use.LANES)),)),)))

    # Values

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

    # Ops

    def _take(self, op: Op) -> None:
        if isinstance(op, Gemm):
            self._gemm(op)
        elif isinstance(op, Output):
            uses = dict.fromkeys(Use.LANES if use == Use.OPERAND else use for use in op.uses)
            self._ops.append(replace(op.with_views(self._view), uses=tuple(uses)))
        else:
            self._ops.append(op.with_views(self._view))
        if not isinstance(op, Output):
            self._written(op.out)

    def _written(self, out: View) -> None:
        self._found.pop(out.value, None)  # what is written has other codes
        for (value, _, _), rows in self._uncoded.items():
            if value is out.value:
                rows.setdefault(_rows_of(out))

    def _gemm(self, op: Gemm, bias: Value | None = None) -> None:
        """``bias``: of the columns of a single product with a constant."""
        if op.a_transposed:
            raise ValueError(f"{op.out.value.name} must not be of a transposed operand with "
                             "scales by row")
        b = [self._coded(product.b, product.b.value.life == Life.CONSTANT)
             for product in op.products]
        given = [product.a for product in op.products]
        a = [self._coded(view) for view in (given if op.b_transposed else self._weighed(op, b))]
        then: list[LaneOp] = [MultiplyRows(tuple(rows.top for rows in a))]
        if bias is not None:
            pair = self._shared.pair(f"{bias.name} and scales", b[0].top.value, bias)
            then.append(MultiplyAdd((self._declare(pair).whole,)))
        elif op.b_transposed:
            then.append(Multiply(tuple(rows.row for rows in b)))
        folded, = {right.folded for right in b}
        if not folded:
            then.append(Factor(LARGEST ** -2))
        products = tuple(Product(left.codes, right.codes, self._view(product.out))
                         for left, right, product in zip(a, b, op.products, strict=True))
        after = tuple(lane_op.with_views(self._view) for lane_op in op.then)
        self._ops.append(Gemm(self._view(op.out), products, b_transposed=op.b_transposed,
                              then=(*then, *after)))

    def _weighed(self, op: Gemm, b: Sequence[_Coded]) -> list[View]:
        """Views of A whose columns are multiplied by the magnitudes of B's rows."""
        whole, height = op.products[0].a.value, op.products[0].a.rows
        views = [whole.whole.row_block(index * height, height)
                 for index in range(whole.rows // height)]
        if [product.a for product in op.products] != views or any(rows.folded for rows in b):
            raise ValueError(f"{whole.name} must be made of equal blocks of rows with scales by "
                             "row")
        weighed = self._declare(Value(f"{whole.name} weighed", *whole.shape))
        self._ops.append(Vector(weighed.whole, self._view(whole.whole),
                                then=(Multiply(tuple(rows.row for rows in b)),)))
        return [replace(view, value=weighed) for view in views]

    def _coded(self, view: View, constant: bool = False) -> _Coded:
        """``view`` as codes and magnitudes; found here if there are none. ``constant``: they are
        constants too."""
        value, columns = view.value, view.value.columns
        first, column = divmod(view.offset, columns)
        step, rest = divmod(view.stride, columns)
        if view.rows == 1:
            step, rest = 1, 0
        if rest and constant:
            raise ValueError(f"{value.name} must be read by whole rows with scales by row")
        found = self._found.setdefault(value, {})
        if rest:  # parts of one row, or of several: as they are
            key: tuple[int, ...] = view.offset, *view.shape, view.stride
            first, step = 0, 1
            if key not in found:
                found[key] = self._codes(view)
        else:
            key = column, view.columns
            if key not in found:
                found[key] = self._of_columns(value, column, view.columns, constant)
        codes, top = found[key]
        return _Coded(View(codes, first * codes.columns, view.rows, codes.columns,
                           step * codes.columns), View(top, first, view.rows, 1, step), constant)

    def _of_columns(self, value: Value, column: int, width: int, constant: bool
                    ) -> tuple[Value, Value]:
        """Codes and magnitudes of columns of all rows."""
        if constant:
            return self._constant(value, column, width)
        if (value, column, width) in self._uncoded:
            return self._state(value, column, width)
        return self._codes(value.whole.block(0, column, value.rows, width))

    def _constant(self, value: Value, column: int, width: int) -> tuple[Value, Value]:
        codes, top = self._shared.constant(value, column, width)
        return self._declare(codes), self._declare(top)

    def _codes(self, part: View) -> tuple[Value, Value]:
        """Values that take the codes and the magnitudes of ``part`` at run time."""
        name = part.value.name
        top = self._declare(Value(f"{name} magnitudes", part.rows, 1, forms=(Form.WIDE,)))
        codes = self._declare(Value(f"{name} codes", *part.shape, forms=(Form.STORED,)))
        self._code(part, codes.whole, top.whole)
        return codes, top

    def _state(self, value: Value, column: int, width: int) -> tuple[Value, Value]:
        """Those of columns of a state, of all rows: of what was written since, from now on."""
        codes, top = map(self._declare, self._shared.state(value, column, width))
        uncoded = self._uncoded[value, column, width]
        for first, count, step in uncoded:
            self._code(*(View(each, first * each.columns + start, count, size, step * each.columns)
                         for each, start, size in ((value, column, width), (codes, 0, width),
                                                   (top, 0, 1))))
        uncoded.clear()
        return codes, top

    def _code(self, part: View, codes: View, top: View) -> None:
        self._ops.append(Vector(codes, self._view(part), then=(Listed(
            "codes by row", lambda tensors: lists.codes_by_row(LARGEST, *tensors),
            ((Read(top, Use.LANES),),)),)))


def _rows_of(view: View) -> tuple[int, int, int]:
    """The rows of its value that ``view`` has something of: the first, how many, how far apart."""
    columns = view.value.columns
    first, rest = view.offset // columns, view.stride % columns
    if not rest:
        return first, view.rows, view.stride // columns
    end = view.offset + (view.rows - 1) * view.stride + view.columns
    return first, -(-end // columns) - first, 1


def _read_states(listed: OpList) -> list[tuple[Value, int, int]]:
    """Which columns of states that ``listed`` writes its products read: the first, and how
    many."""
    written = {op.out.value for op in listed.ops
               if not isinstance(op, Output) and op.out.value.life == Life.STATE}
    views = [view for op in listed.ops if isinstance(op, Gemm) for product in op.products
             for view in (product.a, product.b) if view.value in written]
    return list(dict.fromkeys((view.value, view.offset % view.value.columns, view.columns)
                              for view in views))
