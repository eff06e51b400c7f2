"""Stored tensors on their way into the vector unit: rows of bytes to lane words."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.codec.widen import Widen
from hdl.lib.leaf import shared
from hdl.ports.beat import beat_layout
from hdl.ports.vector import Storage
from hdl.spec.config import AcceleratorConfig
from hdl.vector.vector_beat import operand_words

__all__ = ["FetchPort"]


class FetchPort(wiring.Component):
    """Converts beats of ``elements`` stored operands to ``elements`` lane words.

    A row of n operands gives ceil(n / elements) times as many; words beyond its end are
    undefined. Wide rows take two beats for these words, or one where the row ends; a BF16 word
    becomes a lane word unchanged. Latency: 1 cycle from the beat that completes them; one beat per
    cycle.

    Members
    -------
    storage: In(``Storage``), stable while rows are inside or offered.
    i: In(stream of ``beat_layout``) of elements · storage_bytes bytes.
    o: Out(stream): ``data``, lane words; ``last``, the row's last.
    """

    def __init__(self, config: AcceleratorConfig, elements: int):
        self.config = config
        self.elements = elements
        super().__init__({
            "storage": In(Storage()),
            "i": In(stream.Signature(beat_layout(elements * config.format.storage_bytes))),
            "o": Out(stream.Signature(data.StructLayout({
                "data": operand_words(config, elements), "last": 1}))),
        })

    @property
    def leaf_name(self) -> str:
        return f"fetch_{self.config.fmt}_{self.elements}"

    def elaborate(self, platform):
        m = Module()
        narrow = self._widened(m)
        full = Signal()
        last = Signal(reset_less=True)
        words = Signal(operand_words(self.config, self.elements), reset_less=True)
        take = Signal()
        m.d.comb += [
            self.o.valid.eq(full),
            self.o.payload.data.eq(words),
            self.o.payload.last.eq(last),
            self.i.ready.eq(~full | self.o.ready),
            take.eq(self.i.valid & self.i.ready),
        ]
        whole = Const(1, 1)
        if self.config.format.storage_bits == 8:
            whole = self._wide(m, take, words, narrow)
        else:
            with m.If(take):
                m.d.sync += words.eq(narrow)
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(take):
            m.d.sync += [full.eq(whole), last.eq(self.i.payload.last)]
        return m

    def _widened(self, m):
        """Every operand of the beat as a lane word."""
        bits = self.config.format.storage_bits
        words = Signal(operand_words(self.config, self.elements))
        for number in range(self.elements):
            widen = Widen(self.config.format)
            m.submodules[f"widen_{number}"] = shared(widen)
            m.d.comb += [
                widen.code.eq(self.i.payload.data.word_select(number, bits)),
                words[number].eq(widen.value),
            ]
            if self.config.format.hybrid:
                m.d.comb += widen.e5m2.eq(self.storage.e5m2)
        return words

    def _wide(self, m, take, words, narrow):
        """Loads ``words``, in halves where rows are wide; 1 where the beat completes them."""
        second = Signal()
        half = self.config.lane.bits * self.elements // 2
        low, high = Cat(words)[:half], Cat(words)[half:]
        whole = Signal()
        m.d.comb += whole.eq(~self.storage.wide | second | self.i.payload.last)
        with m.If(take):
            m.d.sync += second.eq(~whole)
            with m.If(self.storage.wide):
                m.d.sync += high.eq(self.i.payload.data)
                with m.If(~second):
                    m.d.sync += low.eq(self.i.payload.data)
            with m.Else():
                m.d.sync += words.eq(narrow)
        return whole
