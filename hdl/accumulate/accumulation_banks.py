"""Who holds each accumulation bank, and how far it is filled."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.ports.accumulation import BankStates, FillPort, Release, arrival_layout
from hdl.spec.config import AcceleratorConfig

__all__ = ["AccumulationBanks"]


class AccumulationBanks(wiring.Component):
    """A double buffer: two banks pass alternately from whoever fills them to the drain and back.

    Members
    -------
    feeder, loader: In(``FillPort``), the two that fill banks; only one of them claims at a time.
    from_array, from_loader: In(``arrival_layout``), what arrives from either, each in a bank of its
        own.
    released: In(``Release``), a complete bank has been drained.
    states: Out(``BankStates``).
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "feeder": In(FillPort()), "loader": In(FillPort()),
            "from_array": In(arrival_layout()), "from_loader": In(arrival_layout()),
            "released": In(Release()), "states": Out(BankStates(config)),
        })

    def elaborate(self, platform):
        m = Module()
        busy, claim = Signal(2), Signal()  # busy: claimed and not yet drained
        next_bank, states = Signal(), self.states
        m.d.comb += claim.eq(self.feeder.claim | self.loader.claim)
        for filler in (self.feeder, self.loader):
            m.d.comb += [filler.free.eq(~busy.bit_select(next_bank, 1)),
                         filler.bank.eq(next_bank)]
        with m.If(claim):
            m.d.sync += next_bank.eq(~next_bank)
        for bank in range(2):
            progress = states.progress[bank]
            with m.If(claim & (next_bank == bank)):
                m.d.sync += busy[bank].eq(1)
            for word in (self.from_array, self.from_loader):
                with m.If(word.valid & (word.bank == bank)):
                    m.d.sync += [progress.words.eq(progress.words + 1),
                                 states.ready[bank].eq(word.complete)]
                    with m.If(word.tile_ends):
                        m.d.sync += [progress.words.eq(0), progress.tiles.eq(progress.tiles + 1)]
            with m.If(self.released.valid & (self.released.bank == bank)):
                m.d.sync += [busy[bank].eq(0), states.ready[bank].eq(0), progress.eq(0)]
        return m
