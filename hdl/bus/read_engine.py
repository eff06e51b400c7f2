"""AXI4 reads for several clients at once."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus import axi
from hdl.bus.burst_generator import BurstGenerator, burst_layout
from hdl.bus.row_aligner import RowAligner, rows_layout
from hdl.bus.transfer import TRANSFER
from hdl.lib.chunk import chunk_layout
from hdl.lib.fifo import ShiftFifo, SramFifo
from hdl.lib.leaf import shared
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.spec.timing import (
    BURST_BEATS,
    LANDING_BEATS,
    OUTSTANDING,
    READ_ROWS,
    READ_TRANSFERS,
    URGENT_BURSTS,
)

__all__ = ["ReadClient", "ReadEngine"]


class ReadClient(wiring.Component):
    """One client's side of a ``ReadEngine``: its transfers, its landing space, its rows.

    ``command``: transfers. ``burst``: bursts to request, valid only where ``depth`` beats of
    landing space hold all of the burst beside what is under way. ``beat_data``: what arrives,
    taken whenever ``beat_valid``. ``o``: the rows' chunks. ``clear`` drops everything and frees
    the landing space.
    """

    def __init__(self, bus_bytes: int, depth: int) -> None:
        log2_exact(depth)
        if depth < BURST_BEATS:
            raise ValueError(f"depth must be at least {BURST_BEATS}, not {depth!r}")
        self._bytes = bus_bytes
        self._depth = depth
        super().__init__({
            "command": In(stream.Signature(TRANSFER)),
            "burst": Out(stream.Signature(burst_layout(bus_bytes))),
            "beat_valid": In(1),
            "beat_data": In(8 * bus_bytes),
            "o": Out(stream.Signature(chunk_layout(bus_bytes))),
            "clear": In(1),
        })

    @property
    def leaf_name(self) -> str:
        return f"read_client_{self._bytes}x{self._depth}"

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

        asked = self.command.payload
        accept = Signal()
        worthy = Signal()
        m.d.comb += [
            self.command.ready.eq(queue.i.ready & rows.i.ready & ~self.clear),
            worthy.eq((asked.rows != 0) & (asked.row_bytes != 0)),
            accept.eq(self.command.valid & self.command.ready & worthy),
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


class ReadEngine(wiring.Component):
    """Reads rows of bytes at any address and stride, for each client in order.

    For each name c of ``clients`` the ports ``c_command`` (transfers, ``TRANSFER``) and ``c``
    (chunks of ``config.bus_bytes``: every row from byte 0 on, unused bytes of its last chunk
    zero); transfers simply follow one another. The other ports are channels AR and R of an AXI4
    master (``hdl.bus.axi``) and:

    flush: ask for nothing more and drop transfers and data; a chunk that is offered is withdrawn
        after the first cycle and commands wait. From ``flush`` until it is low and ``quiet`` is
        high, arriving data are dropped; then the engine is as new.
    {c}_urgent: this client goes before those that are not, but for one burst in
        ``URGENT_BURSTS`` + 1. {c}_granted: pulse, a burst of this client is requested.
    quiet: no burst is requested or awaited.
    error: pulse, a beat that is not dropped came with another response than OKAY; its data pass on.
    error_client: the index of the client that a beat is for or is awaited by; until ``quiet``.
    burst, beat: pulses, a burst was requested, a beat taken.

    A burst is requested only when its client has landing space for all of it (``depth`` beats
    each), so that a client may stall for ever without harm to the others, and ``rready`` is
    always high. At most 16 bursts are under way; one can be requested every cycle; clients that
    can go take turns, those that are urgent first.
    """

    def __init__(self, config: AcceleratorConfig, clients: tuple[str, ...],
                 depth: int = LANDING_BEATS) -> None:
        self._bytes = config.bus_bytes
        self._clients = tuple(clients)
        self._depth = depth
        members = axi.read_members(self._bytes) | {
            name: In(1) if name == "flush" else Out(1)
            for name in ("flush", "quiet", "error", "burst", "beat")}
        members["error_client"] = Out(range(len(clients)))
        if len(self._clients) < 2:
            raise ValueError(f"clients must be two names or more, not {clients!r}")
        for client in self._clients:
            if client in members or not client.isidentifier():
                raise ValueError(f"client must be a new identifier, not {client!r}")
            members[f"{client}_command"] = In(stream.Signature(TRANSFER))
            members |= {f"{client}_urgent": In(1), f"{client}_granted": Out(1)}
            members[client] = Out(stream.Signature(chunk_layout(self._bytes)))
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        draining = Signal()
        clear = Signal()
        m.d.comb += clear.eq(self.flush | draining)
        m.d.sync += draining.eq(clear & ~self.quiet)
        clients = [ReadClient(self._bytes, self._depth) for _ in self._clients]
        for name, client in zip(self._clients, clients, strict=True):
            m.submodules[f"client_{name}"] = shared(client)
            wiring.connect(m, wiring.flipped(getattr(self, f"{name}_command")), client.command)
            wiring.connect(m, client.o, wiring.flipped(getattr(self, name)))
            m.d.comb += client.clear.eq(clear)
        m.submodules.order = order = ShiftFifo(range(len(clients)), OUTSTANDING)
        self._request(m, clients, order)
        m.d.comb += [
            self.rready.eq(1),
            order.o.ready.eq(self.rvalid & self.rlast),
            self.quiet.eq(~order.o.valid),
            self.error.eq(self.rvalid & (self.rresp != axi.OKAY) & ~clear),
            self.error_client.eq(order.o.payload),
            self.burst.eq(self.arvalid & self.arready),
            self.beat.eq(self.rvalid),
        ]
        for index, client in enumerate(clients):
            m.d.comb += [
                client.beat_valid.eq(self.rvalid & (order.o.payload == index)),
                client.beat_data.eq(self.rdata),
            ]
        return m

    def _request(self, m, clients, order):
        """Grant one burst a cycle in turn, into the registers of channel AR and the order."""
        address = Signal(axi.ADDRESS_BITS, reset_less=True)
        length = Signal(8, reset_less=True)
        turn = Signal(range(len(clients)))  # the client granted last
        grant = Signal(range(len(clients)))
        wanted, pressing, pool = (Signal(len(clients), name=name)
                                  for name in ("wanted", "pressing", "pool"))
        passed = Signal(range(URGENT_BURSTS + 1))  # bursts for which others had to wait
        go = Signal()
        m.d.comb += [
            wanted.eq(Cat(client.burst.valid for client in clients)),
            pressing.eq(wanted & Cat(getattr(self, f"{name}_urgent") for name in self._clients)),
            pool.eq(Mux(pressing.any() & (passed != URGENT_BURSTS), pressing,
                        Mux(pressing == wanted, wanted, wanted & ~pressing))),
            go.eq((~self.arvalid | self.arready) & order.i.ready),
            order.i.valid.eq(go & wanted.any()),
            order.i.payload.eq(grant),
            self.araddr.eq(address),
            self.arlen.eq(length),
        ]
        axi.tie_constants(m, self, "ar", self._bytes)
        with m.Switch(turn):
            for last in range(len(clients)):
                with m.Case(last):
                    # The nearest client behind the last one wins, being assigned last.
                    for distance in range(len(clients), 0, -1):
                        index = (last + distance) % len(clients)
                        with m.If(pool[index]):
                            m.d.comb += grant.eq(index)
        with m.If(self.arready):
            m.d.sync += self.arvalid.eq(0)
        with m.If(order.i.valid):
            m.d.sync += [self.arvalid.eq(1), turn.eq(grant),
                         passed.eq(Mux((pool & pressing).any() & (pool != wanted), passed + 1, 0))]
        with m.Switch(grant):
            for index, client in enumerate(clients):
                with m.Case(index):
                    m.d.comb += [
                        client.burst.ready.eq(go),
                        getattr(self, f"{self._clients[index]}_granted").eq(order.i.valid),
                    ]
                    with m.If(order.i.valid):
                        m.d.sync += [
                            address.eq(client.burst.payload.beat << log2_exact(self._bytes)),
                            length.eq(client.burst.payload.beats - 1),
                        ]
