"""A DRAM behind the memory bus, as the harness and the cycle model have it.

A controller that serves bursts in the order in which they come, reads and writes alike, on one data
bus. Rows stay open until another of their bank is asked for; banks open rows while others transfer.
"""

from dataclasses import dataclass, fields
from typing import Self

__all__ = ["MEMORIES", "MOST_BANKS", "Dram", "memory_named"]

MEMORIES = ("ideal", "dram")
MOST_BANKS = 64


@dataclass(frozen=True)
class Dram:
    """Times in cycles of the bus.

    By default a chip of DDR4-2400 with 16 data pins, as DRAMsim3's ``DDR4_8Gb_x16_2400.ini`` has it
    (BL 8, CL = tRCD = tRP = 17, CWL 12, tWTR_L 9, tRFC 420, tREFI 9360, 2 × 4 banks of 1024
    columns, a queue of 16), and a bus at a quarter of its clock, whose beats of 128 bits are then
    as fast as its pins; wider buses have more chips side by side.

    Attributes
    ----------
    latency: from a burst's address, or its last datum, to its data, or its answer, at best; for
        controller and interconnect. burst: cycles of the data bus that each burst costs beside its
        beats. miss: to close a row and open another. banks; row_beats: of each open row;
        a burst counts as one of the row in which it begins.
    turn: of the data bus, from reading to writing and back, once in ``gathered`` writes.
    refresh: cycles without data, all rows closed, once in ``refresh_every``.
    """

    latency: int = 100
    burst: int = 4
    miss: int = 9
    banks: int = 8
    row_beats: int = 128
    turn: int = 9
    gathered: int = 16
    refresh: int = 105
    refresh_every: int = 2340

    def __post_init__(self) -> None:
        least = {"latency": 2, "banks": 1, "row_beats": 16, "gathered": 1,
                 "refresh_every": self.refresh + 32}
        most = {"banks": MOST_BANKS}
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            low, high = least.get(name, 0), most.get(name, 1 << 20)
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} of a DRAM must be from {low} to {high}, not {value!r}")

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Of ``name=value`` with commas between; ``ValueError`` in one line."""
        known, given = [field.name for field in fields(cls)], {}
        for part in filter(None, text.split(",")):
            name, _, value = part.partition("=")
            if name not in known or not value.isdecimal():
                raise ValueError(f"memory dram takes NAME=N of {', '.join(known)}, not {part!r}")
            given[name] = int(value)
        return cls(**given)


def memory_named(text: str) -> Dram | None:
    """``None`` of ``ideal``, a DRAM of ``dram`` or ``dram:burst=8,latency=200``; ``ValueError``."""
    name, _, rest = text.partition(":")
    if name not in MEMORIES or (rest and name != "dram"):
        raise ValueError(f"memory must be ideal, dram or dram:NAME=N,..., not {text!r}")
    return Dram.parsed(rest) if name == "dram" else None
