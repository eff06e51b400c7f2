"""One client of the read engine: its bursts, and its rows out of what they bring."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus.burst_generator import BurstGenerator, burst_layout
from hdl.bus.row_aligner import RowAligner, rows_layout
from hdl.lib.fifo import ShiftFifo, SramFifo
from hdl.lib.leaf import shared
from hdl.ports.beat import beat_layout
from hdl.ports.transfer import TRANSFER
from hdl.spec.config import log2_exact
from hdl.spec.timing import BURST_BEATS, READ_ROWS, READ_TRANSFERS

__all__ = ["ClientReader"]


class ClientReader(wiring.Component):
    """One client's side of a ``ReadEngine``: its transfers, its landing space, its rows.

    Members
    -------
    transfer: In(stream of ``TRANSFER``).
    burst: Out(stream of ``burst_layout``), bursts to request, valid only where ``depth`` beats of
        landing space hold all of the burst in addition to those in flight.
    beat_valid, beat_data: In, what arrives, taken at once.
    o: Out(stream of ``beat_layout``), the rows, each from byte 0 on.
    clear: In(1), drops everything and frees the landing space.

    Raises
    ------
    ValueError: ``depth`` is not a power of two that holds a burst.
    """

    def __init__(self, bus_bytes: int, depth: int) -> None:
        log2_exact(depth)
        if depth < BURST_BEATS:
            raise ValueError(f"depth must be at least {BURST_BEATS}, not {depth!r}")
        self._bytes = bus_bytes
        self._depth = depth
        super().__init__({
            "transfer": In(stream.Signature(TRANSFER)),
            "burst": Out(stream.Signature(burst_layout(bus_bytes))),
            "beat_valid": In(1),
            "beat_data": In(8 * bus_bytes),
            "o": Out(stream.Signature(beat_layout(bus_bytes))),
            "clear": In(1),
        })

    @property
    def leaf_name(self) -> str:
        return f"client_reader_{self._bytes}x{self._depth}"

    def elaborate(self, platform):
        m = Module()
        queue = ShiftFifo(TRANSFER, READ_TRANSFERS)
        generator = BurstGenerator(self._bytes)
        rows = ShiftFifo(rows_layout(self._bytes), READ_ROWS)
        landing = SramFifo(8 * self._bytes, self._depth)
        aligner = RowAligner(self._bytes)
        m.submodules.queue = shared(queue)
        m.submodules.generator = shared(generator)
        m.submodules.rows = shared(rows)
        m.submodules.landing = shared(landing)
        m.submodules.aligner = shared(aligner)
        for part in (queue, generator, rows, landing, aligner):
            m.d.comb += part.clear.eq(self.clear)

        asked = self.transfer.payload
        accept = Signal()
        worthy = Signal()
        m.d.comb += [
            self.transfer.ready.eq(queue.i.ready & rows.i.ready & ~self.clear),
            worthy.eq((asked.rows != 0) & (asked.row_bytes != 0)),
            accept.eq(self.transfer.valid & self.transfer.ready & worthy),
            queue.i.valid.eq(accept),
            queue.i.payload.eq(asked),
            rows.i.valid.eq(accept),
            rows.i.payload.offset.eq(asked.address),
            rows.i.payload.row_bytes.eq(asked.row_bytes),
            rows.i.payload.rows.eq(asked.rows),
            rows.i.payload.stride.eq(asked.stride),
            landing.i.valid.eq(self.beat_valid),
            landing.i.payload.eq(self.beat_data),
        ]
        wiring.connect(m, queue.o, generator.i)
        wiring.connect(m, rows.o, aligner.rows)
        wiring.connect(m, landing.o, aligner.i)
        wiring.connect(m, aligner.o, wiring.flipped(self.o))

        # Beats of landing space that no burst will fill: spent with the grant, long before the
        # data, and returned as a beat leaves, so that what arrives always finds a place.
        free = Signal(range(self._depth + 1), init=self._depth)
        granted = Signal()
        enough = Signal()
        m.d.comb += [
            enough.eq(free >= generator.o.payload.beats),
            self.burst.valid.eq(generator.o.valid & enough & ~self.clear),
            self.burst.payload.eq(generator.o.payload),
            granted.eq(self.burst.ready & enough),
            generator.o.ready.eq(granted),
        ]
        taken = Signal(range(BURST_BEATS + 1))
        with m.If(granted & generator.o.valid):
            m.d.comb += taken.eq(generator.o.payload.beats)
        m.d.sync += free.eq(free - taken + (landing.o.valid & landing.o.ready))
        with m.If(self.clear):
            m.d.sync += free.eq(self._depth)
        return m
