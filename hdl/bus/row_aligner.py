"""Bus beats to rows that start at byte 0."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.rotate import rotate_bytes
from hdl.ports.beat import beat_layout
from hdl.spec.config import COUNT_BITS, log2_exact
from hdl.spec.timing import ROW_BYTES_BITS

__all__ = ["RowAligner", "rows_layout"]


def rows_layout(bus_bytes: int) -> data.StructLayout:
    """What alignment needs of a transfer: of address and stride, the bits within a beat."""
    low = log2_exact(bus_bytes)
    return data.StructLayout({
        "offset": low, "row_bytes": ROW_BYTES_BITS, "rows": COUNT_BITS, "stride": low})


class RowAligner(wiring.Component):
    """Takes the bus's beats that cover each row and gives the row's bytes from byte 0 on.

    One beat per cycle; a row costs one more cycle where the bus's beats are no more than the row's
    own although it starts within one. Latency 1.

    Members
    -------
    rows: In(stream of ``rows_layout``), transfers of at least one row and one byte, in the order
        of their beats on ``i``.
    i: In(stream of 8 · ``bus_bytes`` bits), the bus's beats.
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
            "rows": In(stream.Signature(rows_layout(bus_bytes))),
            "i": In(stream.Signature(8 * bus_bytes)),
            "o": Out(stream.Signature(beat_layout(bus_bytes))),
            "clear": In(1),
        })

    @property
    def leaf_name(self) -> str:
        return f"row_aligner_{self._bytes}"

    def elaborate(self, platform):
        m = Module()
        busy = Signal()
        walk = Signal(rows_layout(self._bytes), reset_less=True)  # .rows counts down
        left = Signal(ROW_BYTES_BITS, reset_less=True)  # bytes of the row still to give
        primed = Signal()  # ``held`` has the bus's beat in which the row's next starts
        size = Signal(range(self._bytes + 1))
        last = Signal()
        crosses = Signal()  # the row's next beat ends in a later one of the bus
        takes = Signal()
        gives = Signal()
        step = Signal()
        row_done = Signal()
        free = Signal()
        m.d.comb += [
            last.eq(left <= self._bytes),
            size.eq(Mux(last, left, self._bytes)),
            crosses.eq(walk.offset + size > self._bytes),
            takes.eq(~primed | crosses),
            gives.eq(primed | ~crosses),
            free.eq(~self.o.valid | self.o.ready),
            step.eq(busy & (~takes | self.i.valid) & (~gives | free)),
            self.i.ready.eq(busy & takes & (~gives | free)),
            row_done.eq(step & gives & last),
            self.rows.ready.eq(~busy | (row_done & (walk.rows == 1))),
        ]
        with m.If(step):
            m.d.sync += primed.eq(crosses)
        with m.If(step & gives):
            m.d.sync += left.eq(left - self._bytes)
        with m.If(row_done):
            m.d.sync += [
                primed.eq(0),
                left.eq(walk.row_bytes),
                walk.offset.eq(walk.offset + walk.stride),
                walk.rows.eq(walk.rows - 1),
            ]
        with m.If(self.rows.ready):
            m.d.sync += [
                busy.eq(self.rows.valid),
                primed.eq(0),
                walk.eq(self.rows.payload),
                left.eq(self.rows.payload.row_bytes),
            ]

        with m.If(free):
            m.d.sync += self.o.valid.eq(step & gives)
        with m.If(self.clear):
            m.d.sync += [busy.eq(0), primed.eq(0), self.o.valid.eq(0)]

        rotated = rotate_bytes(m, "rotated", self.i.payload, walk.offset, self._bytes, left=False)
        held = Signal(8 * self._bytes, reset_less=True)
        given = Signal(beat_layout(self._bytes), reset_less=True)
        m.d.comb += self.o.payload.eq(given)
        with m.If(step & takes):
            m.d.sync += held.eq(rotated)
        with m.If(step & gives):
            merged = self._merge(held, rotated, primed, walk.offset, size)
            m.d.sync += [given.data.eq(merged), given.size.eq(size), given.last.eq(last)]
        return m

    def _merge(self, held, rotated, primed, offset, size):
        """The row's next bytes: first from the held beat, then from the new one, then zeros."""
        merged = []
        for index in range(self._bytes):
            from_held = primed & (offset < self._bytes - index)
            byte = Mux(from_held, held.word_select(index, 8), rotated.word_select(index, 8))
            merged.append(Mux(size > index, byte, 0))
        return Cat(*merged)
