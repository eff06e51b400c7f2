"""One client of the read engine: its bursts, and its rows out of what they bring."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus.burst_generator import BurstGenerator, row_burst_layout
from hdl.bus.row_aligner import RowAligner, turned_layout
from hdl.lib.fifo import SramFifo
from hdl.lib.leaf import shared
from hdl.ports.beat import beat_layout
from hdl.ports.transfer import TRANSFER
from hdl.spec.config import log2_exact
from hdl.spec.timing import BURST_BEATS

__all__ = ["ClientReader"]


class ClientReader(wiring.Component):
    """One client's side of a ``ReadEngine``: its transfers, its landing space, its rows.

    Members
    -------
    transfer: In(stream of ``TRANSFER``).
    burst: Out(stream of ``row_burst_layout``), bursts to request, valid only where ``depth`` beats
        of landing space hold all of the burst in addition to those in flight.
    arrives: In(1), beat: In(``turned_layout``), what comes, taken at once.
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
            "burst": Out(stream.Signature(row_burst_layout(bus_bytes))),
            "arrives": In(1),
            "beat": In(turned_layout(bus_bytes)),
            "o": Out(stream.Signature(beat_layout(bus_bytes))),
            "clear": In(1),
        })

    @property
    def leaf_name(self) -> str:
        return f"client_reader_{self._bytes}x{self._depth}"

    def elaborate(self, platform):
        m = Module()
        generator = BurstGenerator(self._bytes)
        landing = SramFifo(turned_layout(self._bytes), self._depth)
        aligner = RowAligner(self._bytes)
        m.submodules.generator = shared(generator)
        m.submodules.landing = shared(landing)
        m.submodules.aligner = shared(aligner)
        for part in (generator, landing, aligner):
            m.d.comb += part.clear.eq(self.clear)
        wiring.connect(m, landing.o, aligner.i)
        wiring.connect(m, aligner.o, wiring.flipped(self.o))

        # Beats of landing space that no burst will fill: spent with the grant, long before the
        # data, and returned as a beat leaves, so that what arrives always finds a place.
        free = Signal(range(self._depth + 1), init=self._depth)
        granted = Signal()
        enough = Signal()
        m.d.comb += [
            generator.i.payload.eq(self.transfer.payload),
            generator.i.valid.eq(self.transfer.valid),
            self.transfer.ready.eq(generator.i.ready & ~self.clear),
            landing.i.valid.eq(self.arrives),
            landing.i.payload.eq(self.beat),
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
