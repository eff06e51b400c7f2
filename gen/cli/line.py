"""How far long work is: one line on standard error, once it takes more than two seconds.

    with Line("examples") as line:
        for index in range(count):
            ...
            line.tell((index + 1) / count, f"{index + 1} of {count}")

    for result in counted("cells", results, len(work), quiet=options.quiet):
        print(result)

tqdm draws it and estimates what is left; it is imported when there is something to draw.
"""

import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Self, TextIO, TypeVar

__all__ = ["Line", "counted"]

T = TypeVar("T")
_AFTER = 2.0  # seconds before anything is shown
_EVERY = 0.2  # seconds between two states of the line
_LINES_EVERY = 10.0  # where lines follow each other, in a file say
_TEXT = "{desc} {percentage:5.1f}%{postfix}, {remaining} left"
_BAR = "{desc} {percentage:5.1f}% |{bar}|{postfix}, {remaining} left"


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
        self.hide()

    def hide(self) -> None:
        """Take the line from the terminal: something else is to be printed there."""
        if self._drawn and self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def restart(self) -> None:
        """Estimate what is left by what is done from now on."""
        self._started = time.monotonic()

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
        text = _drawn(self._label, share, self.spent, where, self._terminal)
        self._stream.write(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")
        self._stream.flush()


def _drawn(label: str, share: float, spent: float, where: str, bar: bool) -> str:
    """With a ``bar`` as wide as the terminal, or without one."""
    from tqdm import tqdm

    if not bar:
        return tqdm.format_meter(share, 1, spent, prefix=label, postfix=where, bar_format=_TEXT)
    columns = shutil.get_terminal_size().columns - 1
    return tqdm.format_meter(share, 1, spent, ncols=columns, prefix=label, postfix=where,
                             bar_format=_BAR)


def counted(label: str, items: Iterable[T], total: int, *, quiet: bool = False) -> Iterator[T]:
    """``items``, of which there are ``total``; how many are done is told between them."""
    with Line(label, quiet=quiet) as line:
        for done, item in enumerate(items, 1):
            line.hide()
            yield item
            line.tell(done / max(total, 1), f"{done} of {total}")
