"""How far a long run of a program is: one line on standard error.

    with Progress("machine", config, memory, address, base) as progress:
        Machine(config).run(memory, address, base, progress=progress.after)

    with Progress("RTL", config, memory, address, base) as progress:
        accelerator.run(memory, address, base, progress=progress.at_cycle)
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

__all__ = ["Progress", "milestones"]

_EVERY = 0.2  # seconds between two states of the line
_LINES_EVERY = 5.0  # where lines follow each other, in a file say
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


class Progress:
    """Share done, speed and time left of one run, within a ``with``.

    ``shown`` None: only where ``stream`` (standard error) is a terminal. Elsewhere a line every
    few seconds. A run without anything to show costs nothing.
    """

    def __init__(self, label: str, config: AcceleratorConfig, memory: np.ndarray, address: int,
                 base: int = 0, *, shown: bool | None = None, stream: TextIO | None = None
                 ) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self.shown = self._terminal if shown is None else shown
        self._label = label
        self._milestones = milestones(config, memory, address, base) if self.shown else []
        self._next = 0
        self._started = self._told = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.shown and self._terminal:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def after(self, count: int) -> None:
        """``count`` commands have ended."""
        self._next = count
        self._tell(f"command {count} of {len(self._milestones)}", None)

    def at_cycle(self, cycle: int, written: np.ndarray) -> None:
        """The accelerator is at ``cycle``; ``written`` as in ``sim.harness.accelerator.Result``."""
        while self._next < len(self._milestones):
            _, last, writes = self._milestones[self._next]
            if last is not None and written[last] < min(writes, _MOST):
                break
            self._next += 1
        self._tell(f"cycle {cycle:,}", cycle)

    def _tell(self, where: str, cycles: int | None) -> None:
        now = time.monotonic()
        if not self.shown or now - self._told < (_EVERY if self._terminal else _LINES_EVERY):
            return
        self._told, spent = now, now - self._started
        works = [work for work, _, _ in self._milestones]
        done = works[min(self._next, len(works)) - 1] if self._next and works else 0
        share = done / works[-1] if works and works[-1] else 0.0
        text = f"{self._label} {share:6.1%}, {where}"
        if cycles is not None:
            text += f", {cycles / spent / 1000:.0f} k cycles/s"
        if share:
            text += f", {spent * (1 / share - 1):.0f} s left"
        self._stream.write(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")
        self._stream.flush()
