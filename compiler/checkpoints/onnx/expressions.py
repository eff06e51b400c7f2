"""What a traced graph computes, whatever reshapes and transposes stand between."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from compiler.checkpoints.description import Pooling

__all__ = ["Centred", "Code", "Coded", "Codes", "Dense", "Elementwise", "Expression", "Function",
           "Lookup", "Masked", "Mean", "MeanSquare", "Mixed", "Normed", "NotNumbers", "Part",
           "Pooled", "Probabilities", "Row", "Scores", "Sum", "Weight", "function_of", "multiple",
           "same_function"]

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Code:
    """How a value is stored in 8 bits: it is scale · (code − zero). ``scale`` ``None``: as the
    value itself says when it is there. ``label``: of the node that says it."""

    scale: np.ndarray | None
    zero: np.ndarray  # of codes with a sign
    label: str
    codes: Callable[[], np.ndarray] | None = None

    def turned(self, change: Function) -> "Code":
        """Of weights that are changed in shape alone, like their scales."""
        codes = self.codes
        return replace(self, scale=None if self.scale is None else change(self.scale),
                       zero=change(self.zero),
                       codes=None if codes is None else lambda: change(codes()))


@dataclass(frozen=True, eq=False)
class Weight:
    """A matrix that the file holds, read when it is asked for. ``kind``: of its items as numpy has
    it."""

    shape: tuple[int, ...]
    make: Callable[[], np.ndarray]
    kind: str = "f"
    code: Code | None = None

    def changed(self, change: Function, shape: tuple[int, ...]) -> "Weight":
        make = self.make
        return replace(self, shape=shape, make=lambda: change(make()),
                       code=None if self.code is None else self.code.turned(change))

    @property
    def turned(self) -> "Weight":
        return self.changed(np.transpose, self.shape[::-1])


@dataclass(frozen=True, eq=False)
class Expression:
    """``label``: of the node that made it."""

    label: str


@dataclass(frozen=True, eq=False)
class Lookup(Expression):
    """Rows of a table: ``what`` words, segments or positions, from row ``first`` on, or one row."""

    table: Weight
    what: str
    first: int = 0


@dataclass(frozen=True, eq=False)
class Row(Expression):
    """Values that are the same everywhere, or, S × d, for each position."""

    values: np.ndarray


@dataclass(frozen=True, eq=False)
class Sum(Expression):
    """Of two values of each feature of each position."""

    left: Expression
    right: Expression


@dataclass(frozen=True, eq=False)
class Dense(Expression):
    """x Wᵀ + b. ``weight``: outputs × inputs. ``code``: that x has."""

    x: Expression
    weight: Weight
    bias: np.ndarray | None = None
    code: Code | None = None


@dataclass(frozen=True, eq=False)
class Elementwise(Expression):
    """``function`` of each item of ``x``, in float64."""

    x: Expression
    function: Function


@dataclass(frozen=True, eq=False)
class Mean(Expression):
    """Over features."""

    x: Expression


@dataclass(frozen=True, eq=False)
class Centred(Expression):
    """x − its mean over features."""

    x: Expression


@dataclass(frozen=True, eq=False)
class MeanSquare(Expression):
    """Over features."""

    x: Expression


@dataclass(frozen=True, eq=False)
class Normed(Expression):
    """(x − mean) / √(variance + eps), x / √(mean square + eps) where it is not ``centred``;
    times a gain, plus a shift."""

    x: Expression
    eps: float
    centred: bool = True
    gain: np.ndarray | None = None
    shift: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Scores(Expression):
    """``factor`` · Q Kᵀ of each head."""

    query: Expression
    key: Expression
    factor: float
    heads: int
    codes: tuple[Code | None, Code | None]


@dataclass(frozen=True, eq=False)
class Masked(Expression):
    """Scores with what hides keys added. ``causal``: a query sees no key after it."""

    x: Expression
    causal: bool


@dataclass(frozen=True, eq=False)
class Probabilities(Expression):
    """Softmax over keys."""

    scores: Expression


@dataclass(frozen=True, eq=False)
class NotNumbers(Expression):
    """Whether items of x are NaN."""

    x: Expression


@dataclass(frozen=True, eq=False)
class Mixed(Expression):
    """P V."""

    probabilities: Expression
    value: Expression
    codes: tuple[Code | None, Code | None]


@dataclass(frozen=True, eq=False)
class Codes(Expression):
    """What QuantizeLinear gives."""

    x: Expression
    code: Code


@dataclass(frozen=True, eq=False)
class Coded(Expression):
    """x as it is after it was stored in 8 bits."""

    x: Expression
    code: Code


@dataclass(frozen=True, eq=False)
class Part(Expression):
    """Features ``start`` to ``stop`` of x."""

    x: Expression
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Pooled(Expression):
    """A row of all positions; ``pooling`` as in ``description``."""

    x: Expression
    pooling: Pooling


def function_of(expression: Expression) -> tuple[Expression, Function]:
    """``expression`` as a function of each item of another."""
    if isinstance(expression, Elementwise):
        return expression.x, expression.function
    return expression, lambda x: x


_GRID = np.concatenate([np.linspace(-9, 9, 145), [-60.0, -1e-3, 1e-3, 60.0]])


def same_function(one: Function, other: Function, grid: np.ndarray = _GRID, near: float = 1e-6
                  ) -> bool:
    """Whether two functions agree, in float64."""
    with np.errstate(all="ignore"):
        found, wanted = (np.asarray(of(grid), np.float64) for of in (one, other))
    return found.shape == wanted.shape and bool(
        np.all(abs(found - wanted) <= near * (abs(wanted) + 1)))


def multiple(function: Function) -> float | None:
    """By what ``function`` multiplies, if it does no more."""
    step = float(function(np.ones(1))[0])
    return step if same_function(function, lambda x: step * x) else None
