"""Landing space whose rows may come out several times."""

from amaranth.hdl import Module, Mux, Shape, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus.row_aligner import turned_layout
from hdl.lib.fifo import ShiftFifo
from hdl.lib.leaf import shared
from hdl.lib.sram import Sram1R1W
from hdl.spec.config import log2_exact
from hdl.spec.timing import TRANSFERS_HELD

__all__ = ["RowFifo", "rows_layout"]


def rows_layout(most_rows: int) -> data.StructLayout:
    """The rows of a transfer; ``repeats``: they are one row, so many times."""
    return data.StructLayout({"rows": range(most_rows + 1), "repeats": 1})


class RowFifo(wiring.Component):
    """A queue of ``depth`` beats in an SRAM that holds a row which repeats until its last time.

    Latency 2, one beat per cycle, from a row's last to its first too. Nobody asks whether there is
    room: a beat comes only where ``freed`` has left some.

    Members
    -------
    rows: In(stream of ``rows_layout``), transfers, each before its beats; at least a row each.
    i: In(``turned_layout``), with ``arrives``: In(1), the beats, of a row that repeats once.
    o: Out(stream of ``turned_layout``), beats as often as their rows.
    freed: Out(1), pulse, a beat has left for the last time.
    clear: In(1), drops everything.

    Raises
    ------
    ValueError: ``depth`` is not a power of two.
    """

    def __init__(self, bus_bytes: int, depth: int, most_rows: int) -> None:
        log2_exact(depth)
        self._bytes, self._depth, self._most = bus_bytes, depth, most_rows
        super().__init__({
            "rows": In(stream.Signature(rows_layout(most_rows))),
            "i": In(turned_layout(bus_bytes)), "arrives": In(1),
            "o": Out(stream.Signature(turned_layout(bus_bytes))),
            "freed": Out(1), "clear": In(1),
        })

    @property
    def leaf_name(self) -> str:
        return f"row_fifo_{self._bytes}x{self._depth}x{self._most}"

    def elaborate(self, platform):
        m = Module()
        sram = Sram1R1W(Shape.cast(turned_layout(self._bytes)).width, self._depth)
        m.submodules.sram = shared(sram)
        m.submodules.held = held = ShiftFifo(rows_layout(self._most), TRANSFERS_HELD)
        wiring.connect(m, wiring.flipped(self.rows), held.i)
        # One bit more than an address tells a full memory from an empty one. ``base``: where the
        # row at the output begins.
        head, tail, base = (Signal(range(2 * self._depth), name=name)
                            for name in ("head", "tail", "base"))
        count = Signal(range(self._most + 1))  # rows of the transfer that are out
        waiting, read = Signal(), Signal()
        final, row_done, last, again = Signal(), Signal(), Signal(), Signal()
        address = Signal.like(head, name="address")
        transfer = held.o.payload
        m.d.comb += [
            last.eq(count + 1 == transfer.rows),
            final.eq(~transfer.repeats | last),
            self.freed.eq(waiting & self.o.ready & final),
            row_done.eq(waiting & self.o.ready & self.o.payload.ends),
            again.eq(row_done & ~final),
            held.o.ready.eq(row_done & last),
            address.eq(Mux(again, base, head)),
            # Beats that are read were written before, so the two ports never meet at one address.
            read.eq(again | ((head != tail) & (~waiting | self.o.ready))),
            sram.write.address.eq(tail[:-1]),
            sram.write.data.eq(self.i),
            sram.write.enable.eq(self.arrives),
            sram.read.address.eq(address[:-1]),
            sram.read.enable.eq(read),
            self.o.valid.eq(waiting),
            self.o.payload.eq(sram.data),
            held.clear.eq(self.clear),
        ]
        m.d.sync += [tail.eq(tail + self.arrives), head.eq(address + read),
                     waiting.eq(read | (waiting & ~self.o.ready))]
        with m.If(row_done):
            m.d.sync += count.eq(Mux(last, 0, count + 1))
        with m.If(row_done & final):
            m.d.sync += base.eq(head)
        with m.If(self.clear):
            m.d.sync += [head.eq(0), tail.eq(0), base.eq(0), count.eq(0), waiting.eq(0)]
        return m
