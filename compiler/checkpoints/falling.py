"""Scores that fall with distance (ALiBi), by biases that no tensor holds: ``FallingParts``."""

import numpy as np

from compiler.checkpoints.checkpoint import Take
from compiler.checkpoints.description import PositionBias
from compiler.checkpoints.parts import Parts

__all__ = ["LONGEST", "FallingParts"]

# Scores of any distance could be told: this is as far as a table of them goes.
LONGEST = 2048


def _slopes(heads: int) -> np.ndarray:
    """Powers of two for the most heads that are a power of two; others stand halfway."""
    most = 1 << (heads.bit_length() - 1)
    own = 2.0 ** (-8.0 / most * np.arange(1, most + 1))
    between = 2.0 ** (-4.0 / most * np.arange(1, 2 * (heads - most), 2))
    return np.concatenate([own, between])


class FallingParts(Parts):
    """A bias that no tensor holds."""

    def position_bias(self, take: Take) -> PositionBias | None:
        if self._bias is None:
            distance = np.arange(-LONGEST, LONGEST + 1)
            own = _slopes(self.plan.heads)[:, None] * distance
            self._bias = PositionBias(own.astype(np.float32))
        return self._bias
