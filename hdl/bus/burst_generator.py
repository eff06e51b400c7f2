"""Rows of bytes to AXI bursts."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus.axi import ADDRESS_BITS
from hdl.ports.transfer import TRANSFER
from hdl.spec.config import log2_exact
from hdl.spec.timing import BURST_BEATS, PAGE_BYTES, ROW_BYTES_BITS, row_beats_bits

__all__ = ["BurstGenerator", "burst_layout", "row_burst_layout", "row_place_layout"]


def burst_layout(bus_bytes: int) -> data.StructLayout:
    """A burst: ``beat``, the first byte's address without the bits within a beat; ``beats``."""
    return data.StructLayout({
        "beat": ADDRESS_BITS - log2_exact(bus_bytes), "beats": range(BURST_BEATS + 1)})


def row_place_layout(bus_bytes: int) -> data.StructLayout:
    """Where a row lies in the bus's beats: the place of its first byte in its first beat
    (``offset``), of its last byte in its last (``tail``)."""
    low = log2_exact(bus_bytes)
    return data.StructLayout({"offset": low, "tail": low})


def row_burst_layout(bus_bytes: int) -> data.StructLayout:
    """A burst of ``burst_layout``; ``ends``: it holds its row's last byte; ``place``: the row's."""
    return data.StructLayout({
        **burst_layout(bus_bytes).members, "ends": 1, "place": row_place_layout(bus_bytes)})


class BurstGenerator(wiring.Component):
    """The bursts that cover a transfer's rows, each with as few beats as its row needs.

    One burst per cycle, across the ends of rows; a cycle without one between two transfers.

    Members
    -------
    i: In(stream of ``TRANSFER``); one of no row or of no byte makes no burst. ``i.ready`` does not
        depend on ``o.ready``.
    o: Out(stream of ``row_burst_layout``), of at most ``BURST_BEATS`` beats, none across a page; no
        burst holds bytes of two rows.
    clear: In(1), drops the current transfer.

    Raises
    ------
    ValueError: ``bus_bytes`` is not a power of two.
    """

    def __init__(self, bus_bytes: int) -> None:
        self._beat_bits = log2_exact(bus_bytes)
        super().__init__({
            "i": In(stream.Signature(TRANSFER)),
            "o": Out(stream.Signature(row_burst_layout(bus_bytes))),
            "clear": In(1),
        })

    @property
    def leaf_name(self) -> str:
        return f"burst_generator_{1 << self._beat_bits}"

    def elaborate(self, platform):
        m = Module()
        low = self._beat_bits
        page_beats = PAGE_BYTES >> low
        busy = Signal()
        row = Signal(ADDRESS_BITS, reset_less=True)
        transfer = Signal(TRANSFER, reset_less=True)  # .rows counts down, .address is not used
        beat = Signal(ADDRESS_BITS - low, reset_less=True)
        tail = Signal(low, reset_less=True)
        left = Signal(row_beats_bits(1 << low), reset_less=True)  # beats of the row
        to_page = Signal(range(page_beats + 1))
        beats = Signal(range(BURST_BEATS + 1))
        row_done = Signal()
        m.d.comb += [
            to_page.eq(page_beats - beat[:log2_exact(page_beats)]),
            beats.eq(BURST_BEATS),
            row_done.eq(left == beats),
            self.o.valid.eq(busy),
            self.o.payload.beat.eq(beat),
            self.o.payload.beats.eq(beats),
            self.o.payload.ends.eq(row_done),
            self.o.payload.place.offset.eq(row[:low]), self.o.payload.place.tail.eq(tail),
            self.i.ready.eq(~busy),
        ]
        with m.If((left <= to_page) & (left < BURST_BEATS)):
            m.d.comb += beats.eq(left)
        with m.Elif(to_page < BURST_BEATS):
            m.d.comb += beats.eq(to_page)

        asked = self.i.payload
        start = Signal()
        start_address = Signal(ADDRESS_BITS)
        start_bytes = Signal(ROW_BYTES_BITS)
        next_row = Signal(ADDRESS_BITS)
        m.d.comb += [
            next_row.eq(row + transfer.stride),
            start.eq(~busy | (self.o.ready & row_done)),
            start_address.eq(Mux(busy, next_row, asked.address)),
            start_bytes.eq(Mux(busy, transfer.row_bytes, asked.row_bytes)),
        ]
        with m.If(~busy):
            m.d.sync += [busy.eq(self.i.valid & (asked.rows != 0) & (asked.row_bytes != 0)),
                         transfer.eq(asked)]
        with m.Elif(start):
            m.d.sync += [busy.eq(transfer.rows != 1), transfer.rows.eq(transfer.rows - 1)]
        with m.If(start):
            m.d.sync += [
                row.eq(start_address),
                beat.eq(start_address[low:]), tail.eq(start_address[:low] + start_bytes - 1),
                left.eq((start_address[:low] + start_bytes + ((1 << low) - 1))[low:]),
            ]
        with m.Elif(self.o.ready):
            m.d.sync += [beat.eq(beat + beats), left.eq(left - beats)]
        with m.If(self.clear):
            m.d.sync += busy.eq(0)
        return m
