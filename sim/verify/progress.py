"""How far a run of a program is: ``gen.cli.Line`` by the program's work.

    with Progress("machine", config, memory, address, base) as progress:
        Machine(config).run(memory, address, base, progress=progress.after)

    with Progress("RTL", config, memory, address, base) as progress:
        accelerator.run(memory, address, base, progress=progress.at_cycle)
"""

from collections import Counter
from typing import TextIO

import numpy as np

from compiler.program.records import commands
from gen.cli import Line
from hdl.spec.commands import COMPUTING, Destination, Opcode
from hdl.spec.config import AcceleratorConfig
from sim.model.command import Command

__all__ = ["Progress", "milestones"]

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
