"""An AXI4-Lite slave that drives a plain register bus."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.bus import axi

__all__ = ["WORD_BITS", "LiteSlave", "register_bus"]

WORD_BITS = axi.CONTROL_ADDRESS_BITS - 2


def register_bus() -> dict[str, wiring.Member]:
    """Members of what serves registers: ``axi`` and a plain bus, as of ``LiteSlave``."""
    return {
        "axi": In(axi.LiteSignature()),
        "write": Out(1), "write_word": Out(WORD_BITS), "write_data": Out(32),
        "write_mask": Out(32), "read_begins": Out(1), "read_word": Out(WORD_BITS),
        "read_data": In(32),
    }


class LiteSlave(wiring.Component):
    """One read and one write at a time, address and data of a write in any order, always OKAY.

    Members
    -------
    axi: In(``axi.LiteSignature``).
    write: Out(1), for one cycle; the bits of ``write_data`` under ``write_mask`` go to word
        ``write_word``.
    read_begins: Out(1), ``read_word``, Out, is new in the next cycle. read_data: In(32), taken in
        the second cycle after that, and answered in the third.
    """

    def __init__(self) -> None:
        super().__init__(register_bus())

    def elaborate(self, platform):
        m = Module()
        bus = self.axi
        address_held = Signal()
        data_held = Signal()
        address = Signal(WORD_BITS, reset_less=True)
        word = Signal(32, reset_less=True)
        strobe = Signal(4, reset_less=True)
        m.d.comb += [
            bus.awready.eq(~address_held),
            bus.wready.eq(~data_held),
            bus.bresp.eq(axi.OKAY),
            self.write.eq(address_held & data_held & ~bus.bvalid),
            self.write_word.eq(address),
            self.write_data.eq(word),
            self.write_mask.eq(Cat(bit.replicate(8) for bit in strobe)),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [address_held.eq(1), address.eq(bus.awaddr[2:])]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [data_held.eq(1), word.eq(bus.wdata), strobe.eq(bus.wstrb)]
        with m.If(self.write):
            m.d.sync += [address_held.eq(0), data_held.eq(0), bus.bvalid.eq(1)]
        with m.Elif(bus.bready):
            m.d.sync += bus.bvalid.eq(0)

        reading = Signal(2)  # the first cycle of a read, the second
        wanted = Signal(WORD_BITS, reset_less=True)
        answer = Signal(32, reset_less=True)
        m.d.comb += [
            bus.arready.eq(~reading.any() & ~bus.rvalid),
            self.read_begins.eq(bus.arvalid & bus.arready),
            bus.rresp.eq(axi.OKAY),
            self.read_word.eq(wanted),
            bus.rdata.eq(answer),
        ]
        m.d.sync += reading.eq(Cat(self.read_begins, reading[0]))
        with m.If(self.read_begins):
            m.d.sync += wanted.eq(bus.araddr[2:])
        with m.If(reading[1]):
            m.d.sync += [answer.eq(self.read_data), bus.rvalid.eq(1)]
        with m.Elif(bus.rready):
            m.d.sync += bus.rvalid.eq(0)
        return m
