"""Factors that change from step to step: products of a constant with scales of gradient tensors.

A gradient tensor, a *site*, is stored times a power of two. What a command multiplies by to bring
one site's scale to that of another is one word of a table in memory, computed on chip after each
update.
"""

from dataclasses import dataclass, field

__all__ = ["Factor", "Factors", "Share"]


class Factor(float):
    """``constant`` times the scale of site ``up``, over that of site ``down``; empty: 1.

    As a number it is the constant, so that lists of instructions take it where they take a number.
    """

    up: str
    down: str

    def __new__(cls, constant: float, up: str = "", down: str = "") -> "Factor":
        self = super().__new__(cls, constant)
        self.up, self.down = up, down
        return self

    def __neg__(self) -> "Factor":
        return Factor(-float(self), self.up, self.down)

    def __repr__(self) -> str:
        return f"Factor({float(self)}, {self.up!r}, {self.down!r})"

    def at(self, scales: dict[str, float]) -> float:
        """The number that it is where sites have these ``scales``."""
        return float(self) * scales.get(self.up, 1.0) / scales.get(self.down, 1.0)


class Share(float):
    """What a position gets of the gradient of its sequence's mean: 1 over the number of positions,
    and what brings the pooled gradient to its scale; of each sequence a word that a pass computes
    when it starts."""

    sequence: int

    def __new__(cls, value: float, sequence: int) -> "Share":
        self = super().__new__(cls, value)
        self.sequence = sequence
        return self


@dataclass
class Factors:
    """Sites and factors in the order in which they are first named; the places of both in their
    tables. ``scaled``: False in formats whose gradients need no scale, where a factor is its
    constant."""

    scaled: bool = True
    sites: dict[str, int] = field(default_factory=dict)
    numbers: dict[tuple[float, str, str], int] = field(default_factory=dict)

    def site(self, name: str) -> int:
        return self.sites.setdefault(name, len(self.sites))

    def factor(self, constant: float, up: str = "", down: str = "") -> float:
        """What stands in an epilogue; each different one has a place in the table."""
        if not self.scaled or up == down:
            return constant
        for name in filter(None, (up, down)):
            self.site(name)
        return Factor(constant, up, down)

    def number(self, factor: Factor) -> int:
        """The place of ``factor`` in the table."""
        key = float(factor), factor.up, factor.down
        return self.numbers.setdefault(key, len(self.numbers))
