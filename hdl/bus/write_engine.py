"""AXI4 writes of rows of bytes."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.bus import axi
from hdl.bus.burst_generator import burst_layout
from hdl.bus.row_packer import RowPacker, write_beat_layout
from hdl.lib.fifo import ShiftFifo, SramFifo
from hdl.lib.leaf import shared
from hdl.ports.counts import Counts
from hdl.ports.memory import EnginePort, WritePort
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.spec.timing import BURST_BEATS, WRITE_BEATS, WRITE_BURSTS, most_outstanding

__all__ = ["WriteEngine"]


class WriteEngine(wiring.Component):
    """Writes rows of bytes at any address and stride, never a byte outside them.

    A burst is requested only when all its data wait in a FIFO of ``depth`` beats. W does not wait
    for AW's acceptance, and the next AW does not wait for the last W. At most ``outstanding``
    bursts, of ``burst`` beats at most, are unanswered. One beat per cycle; rows of one beat make
    one burst per cycle.

    Members
    -------
    client: In(``WritePort``). How many beats a row has follows from its transfer.
    axi: Out(``axi.WriteSignature``).
    engine: In(``EnginePort``). A flush drops transfers and data of which no burst is requested
        yet; requested bursts are completed, and counted as outstanding until they are answered.
        An answer to a burst that is not sent whole is none.
    idle: Out(1), quiet, and no transfer and no data are held (one accepted now counts from the
        next cycle).
    counts: Out(``Counts``), bursts requested, beats sent.

    Raises
    ------
    ValueError: ``depth`` is not a power of two of at least 32.
    """

    def __init__(self, config: AcceleratorConfig, depth: int = WRITE_BEATS, *,
                 outstanding: int | None = None, burst: int = BURST_BEATS,
                 address_bits: int = axi.ADDRESS_BITS) -> None:
        if log2_exact(depth) < 5:
            raise ValueError(f"depth must be at least 32, not {depth!r}")
        self._bytes = config.bus_bytes
        self._depth = depth
        self._outstanding = outstanding or most_outstanding(config.bus_bytes)
        self._address_bits = address_bits
        self._burst = burst
        super().__init__({
            "client": In(WritePort(self._bytes)),
            "axi": Out(axi.WriteSignature(self._bytes, address_bits)),
            "engine": In(EnginePort()), "idle": Out(1), "counts": Out(Counts("writer"))})

    def elaborate(self, platform):
        m = Module()
        m.submodules.packer = packer = RowPacker(self._bytes, self._burst)
        beats = SramFifo(write_beat_layout(self._bytes), self._depth)
        m.submodules.beats = shared(beats)
        m.submodules.bursts = bursts = ShiftFifo(burst_layout(self._bytes), WRITE_BURSTS)
        draining = Signal()
        stop = Signal()
        under_way = Signal(range(self._outstanding + 1))  # bursts requested whose W is not complete
        m.d.comb += [
            stop.eq(self.engine.flush | draining),
            packer.clear.eq(stop),
            bursts.clear.eq(stop),
            # The oldest beats belong to requested bursts: they leave before the rest is dropped.
            beats.clear.eq(stop & (under_way == 0)),
        ]
        m.d.sync += draining.eq(stop & ~self.engine.quiet)

        transfer, rows = self.client.transfer, self.client.beats
        m.d.comb += [
            transfer.ready.eq(packer.transfer.ready & ~stop),
            packer.transfer.payload.eq(transfer.payload),
            packer.transfer.valid.eq(transfer.valid & ~stop),
            packer.i.payload.eq(rows.payload),
            packer.i.valid.eq(rows.valid & ~stop),
            rows.ready.eq(packer.i.ready & ~stop),
            packer.o.ready.eq(beats.i.ready & bursts.i.ready & ~stop),
            beats.i.payload.eq(packer.o.payload.beat),
            beats.i.valid.eq(packer.o.valid & bursts.i.ready & ~stop),
            bursts.i.payload.eq(packer.o.payload.burst),
            bursts.i.valid.eq(packer.o.valid & packer.o.payload.beat.last & beats.i.ready),
        ]
        self._send(m, beats, bursts, stop, under_way)
        # Beats in the FIFO are of the packer's transfer, of a queued burst or of one in flight.
        m.d.comb += self.idle.eq(self.engine.quiet & ~packer.busy & ~bursts.o.valid)
        return m

    def _send(self, m, beats, bursts, stop, under_way):
        """Channels AW, W and B."""
        bus, engine = self.axi, self.engine
        address = Signal(self._address_bits, reset_less=True)
        length = Signal(8, reset_less=True)
        unanswered = Signal(range(self._outstanding + 1))  # of those requested, W complete or not
        request = Signal()
        sent, asked = Signal(), Signal()
        m.d.comb += [
            bursts.o.ready.eq((~bus.awvalid | bus.awready) & ~stop
                              & (unanswered != self._outstanding)),
            request.eq(bursts.o.valid & bursts.o.ready),
            bus.awaddr.eq(address),
            bus.awlen.eq(length),
            bus.wvalid.eq(beats.o.valid & (under_way != 0)),
            bus.wdata.eq(beats.o.payload.data),
            bus.wstrb.eq(beats.o.payload.strobe),
            bus.wlast.eq(beats.o.payload.last),
            beats.o.ready.eq(bus.wready & (under_way != 0)),
            sent.eq(bus.wvalid & bus.wready & bus.wlast),
            bus.bready.eq(1),
            engine.quiet.eq(unanswered == 0),
            engine.moved.eq(bus.wvalid & bus.wready),
            engine.answered.eq(bus.bvalid & bus.bready),
            # Of bursts that are sent whole there must be one for it.
            asked.eq(bus.bvalid & (unanswered + sent != under_way)),
            engine.unasked.eq(bus.bvalid & ~asked),
            engine.failure.valid.eq(asked & (bus.bresp != axi.OKAY)),
            engine.failure.response.eq(bus.bresp),
            self.counts.write_bursts.eq(bus.awvalid & bus.awready),
            self.counts.write_beats.eq(bus.wvalid & bus.wready),
        ]
        axi.tie_constants(m, bus, "aw", self._bytes)
        with m.If(bus.awready):
            m.d.sync += bus.awvalid.eq(0)
        with m.If(request):
            m.d.sync += [
                bus.awvalid.eq(1),
                address.eq(bursts.o.payload.beat << log2_exact(self._bytes)),
                length.eq(bursts.o.payload.beats - 1),  # AXI counts from 0
            ]
        m.d.sync += [
            under_way.eq(under_way + request - sent),
            unanswered.eq(unanswered + request - asked),
        ]
