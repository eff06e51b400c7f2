"""How far long work is: one line on standard error, once it takes more than two seconds.

    with Line("examples") as line:
        for index in range(count):
            ...
            line.tell((index + 1) / count, f"{index + 1} of {count}")
"""

import sys
import time
from typing import Self, TextIO

__all__ = ["Line"]

_AFTER = 2.0  # seconds before anything is shown
_EVERY = 0.2  # seconds between two states of the line
_LINES_EVERY = 10.0  # where lines follow each other, in a file say


class Line:
    """Share done and time left, within a ``with``: of a terminal one line that is written anew,
    elsewhere a line every few seconds. ``quiet``: nothing. ``stream``: standard error."""

    def __init__(self, label: str, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._label, self._quiet = label, quiet
        self._started = time.monotonic()
        self._next = self._started + _AFTER
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._drawn and self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    @property
    def due(self) -> bool:
        """Whether ``tell`` would show anything now."""
        return not self._quiet and time.monotonic() >= self._next

    @property
    def spent(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    def tell(self, share: float, where: str) -> None:
        """``share`` of 1 is done."""
        if not self.due:
            return
        self._next = time.monotonic() + (_EVERY if self._terminal else _LINES_EVERY)
        self._drawn = True
        text = f"{self._label} {share:6.1%}, {where}"
        if share:
            text += f", {self.spent * (1 / share - 1):.0f} s left"
        self._stream.write(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")
        self._stream.flush()
