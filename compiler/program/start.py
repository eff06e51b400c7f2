"""What runs a program for a host, whichever it is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Ran", "Start"]


@dataclass(frozen=True)
class Ran:
    """What a program did: encoded items that were clipped, and that are no numbers; cycles, and
    bytes of memory that were compared with another run's and are equal, where there are any."""

    saturations: int = 0
    nars: int = 0
    cycles: int = 0
    compared: int = 0

    def __add__(self, other: "Ran") -> "Ran":
        return Ran(self.saturations + other.saturations, self.nars + other.nars,
                   self.cycles + other.cycles, self.compared + other.compared)

    def __sub__(self, other: "Ran") -> "Ran":
        return Ran(self.saturations - other.saturations, self.nars - other.nars,
                   self.cycles - other.cycles, self.compared - other.compared)


Start = Callable[[np.ndarray, int, int], Ran]
"""Runs the program at an address of a memory, of that base, in place."""
