"""How an AXI memory behaves in time: stalls of each channel, latency, outstanding bursts."""

import ctypes
from dataclasses import asdict, dataclass, field, fields

from sim.harness.dram import Dram

__all__ = ["CHANNELS", "PROFILES", "StallProfile"]

CHANNELS = ("ar", "r", "aw", "w", "b")


@dataclass(frozen=True)
class StallProfile:
    """Timing of one memory.

    Attributes
    ----------
    stall: probability that a stall begins, per channel and cycle; a channel not named never stalls.
    length: mean cycles of a stall, per channel; a channel not named has 1.
    latency: least and most cycles from an address (reads) or the last datum (writes) to the
        answer, drawn for each burst.
    outstanding: bursts accepted and not answered, per direction.
    mixed_order: reads sample and writes reach the memory early or late at random; otherwise
        reads sample when accepted and writes land when answered, the least kind to a master
        that does not wait.
    dram: a DRAM, whose latency takes the place of ``latency``.
    """

    name: str
    stall: dict[str, float] = field(default_factory=dict)
    length: dict[str, float] = field(default_factory=dict)
    latency: tuple[int, int] = (30, 30)
    outstanding: int = 32
    mixed_order: bool = False
    dram: Dram | None = None

    def __post_init__(self) -> None:
        for key, values in (("stall", self.stall), ("length", self.length)):
            for channel in values:
                if channel not in CHANNELS:
                    raise ValueError(f"{key} channel must be one of {', '.join(CHANNELS)}, "
                                     f"not {channel!r}")
        if any(not 0 <= p <= 1 for p in self.stall.values()):
            raise ValueError(f"stall must be probabilities, not {self.stall!r}")
        if not 1 <= self.latency[0] <= self.latency[1]:
            raise ValueError(f"latency must be a range from 1 up, not {self.latency!r}")
        if self.outstanding < 1:
            raise ValueError(f"outstanding must be at least 1, not {self.outstanding!r}")

    def as_struct(self) -> "ProfileStruct":
        return ProfileStruct(
            tuple(self.stall.get(channel, 0.0) for channel in CHANNELS),
            tuple(self.length.get(channel, 1.0) for channel in CHANNELS),
            *self.latency, self.outstanding, int(self.mixed_order),
            DramStruct(0) if self.dram is None else DramStruct(1, *asdict(self.dram).values()))


class DramStruct(ctypes.Structure):
    """``DramTimes`` of dram.hpp: whether there is one, and the fields of ``Dram``."""

    _fields_ = [("there", ctypes.c_uint32),
                *((one.name, ctypes.c_uint32) for one in fields(Dram))]


class ProfileStruct(ctypes.Structure):
    """``Profile`` of axi_memory.hpp."""

    _fields_ = [
        ("enter", ctypes.c_double * len(CHANNELS)), ("length", ctypes.c_double * len(CHANNELS)),
        ("latency_low", ctypes.c_uint32), ("latency_high", ctypes.c_uint32),
        ("outstanding", ctypes.c_uint32), ("mixed_order", ctypes.c_uint32),
        ("dram", DramStruct),
    ]


def _all(value: float) -> dict[str, float]:
    return dict.fromkeys(CHANNELS, value)


PROFILES: dict[str, StallProfile] = {profile.name: profile for profile in (
    StallProfile("ideal"),
    StallProfile("light", stall=_all(0.1), latency=(5, 40), mixed_order=True),
    StallProfile("heavy", stall=_all(0.6), length=_all(2.0), latency=(1, 60), outstanding=4,
                 mixed_order=True),
    StallProfile("bursty", stall=_all(0.02), length=_all(40.0), latency=(1, 200),
                 mixed_order=True),
)}
