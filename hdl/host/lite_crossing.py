"""An AXI4-Lite slave whose port has a clock of its own."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring

from hdl.bus import axi
from hdl.host.lite_slave import WORD_BITS, register_bus
from hdl.lib.synchroniser import synchronised

__all__ = ["LiteCrossing"]


class LiteCrossing(wiring.Component):
    """A ``LiteSlave`` with its port ``axi`` in domain ``control``, all else in ``sync``.

    Between the two domains pass only levels, each ``synchronised``, and words that stand
    still while they are looked at. A request rises when its word is there and falls when it was
    answered; the answer rises when its word is there and falls when the request has fallen. So
    either clock may be of any frequency, and stop.

    Either domain may be reset alone, at any time and for any time: answers have no reset, they
    follow the requests. What was requested before ``sync`` left its reset is answered without being
    done, and a read gives 0. After a reset of ``control`` nothing is accepted until ``sync`` has
    seen that: ``greeting`` falls and rises again, and ``greeted`` with it.

    Members are those of ``LiteSlave``. When a write is answered, what it changes has changed, be it
    in ``control`` behind a register and two more.
    """

    def __init__(self) -> None:
        super().__init__(register_bus())

    def elaborate(self, platform):
        m = Module()
        greeting = Signal()
        greeted = Signal(reset_less=True)
        is_open = Signal()
        back = synchronised(m, greeted, "control")
        m.d.sync += greeted.eq(synchronised(m, greeting, "sync"))
        with m.If(~greeting & ~back):
            m.d.control += greeting.eq(1)
        with m.If(greeting & back):
            m.d.control += is_open.eq(1)
        self._write(m, is_open)
        self._read(m, is_open)
        return m

    def _handshake(self, m: Module, kind: str) -> tuple[Signal, Signal, Signal, Signal]:
        """``request`` of ``control`` and whether it is answered there; whether it is ``due`` in
        ``sync``, and ``answer``, which is to be set when it was done."""
        request = Signal(name=f"{kind}_request")
        answer = Signal(name=f"{kind}_answer", reset_less=True)
        alive = Signal(name=f"{kind}_alive")  # no request is left from before the reset
        asked = synchronised(m, request, "sync")
        answered = synchronised(m, answer, "control")
        with m.If(~asked):
            m.d.sync += [answer.eq(0), alive.eq(1)]
        with m.Elif(~alive):
            m.d.sync += answer.eq(1)
        due = Signal(name=f"{kind}_due")
        m.d.comb += due.eq(asked & alive & ~answer)
        return request, answered, due, answer

    def _write(self, m: Module, is_open: Signal) -> None:
        bus = self.axi
        request, answered, due, answer = self._handshake(m, "write")
        address_held = Signal()
        data_held = Signal()
        address = Signal(WORD_BITS, reset_less=True)
        word = Signal(32, reset_less=True)
        strobe = Signal(4, reset_less=True)
        m.d.comb += [bus.awready.eq(is_open & ~address_held), bus.wready.eq(is_open & ~data_held),
                     bus.bresp.eq(axi.OKAY)]
        with m.If(bus.awvalid & bus.awready):
            m.d.control += [address_held.eq(1), address.eq(bus.awaddr[2:])]
        with m.If(bus.wvalid & bus.wready):
            m.d.control += [data_held.eq(1), word.eq(bus.wdata), strobe.eq(bus.wstrb)]
        with m.If(address_held & data_held & ~bus.bvalid & ~answered):
            m.d.control += request.eq(1)
        with m.If(bus.bready):
            m.d.control += bus.bvalid.eq(0)
        with m.If(request & answered):
            m.d.control += [request.eq(0), address_held.eq(0), data_held.eq(0), bus.bvalid.eq(1)]

        doing = Signal(2)  # the word is here; what it changes is changed
        here = Signal(32, reset_less=True)
        under = Signal(4, reset_less=True)
        place = Signal(WORD_BITS, reset_less=True)
        m.d.sync += doing.eq(Cat(due & ~doing.any(), doing[0]))
        with m.If(due & ~doing.any()):
            m.d.sync += [here.eq(word), under.eq(strobe), place.eq(address)]
        with m.If(doing[1]):
            m.d.sync += answer.eq(1)
        m.d.comb += [self.write.eq(doing[0]), self.write_word.eq(place), self.write_data.eq(here),
                     self.write_mask.eq(Cat(bit.replicate(8) for bit in under))]

    def _read(self, m: Module, is_open: Signal) -> None:
        bus = self.axi
        request, answered, due, answer = self._handshake(m, "read")
        waiting = Signal()
        wanted = Signal(WORD_BITS, reset_less=True)
        taken = Signal(32, reset_less=True)
        found = Signal(32, reset_less=True)
        m.d.comb += [bus.arready.eq(is_open & ~waiting & ~bus.rvalid), bus.rresp.eq(axi.OKAY),
                     bus.rdata.eq(taken)]
        with m.If(bus.arvalid & bus.arready):
            m.d.control += [waiting.eq(1), wanted.eq(bus.araddr[2:])]
        with m.If(waiting & ~answered):
            m.d.control += request.eq(1)
        with m.If(bus.rready):
            m.d.control += bus.rvalid.eq(0)
        with m.If(request & answered):
            m.d.control += [request.eq(0), waiting.eq(0), taken.eq(found), bus.rvalid.eq(1)]

        reading = Signal(2)  # the first cycle of a read, the second
        word = Signal(WORD_BITS, reset_less=True)
        m.d.comb += [self.read_begins.eq(due & ~reading.any()), self.read_word.eq(word)]
        m.d.sync += reading.eq(Cat(self.read_begins, reading[0]))
        with m.If(self.read_begins):
            m.d.sync += word.eq(wanted)
        with m.If(reading[1]):
            m.d.sync += [found.eq(self.read_data), answer.eq(1)]
        with m.Elif(~answer & ~due):  # so that what is answered without being done is 0
            m.d.sync += found.eq(0)
