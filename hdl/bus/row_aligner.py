"""Bus beats to rows that start at byte 0."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus.burst_generator import row_place_layout
from hdl.ports.beat import beat_layout
from hdl.spec.config import log2_exact

__all__ = ["RowAligner", "turned_layout"]


def turned_layout(bus_bytes: int) -> data.StructLayout:
    """A beat of the bus, rotated so that byte ``place.offset`` of it is the lowest.

    ``ends``: it holds its row's last byte. ``place``: of its row.
    """
    return data.StructLayout({
        "data": 8 * bus_bytes, "ends": 1, "place": row_place_layout(bus_bytes)})


class RowAligner(wiring.Component):
    """Takes the bus's beats that cover each row and gives the row's bytes from byte 0 on.

    A row costs as many cycles as the bus has beats of it; one that starts within a beat costs one
    more where it has as many beats of its own, unless the next such row's first beat is there to be
    held meanwhile. No latency: ``o`` is valid in the cycle in which ``i`` is.

    Members
    -------
    i: In(stream of ``turned_layout``), rows one after the other.
    o: Out(stream of ``beat_layout``), the rows.
    clear: In(1), drops everything.

    Raises
    ------
    ValueError: ``bus_bytes`` is not a power of two.
    """

    def __init__(self, bus_bytes: int) -> None:
        log2_exact(bus_bytes)
        self._bytes = bus_bytes
        super().__init__({
            "i": In(stream.Signature(turned_layout(bus_bytes))),
            "o": Out(stream.Signature(beat_layout(bus_bytes))),
            "clear": In(1),
        })

    @property
    def leaf_name(self) -> str:
        return f"row_aligner_{self._bytes}"

    def elaborate(self, platform):
        m = Module()
        beat, place, given = self.i.payload, self.i.payload.place, self.o.payload
        held = Signal(8 * self._bytes, reset_less=True)
        primed = Signal()  # ``held`` has the bytes of the row before those of the beat
        resting = Signal()  # ``held`` has the row's last bytes, and of ``rest`` + 1 bytes no more
        rest = Signal(range(self._bytes), reset_less=True)
        size = Signal(range(self._bytes))  # of the row's last beat, less 1
        fits, opens, ends, goes = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            size.eq(place.tail - place.offset),
            fits.eq(place.tail < place.offset),
            opens.eq(self.i.valid & ~beat.ends & (place.offset != 0)),  # to be held
            ends.eq(beat.ends & (~primed | fits)),
            self.o.valid.eq(resting | (self.i.valid
                                       & (primed | beat.ends | (place.offset == 0)))),
            given.last.eq(resting | ends),
            given.size.eq(Mux(given.last, Mux(resting, rest, size), self._bytes - 1) + 1),
            given.data.eq(self._merge(held, resting, primed, given.size)),
            self.i.ready.eq(Mux(resting, self.o.ready & opens, self.o.ready | ~self.o.valid)),
            goes.eq(self.i.valid & self.i.ready),
        ]
        with m.If(resting & self.o.ready):
            m.d.sync += [resting.eq(0), primed.eq(opens)]
        with m.If(~resting & goes):
            m.d.sync += [primed.eq(opens), resting.eq(primed & beat.ends & ~fits), rest.eq(size)]
        with m.If(goes):
            m.d.sync += held.eq(beat.data)
        with m.If(self.clear):
            m.d.sync += [primed.eq(0), resting.eq(0)]
        return m

    def _merge(self, held, resting, primed, size):
        """The row's next bytes: first from the held beat, then from the new one, then zeros."""
        offset, merged = self.i.payload.place.offset, []
        for index in range(self._bytes):
            from_held = resting | (primed & (offset < self._bytes - index))
            byte = Mux(from_held, held.word_select(index, 8),
                       self.i.payload.data.word_select(index, 8))
            merged.append(Mux(size > index, byte, 0))
        return Cat(*merged)
