"""Codes and magnitudes of rows of values, found once for all that reads them."""

from dataclasses import dataclass, replace

from compiler.checkpoints.scales import LARGEST
from compiler.lowering import lists
from compiler.lowering.coded_list import CodedList
from compiler.lowering.coded_values import CodedValues
from compiler.lowering.lane_ops import Factor, Listed, MultiplyRows
from compiler.lowering.ops import Gemm, OpList, Output, Vector
from compiler.lowering.values import Counts, Form, Life, Read, Use, Value, View

__all__ = ["Coded", "RowCodes"]


@dataclass(frozen=True)
class Coded:
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


class RowCodes(CodedList):
    """A new list in the making, and what of its values has codes so far."""

    def __init__(self, listed: OpList, shared: CodedValues) -> None:
        super().__init__(listed, shared)
        # Of each value the codes and magnitudes of what is read of it: of columns of all rows, or
        # of rows that are parts of one.
        self._found: dict[Value, dict[tuple[int, ...], tuple[Value, Value]]] = {}
        # Of parts of values, by offset, rows and columns, the magnitudes of their rows.
        self._tops: dict[tuple[Value, int, int, int], Value] = {}
        # Of columns of a state the rows that are written and have no codes yet: the first, how
        # many, how far apart.
        self._uncoded: dict[tuple[Value, int, int], dict[tuple[int, int, int], None]] = {
            key: {} for key in _read_states(listed)}

    def _tensor(self, part: View) -> tuple[Value, Value]:
        """Codes of ``part`` by its largest magnitude, and that."""
        x, name = self._view(part), part.value.name
        top, inverse = (self._declare(Value(f"{name} {what}", 1, 1, forms=(Form.WIDE,)))
                        for what in ("magnitude", "inverse"))
        rows = self._tops.get((part.value, part.offset, *part.shape))
        if rows is None:
            rows = self._declare(Value(f"{name} magnitudes", part.rows, 1, forms=(Form.WIDE,)))
            self._ops.append(Vector(rows.whole, x, then=(Listed(
                "largest magnitudes", lambda _: lists.largest_magnitudes()),)))
        codes = self._declare(Value(f"{name} codes", *part.shape, forms=(Form.STORED,),
                                    counts=Counts(1 / LARGEST, top)))
        self._ops += [
            Vector(top.whole, rows.whole.joined(rows.rows), then=(Listed(
                "largest magnitude", lambda tensors: lists.largest_magnitudes(*tensors),
                ((Read(inverse.whole, Use.LANES),),)),)),
            Vector(codes.whole, x, then=(MultiplyRows((inverse.whole,)), Factor(LARGEST)))]
        return codes, top

    def _written(self, out: View) -> None:
        self._found.pop(out.value, None)  # what is written has other codes
        for (value, _, _), rows in self._uncoded.items():
            if value is out.value:
                rows.setdefault(_rows_of(out))

    def _coded(self, view: View, constant: bool = False) -> Coded:
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
        whole = View(codes, first * codes.columns, view.rows, codes.columns, step * codes.columns)
        return Coded(whole, View(top, first, view.rows, 1, step), constant)

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
        codes = self._declare(Value(f"{name} codes", *part.shape, forms=(Form.STORED,),
                                    counts=Counts(1 / LARGEST, top)))
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
