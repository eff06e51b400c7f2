"""One fault and what must come of it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    ErrorCause,
    Needs,
    available,
    pack,
    unpack,
)
from hdl.spec.config import ACCUMULATORS, AcceleratorConfig
from hdl.spec.registers import REGISTERS
from sim.campaigns.faults.target import Target
from sim.harness.accelerator import Fault, Freeze

__all__ = [
    "KINDS",
    "SOFT_RESET",
    "START",
    "STOP",
    "Action",
    "Injection",
    "Kind",
    "Maker",
    "NotApplicable",
    "kind",
]

START, STOP, SOFT_RESET = (
    next(1 << f.low for r in REGISTERS if r.name == "CONTROL" for f in r.fields if f.name == name)
    for name in ("START", "STOP", "SOFT_RESET"))
Errors = tuple[ErrorCause, ...]


class NotApplicable(Exception):
    """The target has nothing that this kind of fault could be put into."""


@dataclass(frozen=True)
class Action:
    """What the host does ``after`` so many cycles: a write to CONTROL, or ``None``: ``aresetn``."""

    after: int
    control: int | None


@dataclass
class Injection:
    """A fault in ``target``, and every ending that is right.

    Attributes
    ----------
    patches: bytes by their position in the image. address: of the program; ``None``: the target's.
    faults, freeze, watchdog, action: as the harness has them. traffic: random CSR accesses.
    thaw: a frozen bus goes on after BUS_STUCK.
    errors: the sets of causes that may be reported; the empty one is a clean end.
    addresses: that may be reported with them. clients, response: in ERROR_DETAIL, for bus errors.
    complete: commands that are complete and whose results alone are written; ``None``: any part
        of any result may be written.
    """

    target: Target
    patches: dict[int, bytes] = field(default_factory=dict)
    address: int | None = None
    faults: tuple[Fault, ...] = ()
    freeze: Freeze | None = None
    watchdog: int = 0
    action: Action | None = None
    traffic: bool = False
    thaw: bool = False
    errors: frozenset[Errors] = frozenset({()})
    addresses: frozenset[int] = frozenset()
    clients: frozenset[int] | None = None
    response: int | None = None
    complete: int | None = None


class Maker:
    """What makers of faults share: a target and random numbers."""

    def __init__(self, target: Target, rng: np.random.Generator) -> None:
        self.target = target
        self.config = target.config
        self.rng = rng

    def pick(self, choices):
        """One of ``choices``; ``NotApplicable`` where there is none."""
        choices = list(choices)
        if not choices:
            raise NotApplicable
        return choices[int(self.rng.integers(len(choices)))]

    def first_taker(self) -> int:
        """The first command that takes a scalar."""
        return self.pick(sorted(self.target.scalars)[:1])

    def below(self, end: int) -> int:
        return int(self.rng.integers(end))

    def flag(self) -> bool:
        return bool(self.rng.integers(2))

    def record(self, index: int, changes: dict[str, int]) -> dict[int, bytes]:
        """The patch that makes ``changes`` to command ``index``, to the header with -1."""
        table, size = (HEADER, HEADER_BYTES) if index < 0 else (COMMAND, COMMAND_BYTES)
        at = self.target.offset(index)
        fields = unpack(table, self.target.case.memory[at:at + size].tobytes())
        return {at: pack(table, fields | changes, size)}

    def refused(self, index: int, cause: ErrorCause, patches: dict[int, bytes],
                **others: Any) -> Injection:
        """Record ``index`` is refused when everything before it is complete."""
        return Injection(self.target, patches, errors=frozenset({(cause,)}),
                         addresses=frozenset({self.target.address(index)}),
                         complete=max(index, 0), **others)


@dataclass(frozen=True)
class Kind:
    """``make`` makes such faults; ``weight``: how often, relative to others; ``accs``, ``needs``:
    accumulators and features of the builds that can have it."""

    make: Callable[[Maker], Injection]
    weight: int
    accs: tuple[str, ...]
    needs: Needs

    def possible(self, config: AcceleratorConfig) -> bool:
        """Whether a build of ``config`` can have it."""
        return config.acc in self.accs and available(self.needs, config)


KINDS: dict[str, Kind] = {}


def kind(name: str, weight: int = 1, accs: tuple[str, ...] = ACCUMULATORS, needs: Needs = ()):
    """Enter a maker of faults into ``KINDS``."""
    def enter(make: Callable[[Maker], Injection]) -> Callable[[Maker], Injection]:
        if name in KINDS:
            raise ValueError(f"kind must be new, not {name!r}")
        KINDS[name] = Kind(make, weight, accs, needs)
        return make
    return enter
