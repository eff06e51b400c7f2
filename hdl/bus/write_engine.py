"""AXI4 writes of rows of bytes."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus import axi
from hdl.bus.burst_generator import burst_layout
from hdl.bus.row_packer import RowPacker, beat_layout
from hdl.bus.transfer import TRANSFER
from hdl.lib.chunk import chunk_layout
from hdl.lib.fifo import ShiftFifo, SramFifo
from hdl.lib.leaf import shared
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.spec.timing import OUTSTANDING, WRITE_BEATS, WRITE_BURSTS, WRITE_TRANSFERS

__all__ = ["WriteEngine"]


class WriteEngine(wiring.Component):
    """Writes rows of bytes at any address and stride, never a byte beside them.

    Ports are channels AW, W and B of an AXI4 master (``hdl.bus.axi``) and:

    command: transfers (``TRANSFER``). i: their rows, as chunks of ``config.bus_bytes`` from byte 0
        on; how many a row has follows from the transfer.
    flush: drop transfers and data of which no burst is requested yet and take nothing more; from
        ``flush`` until it is low and ``quiet`` is high. Requested bursts are completed.
    quiet: no burst is requested, unfinished or unanswered.
    idle: quiet, and no transfer and no data are held (one accepted now counts from the next cycle).
    error: pulse, a response was not OKAY.
    burst, beat: pulses, a burst was requested, a beat sent.

    A burst is requested only when all its data wait in a FIFO of ``depth`` beats. W does not wait
    for AW's acceptance, and the next AW does not wait for the last W. At most 16 bursts are
    unanswered. One beat a cycle; rows of one beat make one burst a cycle.
    """

    def __init__(self, config: AcceleratorConfig, depth: int = WRITE_BEATS) -> None:
        if log2_exact(depth) < 5:
            raise ValueError(f"depth must be at least 32, not {depth!r}")
        self._bytes = config.bus_bytes
        self._depth = depth
        super().__init__(axi.write_members(self._bytes) | {
            "command": In(stream.Signature(TRANSFER)),
            "i": In(stream.Signature(chunk_layout(self._bytes))),
            "flush": In(1), "quiet": Out(1), "idle": Out(1), "error": Out(1),
            "burst": Out(1), "beat": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = ShiftFifo(TRANSFER, WRITE_TRANSFERS)
        m.submodules.packer = packer = RowPacker(self._bytes)
        beats = SramFifo(beat_layout(self._bytes), self._depth)
        m.submodules.beats = shared(beats)
        m.submodules.bursts = bursts = ShiftFifo(burst_layout(self._bytes), WRITE_BURSTS)
        draining = Signal()
        stop = Signal()
        under_way = Signal(range(OUTSTANDING + 1))  # bursts requested whose W is not complete
        m.d.comb += [
            stop.eq(self.flush | draining),
            queue.clear.eq(stop),
            packer.clear.eq(stop),
            bursts.clear.eq(stop),
            # The oldest beats belong to requested bursts: they leave before the rest is dropped.
            beats.clear.eq(stop & (under_way == 0)),
        ]
        m.d.sync += draining.eq(stop & ~self.quiet)

        asked = self.command.payload
        m.d.comb += [
            self.command.ready.eq(queue.i.ready & ~stop),
            queue.i.payload.eq(asked),
            queue.i.valid.eq(self.command.valid & ~stop
                             & (asked.rows != 0) & (asked.row_bytes != 0)),
            packer.i.payload.eq(self.i.payload),
            packer.i.valid.eq(self.i.valid & ~stop),
            self.i.ready.eq(packer.i.ready & ~stop),
            packer.o.ready.eq(beats.i.ready & bursts.i.ready & ~stop),
            beats.i.payload.eq(packer.o.payload.beat),
            beats.i.valid.eq(packer.o.valid & bursts.i.ready & ~stop),
            bursts.i.payload.eq(packer.o.payload.burst),
            bursts.i.valid.eq(packer.o.valid & packer.o.payload.beat.last & beats.i.ready),
        ]
        wiring.connect(m, queue.o, packer.transfer)
        self._send(m, beats, bursts, stop, under_way)
        # Beats in the FIFO are of the packer's transfer, of a burst in line or of one under way.
        m.d.comb += self.idle.eq(self.quiet & ~queue.o.valid & ~packer.busy & ~bursts.o.valid)
        return m

    def _send(self, m, beats, bursts, stop, under_way):
        """Channels AW, W and B."""
        address = Signal(axi.ADDRESS_BITS, reset_less=True)
        length = Signal(8, reset_less=True)
        unanswered = Signal(range(OUTSTANDING + 1))
        request = Signal()
        sent = Signal()
        m.d.comb += [
            bursts.o.ready.eq((~self.awvalid | self.awready) & ~stop
                              & (unanswered != OUTSTANDING)),
            request.eq(bursts.o.valid & bursts.o.ready),
            self.awaddr.eq(address),
            self.awlen.eq(length),
            self.wvalid.eq(beats.o.valid & (under_way != 0)),
            self.wdata.eq(beats.o.payload.data),
            self.wstrb.eq(beats.o.payload.strobe),
            self.wlast.eq(beats.o.payload.last),
            beats.o.ready.eq(self.wready & (under_way != 0)),
            sent.eq(self.wvalid & self.wready & self.wlast),
            self.bready.eq(1),
            self.quiet.eq(unanswered == 0),
            self.error.eq(self.bvalid & (self.bresp != axi.OKAY)),
            self.burst.eq(self.awvalid & self.awready),
            self.beat.eq(self.wvalid & self.wready),
        ]
        axi.tie_constants(m, self, "aw", self._bytes)
        with m.If(self.awready):
            m.d.sync += self.awvalid.eq(0)
        with m.If(request):
            m.d.sync += [
                self.awvalid.eq(1),
                address.eq(bursts.o.payload.beat << log2_exact(self._bytes)),
                length.eq(bursts.o.payload.beats - 1),
            ]
        m.d.sync += [
            under_way.eq(under_way + request - sent),
            unanswered.eq(unanswered + request - self.bvalid),
        ]
