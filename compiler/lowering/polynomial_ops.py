"""Lane ops of polynomial attention."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

from compiler.lowering.lane_ops import Change, Elementwise
from compiler.lowering.values import Read, Use, View

__all__ = ["DeferredPolynomial", "Polynomial"]


@dataclass(frozen=True)
class Polynomial(Elementwise):
    """([ReLU(x + ``bias``)] ^ ``degree`` + ``delta``) × y over each row's sum: y is 1, and 0 where
    a position is hidden; ``None``: none is. ``bias``, ``delta``: of each block."""

    use: ClassVar[Use] = Use.ACTIVATION
    ends: ClassVar[bool] = True
    degree: int
    bias: tuple[float, ...]
    delta: tuple[float, ...]

    def of_block(self, index: int) -> Self:
        if len(self.y) == 1:
            return self
        return replace(self, y=(self.y[index],), bias=(self.bias[index],),
                       delta=(self.delta[index],))

    def __str__(self) -> str:
        return f"polynomial of degree {self.degree}"


@dataclass(frozen=True)
class DeferredPolynomial(Polynomial):
    """The same before it is divided: each row × 127 over its largest; 1 over the sum of that goes
    to ``divisors``, an item for each row. ``unit``: on lanes of integers, one item that scores are
    multiplied by first; what ``divisors`` get is then 127 times as much."""

    divisors: tuple[View, ...]
    unit: View | None = None

    @property
    def reads(self) -> tuple[Read, ...]:
        more = self.divisors if self.unit is None else (self.unit, *self.divisors)
        return (*super().reads, *(Read(view, Use.LANES) for view in more))

    def of_block(self, index: int) -> Self:
        if len(self.y) == 1:
            return self
        return replace(super().of_block(index), divisors=(self.divisors[index],))

    def with_views(self, change: Change) -> Self:
        return replace(super().with_views(change), divisors=tuple(
            change(view, Use.LANES) for view in self.divisors),
            unit=self.unit and change(self.unit, Use.LANES))
