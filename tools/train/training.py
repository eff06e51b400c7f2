"""What the training scripts share: heads apart and together, Adam."""

from collections.abc import Mapping

import numpy as np

__all__ = ["Adam", "join", "split"]


def split(x: np.ndarray, heads: int) -> np.ndarray:
    """batch × T × width to batch × heads × T × d."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def join(x: np.ndarray) -> np.ndarray:
    """The inverse of ``split``."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


class Adam:
    """Moves ``weights`` in place against their gradients (Kingma and Ba, 2015).

    Weights named in ``decay`` shrink by that share of the rate per step, apart from the gradient
    (Loshchilov and Hutter, 2019).
    """

    def __init__(self, weights: dict[str, np.ndarray], decay: Mapping[str, float] | None = None,
                 second_rate: float = 0.01) -> None:
        self.weights = weights
        self.decay = decay or {}
        self.count = 0
        self.second_rate = second_rate
        self.first = {name: np.zeros_like(w) for name, w in weights.items()}
        self.second = {name: np.zeros_like(w) for name, w in weights.items()}

    def step(self, gradients: dict[str, np.ndarray], rate: float) -> None:
        """One step of length about ``rate`` for each weight that has a gradient."""
        self.count += 1
        first_whole = 1 - 0.9 ** self.count
        second_whole = 1 - (1 - self.second_rate) ** self.count
        for name, gradient in gradients.items():
            self.first[name] += 0.1 * (gradient - self.first[name])
            self.second[name] += self.second_rate * (gradient ** 2 - self.second[name])
            move = self.first[name] / first_whole
            move /= np.sqrt(self.second[name] / second_whole) + 1e-8
            self.weights[name] -= rate * (move + self.decay.get(name, 0.0) * self.weights[name])
