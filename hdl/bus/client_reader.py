"""One client of the read engine: its bursts, and its rows out of what they bring."""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus.burst_generator import BurstGenerator, burst_name, row_burst_layout
from hdl.bus.row_aligner import RowAligner, turned_layout
from hdl.bus.row_fifo import RowFifo
from hdl.lib.fifo import SramFifo
from hdl.lib.leaf import shared
from hdl.ports.beat import beat_layout
from hdl.ports.transfer import TRANSFER
from hdl.spec.config import log2_exact
from hdl.spec.timing import BURST_BEATS

__all__ = ["ClientReader"]


class ClientReader(wiring.Component):
    """One client's side of a ``ReadEngine``: its transfers, its landing space, its rows.

    Bursts have ``burst`` beats at most. With ``most_rows`` a transfer has as many rows at most, and
    one of stride 0 whose row fits landing space is read once and given so many times.

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

    def __init__(self, bus_bytes: int, depth: int, most_rows: int = 0,
                 burst: int = BURST_BEATS) -> None:
        log2_exact(depth)
        if depth < burst:
            raise ValueError(f"depth must be at least {burst}, not {depth!r}")
        self._burst = burst
        self._bytes = bus_bytes
        self._depth = depth
        self._most_rows = most_rows
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
        rows = f"x{self._most_rows}" if self._most_rows else ""
        return f"client_reader_{self._bytes}x{self._depth}{rows}{burst_name(self._burst)}"

    def elaborate(self, platform):
        m = Module()
        generator = BurstGenerator(self._bytes, self._burst)
        m.d.comb += generator.i.payload.eq(self.transfer.payload)
        aligner = RowAligner(self._bytes)
        leaves, takes = Signal(), Signal()  # a beat from landing space, for ever; a transfer
        landing = (self._rows(m, generator, leaves, takes) if self._most_rows
                   else self._queue(m, leaves, takes))
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
            generator.i.valid.eq(self.transfer.valid & takes),
            self.transfer.ready.eq(generator.i.ready & takes & ~self.clear),
            enough.eq(free >= generator.o.payload.beats),
            self.burst.valid.eq(generator.o.valid & enough & ~self.clear),
            self.burst.payload.eq(generator.o.payload),
            granted.eq(self.burst.ready & enough),
            generator.o.ready.eq(granted),
        ]
        taken = Signal(range(BURST_BEATS + 1))
        with m.If(granted & generator.o.valid):
            m.d.comb += taken.eq(generator.o.payload.beats)
        m.d.sync += free.eq(free - taken + leaves)
        with m.If(self.clear):
            m.d.sync += free.eq(self._depth)
        return m

    def _queue(self, m: Module, leaves, takes) -> SramFifo:
        """Landing space whose beats leave once."""
        landing = SramFifo(turned_layout(self._bytes), self._depth)
        m.d.comb += [landing.i.valid.eq(self.arrives), landing.i.payload.eq(self.beat),
                     leaves.eq(landing.o.valid & landing.o.ready), takes.eq(1)]
        return landing

    def _rows(self, m: Module, generator: BurstGenerator, leaves, takes) -> RowFifo:
        """Landing space that keeps a row which repeats; of that the generator hears once."""
        landing = RowFifo(self._bytes, self._depth, self._most_rows)
        asked, space = self.transfer.payload, self._depth * self._bytes
        row_bytes, rows = asked.row_bytes, landing.rows
        end = Signal(range(2 * space + self._bytes))  # of a row, from its first beat on
        m.d.comb += [
            end.eq(row_bytes[:log2_exact(space) + 1] + asked.address[:log2_exact(self._bytes)]),
            rows.payload.repeats.eq((asked.stride == 0) & (asked.rows != 1) & (end <= space)
                                    & (row_bytes >> log2_exact(space) + 1 == 0)),
            rows.payload.rows.eq(asked.rows),
            rows.valid.eq(self.transfer.valid & generator.i.ready & ~self.clear
                          & (asked.rows != 0) & (row_bytes != 0)),
            takes.eq(rows.ready), leaves.eq(landing.freed),
            landing.i.eq(self.beat), landing.arrives.eq(self.arrives),
        ]
        with m.If(rows.payload.repeats):
            m.d.comb += generator.i.payload.rows.eq(asked.rows != 0)
        return landing
