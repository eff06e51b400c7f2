"""Who holds each accumulation bank, and how far it is filled."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.spec.config import AcceleratorConfig

__all__ = ["AccumulationBanks", "progress_layout", "word_layout"]


def word_layout() -> data.StructLayout:
    """``valid``: the next word of ``bank``, in the order of its filling, may be read from the next
    cycle on. ``line_ends``, ``complete``: it ends its line, the bank."""
    return data.StructLayout({"valid": 1, "bank": 1, "line_ends": 1, "complete": 1})


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
    from_array, from_loader: what arrives from either of the two that fill banks, each its own.
    released, released_bank: pulse, a complete bank has been drained.
    ready: the bank is complete, one bit a bank. progress: how far each is filled.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "claim": In(1), "fill_free": Out(1), "fill_bank": Out(1),
            "from_array": In(word_layout()), "from_loader": In(word_layout()),
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
            for word in (self.from_array, self.from_loader):
                with m.If(word.valid & (word.bank == bank)):
                    m.d.sync += [progress.words.eq(progress.words + 1),
                                 self.ready[bank].eq(word.complete)]
                    with m.If(word.line_ends):
                        m.d.sync += [progress.words.eq(0), progress.lines.eq(progress.lines + 1)]
            with m.If(self.released & (self.released_bank == bank)):
                m.d.sync += [busy[bank].eq(0), self.ready[bank].eq(0), progress.eq(0)]
        return m
