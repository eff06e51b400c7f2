"""Rows of bytes in flight on chip: the change of their beats' width."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.ports.beat import beat_layout
from hdl.spec.config import log2_exact

__all__ = ["Resizer"]


class Resizer(wiring.Component):
    """Beats of ``i_bytes`` to beats of ``o_bytes``, both powers of two; rows stay rows.

    A row of r bytes comes out as ceil(r / o_bytes) beats. The narrower side moves one per cycle.
    Latency 1 from the beat that completes an output; 0 where both widths are equal. ``i.ready``
    follows ``o.ready`` in the same cycle.

    Members
    -------
    i, o: In, Out(stream of ``beat_layout``).

    Raises
    ------
    ValueError: a width is not a power of two.
    """

    def __init__(self, i_bytes: int, o_bytes: int) -> None:
        log2_exact(i_bytes)
        log2_exact(o_bytes)
        self._i_bytes = i_bytes
        self._o_bytes = o_bytes
        super().__init__({
            "i": In(stream.Signature(beat_layout(i_bytes))),
            "o": Out(stream.Signature(beat_layout(o_bytes))),
        })

    @property
    def leaf_name(self) -> str:
        return f"resizer_{self._i_bytes}_{self._o_bytes}"

    def elaborate(self, platform):
        m = Module()
        if self._i_bytes == self._o_bytes:
            wiring.connect(m, wiring.flipped(self.i), wiring.flipped(self.o))
        elif self._i_bytes < self._o_bytes:
            self._widen(m)
        else:
            self._narrow(m)
        return m

    def _widen(self, m: Module) -> None:
        ratio = self._o_bytes // self._i_bytes
        full = Signal()
        index = Signal(range(ratio))
        held = Signal(beat_layout(self._o_bytes), reset_less=True)
        whole = Signal()
        m.d.comb += [
            self.o.valid.eq(full),
            self.o.payload.eq(held),
            self.i.ready.eq(~full | self.o.ready),
            whole.eq(self.i.payload.last | (index == ratio - 1)),
        ]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                full.eq(whole),
                index.eq(Mux(whole, 0, index + 1)),
                held.last.eq(self.i.payload.last),
                held.size.eq(index * self._i_bytes + self.i.payload.size),
            ]
            for part in range(ratio):
                with m.If(index == part):
                    m.d.sync += held.data.word_select(part, 8 * self._i_bytes).eq(
                        self.i.payload.data)
                # A row's first beat clears what an earlier row has left.
                with m.Elif(index == 0):
                    m.d.sync += held.data.word_select(part, 8 * self._i_bytes).eq(0)

    def _narrow(self, m: Module) -> None:
        valid = Signal()
        held = Signal(beat_layout(self._i_bytes), reset_less=True)
        final = Signal()
        width = 8 * self._o_bytes
        m.d.comb += [
            final.eq(held.size <= self._o_bytes),
            self.o.valid.eq(valid),
            self.o.payload.data.eq(held.data),
            self.o.payload.size.eq(Mux(final, held.size, self._o_bytes)),
            self.o.payload.last.eq(held.last & final),
            self.i.ready.eq(~valid | (self.o.ready & final)),
        ]
        with m.If(self.i.ready):
            m.d.sync += [valid.eq(self.i.valid), held.eq(self.i.payload)]
        with m.Elif(self.o.ready):
            m.d.sync += [
                held.data.eq(Cat(held.data[width:], Const(0, width))),
                held.size.eq(held.size - self._o_bytes),
            ]
