"""The rules of AXI4 that a master must keep, for slaves in Python."""

from collections import deque
from collections.abc import Hashable

__all__ = ["AxiRules"]


class AxiRules:
    """Checks address and data channels of a master, cycle by cycle: ``AssertionError``.

    For the slaves in Python, of Amaranth's simulator and of cocotb; the harness in C++ has its own
    (``axi_checker.hpp``). One for the channels of reads, one for those of writes. The slave counts
    ``outstanding`` down where it has answered a burst. ``checked``: bursts.
    """

    MOST_BEATS = 16

    def __init__(self, bus_bytes: int) -> None:
        self.bus_bytes = bus_bytes
        self.most_outstanding = 16 if bus_bytes <= 16 else 32
        self.held: dict[str, Hashable] = {}
        self.bursts: deque = deque()
        self.bursts_done: deque = deque()
        self.beats = 0
        self.outstanding = 0
        self.checked = 0

    def stable(self, channel: str, valid: int, ready: int, payload: Hashable) -> None:
        """A payload once offered is offered unchanged until it is taken."""
        if channel in self.held:
            assert valid, f"{channel}valid fell before {channel}ready"
            assert payload == self.held[channel], f"{channel} changed before {channel}ready"
        self.held.pop(channel, None)
        if valid and not ready:
            self.held[channel] = payload

    def address(self, address: int, beats: int, size: int, burst: int) -> None:
        """A burst that was accepted: at most 16 beats of full width, within 4 KiB."""
        assert beats <= self.MOST_BEATS, "burst of more than 16 beats"
        assert 1 << size == self.bus_bytes, "burst of narrow beats"
        assert burst == 1, "burst is not INCR"
        start = address & -self.bus_bytes
        assert start >> 12 == (start + beats * self.bus_bytes - 1) >> 12, "burst crosses 4 KiB"
        self.outstanding += 1
        self.checked += 1
        assert self.outstanding <= self.most_outstanding, (
            f"more than {self.most_outstanding} bursts outstanding")

    def write_burst(self, beats: int) -> None:
        """A write's address was accepted."""
        self.bursts.append(beats)
        self._match()

    def write_beat(self, last: int) -> None:
        """A beat of write data was accepted, perhaps before its address."""
        self.beats += 1
        if last:
            self.bursts_done.append(self.beats)
            self.beats = 0
        self._match()

    def _match(self) -> None:
        while self.bursts and self.bursts_done:
            assert self.bursts.popleft() == self.bursts_done.popleft(), "wlast at the wrong beat"
        if self.bursts and not self.bursts_done:
            assert self.beats < self.bursts[0], "wlast is missing"
