"""What perplexity follows from."""

from collections.abc import Callable

import numpy as np

__all__ = ["Run", "foretold"]

Array = np.ndarray
Run = Callable[[Array, bool], Array]
"""Logits of a batch of ids; whether of every position."""


def foretold(run: Run, ids: Array) -> Array:
    """Of a text the loss of each token but the first, then the likeliest ones."""
    logits = run(ids[None], True).reshape(len(ids), -1)[:-1]
    top = logits.max(axis=1, keepdims=True)
    likely = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    own = logits[np.arange(len(logits)), ids[1:]]
    return np.concatenate([likely - own, logits.argmax(axis=1)])
