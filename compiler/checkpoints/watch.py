"""What products of the fp32 reference read, for whoever asks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

from compiler.checkpoints.description import Attention, Linear

__all__ = ["Watcher", "seen", "watching"]

Watcher = Callable[[Linear | Attention, str, np.ndarray], None]
_WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """While this lasts ``watcher`` hears what products of this thread read: of a linear layer its
    ``input``, of an attention its ``queries``, ``keys`` and ``values``."""
    token = _WATCHER.set(watcher)
    try:
        yield
    finally:
        _WATCHER.reset(token)


def seen(part: Linear | Attention, what: str, values: np.ndarray) -> None:
    """Tell whoever watches."""
    watcher = _WATCHER.get()
    if watcher is not None:
        watcher(part, what, values)
