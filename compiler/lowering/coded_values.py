"""Codes and magnitudes that programs of one memory share: those of constants and of states."""

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from compiler.checkpoints.scales import LARGEST
from compiler.lowering.values import Counts, Form, Life, Value
from hdl.spec.formats import BFLOAT16
from sim.model.rounding import round_to

__all__ = ["CodedValues"]

_KEPT = (Life.CONSTANT, Life.STATE)


class CodedValues:
    """What stands for values of a program, the same from one program to the next."""

    def __init__(self) -> None:
        self._wide: dict[Value, Value] = {}
        self._constants: dict[tuple[Value, int, int], tuple[Value, Value]] = {}
        self._states: dict[tuple[Value, int, int], tuple[Value, Value]] = {}
        self._pairs: dict[tuple[Value, Value], Value] = {}
        self._made: dict[tuple[Value, Hashable], Value] = {}
        self._units: dict[int, Value] = {}

    def parameters(self, given: Iterable[Value]) -> Iterator[Value]:
        """What stands for the constants ``given``, of one program as of the next."""
        own = set(given)
        own |= {value for (of, _), value in self._made.items() if of in own}
        yield from own
        yield from (wide for value, wide in self._wide.items() if value in own)
        for (value, _, _), pair in self._constants.items():
            if value in own:
                yield from pair
        yield from (pair for (_, second), pair in self._pairs.items() if second in own)
        yield from self._units.values()

    def unit(self, shift: int) -> Value:
        """One item, 2^-``shift``."""
        if shift not in self._units:
            self._units[shift] = Value(f"2^-{shift}", 1, 1, Life.CONSTANT, (Form.WIDE,),
                                       make=lambda: np.full((1, 1), 2.0 ** -shift))
        return self._units[shift]

    def wide(self, value: Value) -> Value:
        """The value as everything but a product reads it."""
        forms = value.forms
        if forms is None or Form.INDICES in forms or forms == (Form.WIDE,):
            return value
        wide = replace(value, forms=(Form.WIDE,))
        return self._wide.setdefault(value, wide) if value.life in _KEPT else wide

    def constant(self, value: Value, column: int, width: int) -> tuple[Value, Value]:
        """Codes and magnitudes of columns of a constant. 1/127² is part of its magnitudes, so
        that no factor is rounded twice."""
        key = value, column, width
        if key not in self._constants:
            self._constants[key] = _constant(value, slice(column, column + width))
        return self._constants[key]

    def pair(self, name: str, first: Value, second: Value) -> Value:
        """Two constants of one row, or columns that count as one, as rows of a third in BF16."""
        key = first, second
        if key not in self._pairs:
            makes = first.make, second.make

            def both() -> np.ndarray:
                return np.stack([np.float64(make()).ravel() for make in makes if make is not None])

            self._pairs[key] = Value(name, 2, second.columns, Life.CONSTANT, (Form.WIDE,),
                                     make=both, holds=(first, second))
        return self._pairs[key]

    def made(self, of: Value, key: Hashable, make: Callable[[], Value]) -> Value:
        """What ``make`` gives for ``key``, something else that stands for ``of``."""
        if (of, key) not in self._made:
            self._made[of, key] = make()
        return self._made[of, key]

    def rows(self, value: Value, rows: range) -> Value:
        """Those of a constant as one of its own."""
        part, make = slice(rows.start, rows.stop), value.make
        assert make is not None, "constants have contents"
        return self.made(value, ("rows", rows), lambda: Value(
            f"{value.name} from row {rows.start}", len(rows), value.columns, Life.CONSTANT,
            value.forms, make=lambda: make()[part]))

    def columns(self, value: Value, columns: range) -> Value:
        """Those of a constant as one of its own."""
        part, make = slice(columns.start, columns.stop), value.make
        assert make is not None, "constants have contents"
        return self.made(value, ("columns", columns), lambda: Value(
            f"{value.name} from column {columns.start}", value.rows, len(columns), Life.CONSTANT,
            value.forms, make=lambda: np.atleast_2d(make())[:, part]))

    def state(self, value: Value, column: int, width: int) -> tuple[Value, Value]:
        """Where codes and magnitudes of columns of a state are kept."""
        key = value, column, width
        if key not in self._states:
            name = f"{value.name} from column {column}"
            top = Value(f"{name} magnitudes", value.rows, 1, Life.KEPT, (Form.WIDE,))
            self._states[key] = Value(f"{name} codes", value.rows, width, Life.KEPT,
                                      (Form.STORED,), counts=Counts(1 / LARGEST, top)), top
        return self._states[key]


def _constant(value: Value, columns: slice) -> tuple[Value, Value]:
    make = value.make
    assert make is not None, "constants have contents"
    known: list[np.ndarray] = []

    def factors() -> np.ndarray:
        if not known:
            tops = np.abs(np.float64(make()[:, columns])).max(axis=1, keepdims=True)
            known.append(round_to(BFLOAT16, tops / LARGEST ** 2))
        return known[0]

    def codes() -> np.ndarray:
        scale = LARGEST * factors()
        return np.float64(make()[:, columns]) / np.where(scale > 0, scale, 1.0)

    width = columns.stop - columns.start
    top = Value(f"{value.name} magnitudes", value.rows, 1, Life.CONSTANT, (Form.WIDE,),
                make=factors)
    return Value(f"{value.name} codes", value.rows, width, Life.CONSTANT, (Form.STORED,),
                 make=codes, counts=Counts(LARGEST, top)), top
