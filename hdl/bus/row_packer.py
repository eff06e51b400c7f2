"""Rows that start at byte 0 to bus beats with strobes, cut into bursts."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus.axi import ADDRESS_BITS
from hdl.bus.burst_generator import burst_layout, burst_name
from hdl.lib.rotate import rotate
from hdl.ports.beat import beat_layout
from hdl.ports.transfer import TRANSFER
from hdl.spec.config import log2_exact
from hdl.spec.timing import BURST_BEATS, PAGE_BYTES, ROW_BYTES_BITS, ROW_END_BITS

__all__ = ["RowPacker", "placed_layout", "write_beat_layout"]


def write_beat_layout(bus_bytes: int) -> data.StructLayout:
    """A beat of the W channel; ``last`` ends a burst."""
    return data.StructLayout({"data": 8 * bus_bytes, "strobe": bus_bytes, "last": 1})


def placed_layout(bus_bytes: int) -> data.StructLayout:
    """A beat; where it is the last of its burst, ``burst`` is that burst."""
    return data.StructLayout({
        "beat": write_beat_layout(bus_bytes), "burst": burst_layout(bus_bytes)})


class RowPacker(wiring.Component):
    """Moves each row to its place within the bus's beats that it touches.

    Bursts hold at most ``burst`` beats of one row, or of rows of whole beats that follow one
    another, and cross no page. One beat per cycle, no
    latency: ``o`` is valid in the cycle in which ``i`` is.

    Members
    -------
    transfer: In(stream of ``TRANSFER``), taken with the last beat of the one before; nothing is
        made of no row or of no byte.
    i: In(stream of ``beat_layout``), the rows, each from byte 0 on.
    o: Out(stream of ``placed_layout``), the bus's beats, strobes set for the row's own bytes only.
    clear: In(1), drops the current transfer. busy: Out(1), there is one.

    Raises
    ------
    ValueError: ``bus_bytes`` is not a power of two.
    """

    def __init__(self, bus_bytes: int, burst: int = BURST_BEATS) -> None:
        self._burst = burst
        self._bytes = bus_bytes
        self._low = log2_exact(bus_bytes)
        super().__init__({
            "transfer": In(stream.Signature(TRANSFER)),
            "i": In(stream.Signature(beat_layout(bus_bytes))),
            "o": Out(stream.Signature(placed_layout(bus_bytes))),
            "clear": In(1),
            "busy": Out(1),
        })

    @property
    def leaf_name(self) -> str:
        return f"row_packer_{self._bytes}{burst_name(self._burst)}"

    def elaborate(self, platform):
        m = Module()
        low = self._low
        row = Signal(ADDRESS_BITS, reset_less=True)
        walk = Signal(TRANSFER, reset_less=True)  # .rows counts down, .address is not used
        beat = Signal(ADDRESS_BITS - low, reset_less=True)
        end = Signal(ROW_END_BITS, reset_less=True)  # of the row's bytes, from this beat's first
        first = Signal(reset_less=True)  # beat of the row
        whole = Signal(reset_less=True)  # rows follow one another beat by beat
        count = Signal(range(max(2, self._burst)))  # beats of this burst already sent
        offset = Signal(low)
        takes, step, row_done, burst_done = (
            Signal(name=name) for name in ("takes", "step", "row_done", "burst_done"))
        m.d.comb += [
            offset.eq(row[:low]),
            takes.eq(end > offset),  # else every byte of the beat is held already
            self.i.ready.eq(self.busy & takes & self.o.ready),
            self.o.valid.eq(self.busy & (~takes | self.i.valid)),
            step.eq(self.o.valid & self.o.ready),
            row_done.eq(end <= self._bytes),
            burst_done.eq((row_done & ~(whole & (walk.rows != 1))) | (count == self._burst - 1)
                          | beat[:log2_exact(PAGE_BYTES) - low].all()),
            self.o.payload.beat.last.eq(burst_done),
            self.o.payload.burst.beat.eq(beat - count),
            self.o.payload.burst.beats.eq(count + 1),
        ]
        with m.If(step):
            m.d.sync += count.eq(Mux(burst_done, 0, count + 1))

        start = Signal()
        accept, asked = self.transfer.ready, self.transfer.payload
        start_address = Signal(ADDRESS_BITS)
        start_bytes = Signal(ROW_BYTES_BITS)
        m.d.comb += [
            accept.eq(~self.busy | (step & row_done & (walk.rows == 1))),
            start.eq(accept | (step & row_done)),
            start_address.eq(Mux(accept, asked.address, row + walk.stride)),
            start_bytes.eq(Mux(accept, asked.row_bytes, walk.row_bytes)),
        ]
        with m.If(accept):
            m.d.sync += [self.busy.eq(self.transfer.valid & (asked.rows != 0)
                                      & (asked.row_bytes != 0)), walk.eq(asked),
                         whole.eq((asked.stride == asked.row_bytes)
                                  & ~(asked.address[:low] | asked.row_bytes[:low]).any())]
        with m.Elif(start):
            m.d.sync += walk.rows.eq(walk.rows - 1)
        with m.If(start):
            m.d.sync += [
                row.eq(start_address),
                beat.eq(start_address[low:]),
                end.eq(start_address[:low] + start_bytes),
                first.eq(1),
            ]
        with m.Elif(step):
            m.d.sync += [beat.eq(beat + 1), end.eq(end - self._bytes), first.eq(0)]
        with m.If(self.clear):
            m.d.sync += [self.busy.eq(0), count.eq(0)]
        self._place(m, step & takes, offset, end, first)
        return m

    def _place(self, m, takes, offset, end, first):
        """Data and strobes of the current beat."""
        rotated = rotate(m, "rotated", self.i.payload.data, offset, self._bytes, 8, left=True)
        held = Signal(8 * self._bytes, reset_less=True)
        with m.If(takes):
            m.d.sync += held.eq(rotated)
        placed, strobe = [], []
        for index in range(self._bytes):
            placed.append(Mux(offset > index, held.word_select(index, 8),
                              rotated.word_select(index, 8)))
            strobe.append((~first | (offset <= index)) & (end > index))
        m.d.comb += [
            self.o.payload.beat.data.eq(Cat(*placed)),
            self.o.payload.beat.strobe.eq(Cat(*strobe)),
        ]
