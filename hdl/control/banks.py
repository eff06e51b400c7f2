"""Who holds each accumulation bank, and how far it is filled."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.spec.config import AcceleratorConfig

__all__ = ["AccumulationBanks", "progress_layout"]


def progress_layout(config: AcceleratorConfig) -> data.StructLayout:
    """How far a bank is filled: ``lines`` lines complete and ``words`` words of the next.

    A line is a column tile where the array fills, its words are rows. A bank filled from memory
    is one line of all its words in the order of their addresses.
    """
    count = range(config.acc_depth + 1)
    return data.StructLayout({"lines": count, "words": count})


class AccumulationBanks(wiring.Component):
    """Two banks pass in turn from whoever fills them to the drain and back.

    Ports
    -----
    claim: pulse, the filler takes ``fill_bank``; only while ``fill_free``.
    word, word_bank: pulse, the next word of that bank, in the order of its filling, may be read
        from the next cycle on. line_ends, complete: with ``word``, it ends its line, the bank.
    released, released_bank: pulse, a complete bank has been drained.
    ready: the bank is complete, one bit a bank. progress: how far each is filled.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "claim": In(1), "fill_free": Out(1), "fill_bank": Out(1),
            "word": In(1), "word_bank": In(1), "line_ends": In(1), "complete": In(1),
            "released": In(1), "released_bank": In(1),
            "ready": Out(2), "progress": Out(data.ArrayLayout(progress_layout(config), 2)),
        })

    def elaborate(self, platform):
        m = Module()
        busy = Signal(2)
        m.d.comb += self.fill_free.eq(~busy.bit_select(self.fill_bank, 1))
        with m.If(self.claim):
            m.d.sync += self.fill_bank.eq(~self.fill_bank)
        for bank in range(2):
            progress = self.progress[bank]
            with m.If(self.claim & (self.fill_bank == bank)):
                m.d.sync += busy[bank].eq(1)
            with m.If(self.word & (self.word_bank == bank)):
                m.d.sync += [progress.words.eq(progress.words + 1),
                             self.ready[bank].eq(self.complete)]
                with m.If(self.line_ends):
                    m.d.sync += [progress.words.eq(0), progress.lines.eq(progress.lines + 1)]
            with m.If(self.released & (self.released_bank == bank)):
                m.d.sync += [busy[bank].eq(0), self.ready[bank].eq(0), progress.eq(0)]
        return m
