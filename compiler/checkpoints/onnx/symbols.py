"""In what order the items of a traced value lie.

A ``Symbol`` is an expression with its axes. An axis is a tuple of ``Atom``: b sequences, s
positions, k positions of keys, f features, which a reshape splits into f.0, the heads, and f.1, the
items of each. Atoms of size 1 are left out, so that axes tell what is multiplied with what, in
whatever order a graph has it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.checkpoints.onnx.expressions import Code, Coded, Expression

__all__ = ["Atom", "Axes", "Probe", "Symbol", "atoms", "bare", "regrouped"]


@dataclass(frozen=True)
class Atom:
    """``size`` places of a ``kind``."""

    kind: str
    size: int


Axes = tuple[tuple[Atom, ...], ...]


def atoms(*given: tuple[str, int]) -> tuple[Atom, ...]:
    return tuple(Atom(kind, size) for kind, size in given if size != 1)


@dataclass(frozen=True, eq=False)
class Symbol:
    """``seen``: the same with other axes; ``of``: another with the same."""

    expression: Expression
    axes: Axes

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(math.prod(atom.size for atom in axis) for axis in self.axes)

    def seen(self, axes: Axes) -> "Symbol":
        return Symbol(self.expression, axes)

    def of(self, expression: Expression) -> "Symbol":
        return Symbol(expression, self.axes)

    @property
    def features(self) -> int | None:
        """How many there are, where they are the last axis."""
        last = self.axes[-1] if self.axes else ()
        return last[0].size if len(last) == 1 and last[0].kind == "f" else None


@dataclass(frozen=True, eq=False)
class Probe:
    """A function of ``base`` that no rule knows, by what it makes of a sample."""

    base: Symbol
    value: np.ndarray
    label: str


def bare(symbol: Symbol) -> tuple[Symbol, Code | None]:
    """Without the detour over 8 bits, and the first one's code."""
    expression, code = symbol.expression, None
    while isinstance(expression, Coded):
        code = code or expression.code
        expression = expression.x
    return symbol.of(expression), code


def regrouped(axes: Axes, shape: Sequence[int]) -> Axes:
    """The axes of what is reshaped to ``shape``; ``ValueError`` where an atom would be torn."""
    left = [atom for axis in axes for atom in axis]
    if math.prod(shape) != math.prod(atom.size for atom in left):
        raise ValueError(f"{tuple(shape)} must have as many items as before")
    found = []
    for size in shape:
        own: list[Atom] = []
        missing = int(size)
        while missing > 1:
            if not left:
                raise ValueError(f"{tuple(shape)} must have as many items as before")
            atom = left.pop(0)
            if missing % atom.size == 0:
                own.append(atom)
                missing //= atom.size
            elif atom.size % missing == 0:
                own.append(Atom(f"{atom.kind}.0", missing))
                left.insert(0, Atom(f"{atom.kind}.1", atom.size // missing))
                missing = 1
            else:
                raise ValueError(f"{tuple(shape)} must not cut {atom.size} items unevenly")
        found.append(_joined(own))
    return tuple(found)


def _joined(given: list[Atom]) -> tuple[Atom, ...]:
    """With the two parts of a whole as that whole."""
    found: list[Atom] = []
    for atom in given:
        if found and atom.kind.endswith(".1") and found[-1].kind == f"{atom.kind[:-2]}.0":
            found[-1] = Atom(atom.kind[:-2], found[-1].size * atom.size)
        else:
            found.append(atom)
    return tuple(found)
