"""An AXI4-Lite slave in front of a plain register bus."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.bus import axi

__all__ = ["WORD_BITS", "LiteSlave"]

WORD_BITS = axi.CONTROL_ADDRESS_BITS - 2


class LiteSlave(wiring.Component):
    """One read and one write at a time, address and data of a write in any order, always OKAY.

    ``write``: for one cycle, the bits of ``write_data`` under ``write_mask`` go to word
    ``write_word``. ``read_data`` is taken in the cycle after ``read_word`` is new, and answered in
    the next.
    """

    def __init__(self) -> None:
        super().__init__(axi.lite_members() | {
            "write": Out(1), "write_word": Out(WORD_BITS), "write_data": Out(32),
            "write_mask": Out(32), "read_word": Out(WORD_BITS), "read_data": In(32),
        })

    def elaborate(self, platform):
        m = Module()
        address_held = Signal()
        data_held = Signal()
        address = Signal(WORD_BITS, reset_less=True)
        word = Signal(32, reset_less=True)
        strobe = Signal(4, reset_less=True)
        m.d.comb += [
            self.awready.eq(~address_held),
            self.wready.eq(~data_held),
            self.bresp.eq(axi.OKAY),
            self.write.eq(address_held & data_held & ~self.bvalid),
            self.write_word.eq(address),
            self.write_data.eq(word),
            self.write_mask.eq(Cat(bit.replicate(8) for bit in strobe)),
        ]
        with m.If(self.awvalid & self.awready):
            m.d.sync += [address_held.eq(1), address.eq(self.awaddr[2:])]
        with m.If(self.wvalid & self.wready):
            m.d.sync += [data_held.eq(1), word.eq(self.wdata), strobe.eq(self.wstrb)]
        with m.If(self.write):
            m.d.sync += [address_held.eq(0), data_held.eq(0), self.bvalid.eq(1)]
        with m.Elif(self.bready):
            m.d.sync += self.bvalid.eq(0)

        reading = Signal()
        wanted = Signal(WORD_BITS, reset_less=True)
        answer = Signal(32, reset_less=True)
        m.d.comb += [
            self.arready.eq(~reading & ~self.rvalid),
            self.rresp.eq(axi.OKAY),
            self.read_word.eq(wanted),
            self.rdata.eq(answer),
        ]
        m.d.sync += reading.eq(self.arvalid & self.arready)
        with m.If(self.arvalid & self.arready):
            m.d.sync += wanted.eq(self.araddr[2:])
        with m.If(reading):
            m.d.sync += [answer.eq(self.read_data), self.rvalid.eq(1)]
        with m.Elif(self.rready):
            m.d.sync += self.rvalid.eq(0)
        return m
