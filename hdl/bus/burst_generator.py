"""Rows of bytes to AXI bursts."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus.axi import ADDRESS_BITS
from hdl.ports.transfer import TRANSFER
from hdl.spec.config import log2_exact
from hdl.spec.timing import (
    BURST_BEATS,
    MERGED_LOG2,
    PAGE_BYTES,
    ROW_BYTES_BITS,
    row_beats_bits,
)

__all__ = ["BurstGenerator", "burst_layout", "burst_name", "merged_layout", "row_burst_layout",
           "row_place_layout"]


def burst_name(burst: int) -> str:
    """What the name of a leaf says of the longest burst: nothing where it is the usual one."""
    return "" if burst == BURST_BEATS else f"_to_{burst}"


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
    """A burst of ``burst_layout``; ``ends``: it holds its row's last byte; ``place``: the row's.

    ``merged``: it is of rows of 1 << ``each`` whole beats that follow one another; ``ends`` is not
    used then, and its first beat is number ``phase`` of a row.
    """
    return data.StructLayout({
        **burst_layout(bus_bytes).members, "ends": 1, "place": row_place_layout(bus_bytes),
        **merged_layout().members})


def merged_layout() -> data.StructLayout:
    """Rows that share bursts: see ``row_burst_layout``."""
    return data.StructLayout({
        "merged": 1, "each": range(MERGED_LOG2 + 1), "phase": MERGED_LOG2})


class BurstGenerator(wiring.Component):
    """The bursts that cover a transfer's rows, each with as few beats as its row needs.

    One burst per cycle, across the ends of rows; a cycle without one between two transfers. Rows
    of 1, 2, ... 1 << ``MERGED_LOG2`` whole beats that follow one another share bursts.

    Members
    -------
    i: In(stream of ``TRANSFER``); one of no row or of no byte makes no burst. ``i.ready`` does not
        depend on ``o.ready``.
    o: Out(stream of ``row_burst_layout``), of at most ``burst`` beats, none across a page.
    clear: In(1), drops the current transfer.

    Raises
    ------
    ValueError: ``bus_bytes`` is not a power of two.
    """

    def __init__(self, bus_bytes: int, burst: int = BURST_BEATS) -> None:
        self._beat_bits, self._burst = log2_exact(bus_bytes), burst
        super().__init__({
            "i": In(stream.Signature(TRANSFER)),
            "o": Out(stream.Signature(row_burst_layout(bus_bytes))),
            "clear": In(1),
        })

    @property
    def leaf_name(self) -> str:
        return f"burst_generator_{1 << self._beat_bits}{burst_name(self._burst)}"

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
        beats = Signal(range(self._burst + 1))
        row_done = Signal()
        merged, each = Signal(), Signal(range(MERGED_LOG2 + 1), reset_less=True)
        m.d.comb += [
            to_page.eq(page_beats - beat[:log2_exact(page_beats)]),
            beats.eq(self._burst),
            row_done.eq(left == beats),
            self.o.valid.eq(busy),
            self.o.payload.beat.eq(beat),
            self.o.payload.beats.eq(beats),
            self.o.payload.ends.eq(row_done),
            self.o.payload.place.offset.eq(row[:low]), self.o.payload.place.tail.eq(tail),
            self.o.payload.merged.eq(merged), self.o.payload.each.eq(each),
            self.o.payload.phase.eq(beat[:MERGED_LOG2] - row[low:low + MERGED_LOG2]),
            self.i.ready.eq(~busy),
        ]
        with m.If((left <= to_page) & (left < self._burst)):
            m.d.comb += beats.eq(left)
        with m.Elif(to_page < self._burst):
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
        self._merge(m, busy, transfer, left, merged, each)
        with m.If(self.clear):
            m.d.sync += busy.eq(0)
        return m

    def _merge(self, m: Module, busy, transfer, left, merged, each) -> None:
        """Make a transfer's rows one where they may share bursts."""
        low, asked = self._beat_bits, self.i.payload
        most = len(left) - MERGED_LOG2  # bits of as many rows as ``left`` has room for
        follows = Signal()
        m.d.comb += follows.eq((asked.stride == asked.row_bytes) & (asked.address[:low] == 0)
                               & (asked.rows[most:] == 0))
        with m.If(~busy):
            m.d.sync += merged.eq(0)
            for log2 in range(MERGED_LOG2 + 1):
                with m.If(follows & (asked.row_bytes == 1 << log2 + low)):
                    m.d.sync += [merged.eq(1), each.eq(log2), left.eq(asked.rows << log2),
                                 transfer.rows.eq(1)]
