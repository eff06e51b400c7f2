"""A double buffer: two memories of one size, one filled while the other is read."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.leaf import shared
from hdl.lib.pair import one_of
from hdl.lib.sram import Sram1R1W
from hdl.ports.sram import SramRead, SramWrite

__all__ = ["BankedSram"]


class BankedSram(wiring.Component):
    """Two banks of ``depth`` words of ``width`` bits with one write and one read port.

    A bank may be written while the other is read; what ``Sram1R1W`` says holds for each.

    Members
    -------
    write: In(``SramWrite``) of two banks.
    read: In(``SramRead``) of two banks.
    data: Out(``width``), one cycle later: what the bank that ``read.bank`` named read last.

    Raises
    ------
    ValueError: ``width`` or ``depth`` is too small.
    """

    def __init__(self, width: int, depth: int) -> None:
        self.width = width
        self.depth = depth
        super().__init__({
            "write": In(SramWrite(width, depth, banks=2)), "read": In(SramRead(depth, banks=2)),
            "data": Out(width)})

    def elaborate(self, platform):
        m = Module()
        bank, words = Signal(), []
        m.d.sync += bank.eq(self.read.bank)
        for index in range(2):
            sram = Sram1R1W(self.width, self.depth)
            m.submodules[f"bank{index}"] = shared(sram)
            m.d.comb += [
                sram.write.enable.eq(self.write.enable & (self.write.bank == index)),
                sram.write.address.eq(self.write.address), sram.write.data.eq(self.write.data),
                sram.read.enable.eq(self.read.enable & (self.read.bank == index)),
                sram.read.address.eq(self.read.address),
            ]
            words.append(sram.data)
        m.d.comb += self.data.eq(one_of(words, bank))
        return m
