"""AXI4 reads for several clients at once."""

from collections.abc import Mapping

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus import axi
from hdl.bus.burst_generator import merged_layout, row_place_layout
from hdl.bus.client_reader import ClientReader
from hdl.bus.row_aligner import turned_layout
from hdl.lib.fifo import SramFifo
from hdl.lib.leaf import shared
from hdl.lib.rotate import rotate
from hdl.ports.counts import Counts
from hdl.ports.memory import EnginePort, ReadClient
from hdl.spec.config import AcceleratorConfig, ceil_log2, log2_exact
from hdl.spec.timing import (
    BURST_BEATS,
    LANDING_BEATS,
    MERGED_LOG2,
    URGENT_BURSTS,
    most_outstanding,
)

__all__ = ["ReadEngine"]


class ReadEngine(wiring.Component):
    """Reads rows of bytes at any address and stride, for each client in order.

    A burst is requested only when its client has landing space for all of it (``depth`` beats
    each, or of each), so that a client may stall for ever without harm to the others, and
    ``rready`` is always high. At most ``outstanding`` bursts, of ``burst`` beats at most, are in
    flight; one can be requested every cycle.

    Urgent clients go first, but for one burst in ``URGENT_BURSTS`` + 1; among these as among the
    others those of ``before`` in their order, then all others round-robin. The rows of transfers of
    clients in ``repeating`` are as many at most as it says; one that repeats is read once, where it
    fits landing space (``ClientReader``).

    Members
    -------
    one for each name in ``clients``: In(``ReadClient``). Transfers follow one another. With
        ``engine.flush`` a beat that is offered is withdrawn after the first cycle.
    axi: Out(``axi.ReadSignature``).
    engine: In(``EnginePort``). Answers that come while it is flushed are dropped, and no failure.
        Beats that nothing was asked for are dropped.
    awaited: Out, the place in ``clients`` of whom a beat is for or is awaited by, until quiet.
    counts: Out(``Counts``), bursts requested, beats taken.

    Raises
    ------
    ValueError: ``clients`` are not two new identifiers or more, or a ``depth`` holds no burst.
    """

    def __init__(self, config: AcceleratorConfig, clients: tuple[str, ...],
                 depth: int | Mapping[str, int] = LANDING_BEATS, *,
                 before: tuple[str, ...] = (), repeating: Mapping[str, int] | None = None,
                 outstanding: int | None = None, burst: int = BURST_BEATS,
                 address_bits: int = axi.ADDRESS_BITS) -> None:
        self._bytes = config.bus_bytes
        self._outstanding = outstanding or most_outstanding(config.bus_bytes)
        self._address_bits = address_bits
        self._burst = burst
        self._clients = tuple(clients)
        self._depths = depth if isinstance(depth, Mapping) else dict.fromkeys(clients, depth)
        self._before, self._repeating = before, repeating or {}
        members = {"axi": Out(axi.ReadSignature(self._bytes, address_bits)),
                   "engine": In(EnginePort()), "awaited": Out(range(len(clients))),
                   "counts": Out(Counts("reader"))}
        if len(self._clients) < 2:
            raise ValueError(f"clients must be two names or more, not {clients!r}")
        for client in self._clients:
            if client in members or not client.isidentifier():
                raise ValueError(f"client must be a new identifier, not {client!r}")
            members[client] = In(ReadClient(self._bytes))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        bus, engine = self.axi, self.engine
        draining = Signal()
        clear = Signal()
        m.d.comb += clear.eq(engine.flush | draining)
        m.d.sync += draining.eq(clear & ~engine.quiet)
        ports = [getattr(self, name) for name in self._clients]
        readers = [ClientReader(self._bytes, self._depths[name], self._repeating.get(name, 0),
                                self._burst)
                   for name in self._clients]
        for name, port, reader in zip(self._clients, ports, readers, strict=True):
            m.submodules[f"client_{name}"] = shared(reader)
            wiring.connect(m, wiring.flipped(port.transfer), reader.transfer)
            wiring.connect(m, reader.o, wiring.flipped(port.beats))
            m.d.comb += reader.clear.eq(clear)
        # Bursts granted and not complete. With ID 0 alone they come back in that order; the address
        # takes as long to the bus as an entry through this memory.
        order = SramFifo(data.StructLayout({
            "client": range(len(ports)), "ends": 1, "length": range(max(2, self._burst)),
            "place": row_place_layout(self._bytes), **merged_layout().members}),
            1 << ceil_log2(max(2, self._outstanding)))
        m.submodules.order = shared(order)
        under_way = Signal(range(self._outstanding + 1))
        self._request(m, ports, readers, order, under_way)
        beat = Signal(turned_layout(self._bytes))
        # A memory that is not reset with this engine still owes beats that nobody waits for.
        asked, taken = Signal(), Signal(range(max(2, self._burst)))
        ends = Signal()
        m.d.comb += [asked.eq(bus.rvalid & (under_way != 0)), ends.eq(asked & bus.rlast)]
        row_ends = self._row_ends(m, order.o.payload, taken)
        m.d.sync += under_way.eq(under_way + order.i.valid - ends)
        with m.If(asked):
            m.d.sync += taken.eq(Mux(bus.rlast, 0, taken + 1))
        m.d.comb += [
            bus.rready.eq(1),
            order.o.ready.eq(ends),
            engine.unasked.eq(bus.rvalid & (~asked | (
                bus.rlast != (taken == order.o.payload.length)))),
            engine.quiet.eq(under_way == 0),
            engine.moved.eq(bus.rvalid),
            engine.failure.valid.eq(asked & (bus.rresp != axi.OKAY) & ~clear),
            engine.failure.response.eq(bus.rresp),
            self.awaited.eq(order.o.payload.client),
            self.counts.read_bursts.eq(bus.arvalid & bus.arready),
            self.counts.read_beats.eq(bus.rvalid),
            # All clients' rows are turned by one rotator, before they part.
            beat.data.eq(rotate(m, "turned", bus.rdata, order.o.payload.place.offset, self._bytes,
                                8, left=False)),
            beat.ends.eq(Mux(order.o.payload.merged, row_ends, bus.rlast & order.o.payload.ends)),
            beat.place.eq(order.o.payload.place),
        ]
        for index, reader in enumerate(readers):
            m.d.comb += [
                reader.arrives.eq(asked & (order.o.payload.client == index)),
                reader.beat.eq(beat),
            ]
        return m

    def _row_ends(self, m, burst, taken):
        """Whether a beat ends its row, of rows that share bursts; ``taken``: beats before it."""
        place = Signal(MERGED_LOG2)  # of the beat, in its row
        row_ends = Signal()
        m.d.comb += [place.eq(taken + burst.phase),
                     row_ends.eq(~Cat(~place[bit] & (burst.each > bit)
                                      for bit in range(MERGED_LOG2)).any())]
        return row_ends

    def _request(self, m, ports, readers, order, under_way):
        """The arbiter: grant one burst per cycle into the registers of channel AR and the order."""
        bus = self.axi
        address = Signal(self._address_bits, reset_less=True)
        length = Signal(8, reset_less=True)
        grant = Signal(range(len(ports)))
        wanted, pressing, pool = (Signal(len(ports), name=name)
                                  for name in ("wanted", "pressing", "pool"))
        # Urgent bursts in a row for which others had to wait; it stops at the limit, where one of
        # those goes and it starts anew.
        passed = Signal(range(URGENT_BURSTS + 1))
        go = Signal()
        m.d.comb += [
            wanted.eq(Cat(reader.burst.valid for reader in readers)),
            pressing.eq(wanted & Cat(port.urgent for port in ports)),
            # The urgent ones, unless others have waited long enough: then these.
            pool.eq(Mux(pressing.any() & (passed != URGENT_BURSTS), pressing,
                        Mux(pressing == wanted, wanted, wanted & ~pressing))),
            go.eq((~bus.arvalid | bus.arready) & (under_way != self._outstanding)),
            order.i.valid.eq(go & wanted.any()),
            order.i.payload.client.eq(grant),
            bus.araddr.eq(address),
            bus.arlen.eq(length),
        ]
        axi.tie_constants(m, bus, "ar", self._bytes)
        self._choose(m, pool, grant, order.i.valid)
        with m.If(bus.arready):
            m.d.sync += bus.arvalid.eq(0)
        with m.If(order.i.valid):
            m.d.sync += [bus.arvalid.eq(1),
                         passed.eq(Mux((pool & pressing).any() & (pool != wanted), passed + 1, 0))]
        with m.Switch(grant):
            for index, (port, reader) in enumerate(zip(ports, readers, strict=True)):
                with m.Case(index):
                    m.d.comb += [reader.burst.ready.eq(go), port.granted.eq(order.i.valid),
                                 order.i.payload.ends.eq(reader.burst.payload.ends),
                                 order.i.payload.length.eq(reader.burst.payload.beats - 1),
                                 *(order.i.payload[name].eq(reader.burst.payload[name])
                                   for name in ("place", *merged_layout().members))]
                    with m.If(order.i.valid):
                        m.d.sync += [
                            # Bursts start with a whole beat: the rows' aligner drops the rest.
                            address.eq(reader.burst.payload.beat << log2_exact(self._bytes)),
                            length.eq(reader.burst.payload.beats - 1),  # AXI counts from 0
                        ]

    def _choose(self, m, pool, grant, granted) -> None:
        """``grant``, one of ``pool``; ``granted``: it goes."""
        first = [self._clients.index(name) for name in self._before]
        rest = [index for index in range(len(self._clients)) if index not in first]
        turn = Signal(range(len(rest)))  # who of the rest was granted last
        with m.Switch(turn):
            for last in range(len(rest)):
                with m.Case(last):
                    # The nearest client after the last one wins, being assigned last.
                    for distance in range(len(rest), 0, -1):
                        index = rest[(last + distance) % len(rest)]
                        with m.If(pool[index]):
                            m.d.comb += grant.eq(index)
        for index in reversed(first):
            with m.If(pool[index]):
                m.d.comb += grant.eq(index)
        for place, index in enumerate(rest):
            with m.If(granted & (grant == index)):
                m.d.sync += turn.eq(place)
