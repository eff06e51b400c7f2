"""How far long work is: one line on standard error, once it takes more than two seconds.

    with Progress("machine", config, memory, address, base) as progress:
        Machine(config).run(memory, address, base, progress=progress.after)

    with Progress("RTL", config, memory, address, base) as progress:
        accelerator.run(memory, address, base, progress=progress.at_cycle)

    with Line("examples") as line:
        for index in range(count):
            ...
            line.tell((index + 1) / count, f"{index + 1} of {count}")
"""

import sys
import time
from collections import Counter
from typing import Self, TextIO

import numpy as np

from compiler.program.records import commands
from hdl.spec.commands import COMPUTING, Destination, Opcode
from hdl.spec.config import AcceleratorConfig
from sim.model.command import Command

__all__ = ["Line", "Progress", "milestones"]

_AFTER = 2.0  # seconds before anything is shown
_EVERY = 0.2  # seconds between two states of the line
_LINES_EVERY = 10.0  # where lines follow each other, in a file say
_PASS = 16  # a vector pass over an element takes as long as so many multiply-accumulates
_MOST = 255  # writes of a byte that the harness counts


def _work(command: Command) -> int:
    fields = command.fields
    elements = fields["m"] * fields["n"]
    products = fields["k"] * elements if command.opcode == Opcode.GEMM else 0
    return products + _PASS * elements * len(command.instructions)


def milestones(config: AcceleratorConfig, memory: np.ndarray, address: int, base: int = 0
               ) -> list[tuple[int, int | None, int]]:
    """For each command: the work of all up to it, the place in ``memory`` of the last byte that it
    writes (``None``: it writes nothing there), how often that byte has been written by then."""
    writes: Counter = Counter()
    done, found = 0, []
    for _, fields in commands(memory, address, base):
        command, last = Command(config, fields), None
        if command.opcode in COMPUTING:
            done += _work(command)
            stores = sum(i["destination"] == Destination.MEMORY for i in command.instructions)
            tensor = command.tensor("c")
            size = (tensor.rows - 1) * tensor.stride + tensor.columns * tensor.element_bytes
            place = tensor.address - base + size - 1
            if stores and 0 <= place < len(memory):
                last = place
                writes[last] += stores
        found.append((done, last, writes[last]))
    return found


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


class Progress(Line):
    """Share done, speed and time left of one run of a program. A short one costs nothing."""

    def __init__(self, label: str, config: AcceleratorConfig, memory: np.ndarray, address: int,
                 base: int = 0, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        super().__init__(label, quiet=quiet, stream=stream)
        self._program = config, memory, address, base
        self._found: list[tuple[int, int | None, int]] | None = None
        self._passed = 0

    @property
    def _milestones(self) -> list[tuple[int, int | None, int]]:
        if self._found is None:
            self._found = milestones(*self._program)
        return self._found

    def after(self, count: int) -> None:
        """``count`` commands have ended."""
        if self.due:
            self._passed = count
            self.tell(self._share(), f"command {count} of {len(self._milestones)}")

    def at_cycle(self, cycle: int, written: np.ndarray) -> None:
        """The accelerator is at ``cycle``; ``written`` as in ``sim.harness.accelerator.Result``."""
        if not self.due:
            return
        while self._passed < len(self._milestones):
            _, last, writes = self._milestones[self._passed]
            if last is not None and written[last] < min(writes, _MOST):
                break
            self._passed += 1
        self.tell(self._share(), f"cycle {cycle:,}, {cycle / self.spent / 1000:.0f} k cycles/s")

    def _share(self) -> float:
        """Of the program's work."""
        works = [work for work, _, _ in self._milestones]
        done = works[min(self._passed, len(works)) - 1] if self._passed and works else 0
        return done / works[-1] if works and works[-1] else 0.0
