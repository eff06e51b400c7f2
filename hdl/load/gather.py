"""Gathering: rows of a table, named by indices in memory."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.ports.plan import COUNT_BITS
from hdl.ports.transfer import TRANSFER
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import INDEX_BYTES

__all__ = ["Gather", "request_layout"]


def request_layout() -> data.StructLayout:
    """A transfer; ``index``: of indices, else of rows, the ``first`` or ``last`` of what was asked
    for."""
    return data.StructLayout({"transfer": TRANSFER, "index": 1, "first": 1, "last": 1})


class Gather(wiring.Component):
    """Cuts a transfer of rows of X into one per row, where indices name the rows of a table.

    Indices come a word of D elements at a time; the next word is asked for before the rows of the
    last one, so that its latency is hidden. A row's address is found by shifts and additions, in as
    many cycles as its index has bits, while earlier rows are in flight.

    Members
    -------
    by_index: In(1), transfers are cut, else they pass unchanged in the same cycle. Stable while
        one is here.
    i: In(stream of ``TRANSFER``). With ``by_index`` its address is that of the columns in the
        table's row 0 and it is taken together with its last row; it may be withdrawn once its first
        request is offered.
    indices: In, address of the index of the transfer's first row. limit: In, rows of the table.
        Both as ``i``.
    o: Out(stream of ``request_layout``), in order.
    words_valid, words: In, those of ``index`` as they come back.
    failed: Out(1), an index is not below ``limit``: neither its row nor anything after it is asked
        for.
    idle: Out(1), no transfer is here.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "by_index": In(1), "i": In(stream.Signature(TRANSFER)),
            "indices": In(64), "limit": In(COUNT_BITS),
            "o": Out(stream.Signature(request_layout())),
            "words_valid": In(1), "words": In(8 * config.word_bytes),
            "failed": Out(1), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        busy, first = Signal(), Signal()
        left = Signal(COUNT_BITS, reset_less=True)  # rows that are not asked for
        taken, row = Signal(), Signal()
        held, count, asks, ask = self._indices(m, busy, taken, row)
        address = self._address(m, held, count, asks, taken, row)
        request = self.o.payload
        m.d.comb += [
            self.idle.eq(~busy),
            self.o.valid.eq(Mux(self.by_index, asks | row, self.i.valid)),
            request.transfer.eq(self.i.payload),
            request.first.eq(1), request.last.eq(1),
        ]
        with m.If(asks):
            m.d.comb += [request.transfer.eq(ask), request.index.eq(1)]
        with m.Elif(self.by_index):
            m.d.comb += [
                request.transfer.address.eq(address), request.transfer.rows.eq(1),
                request.first.eq(first), request.last.eq(left == 1),
            ]
        m.d.comb += self.i.ready.eq(
            Mux(self.by_index, row & request.last & self.o.ready, self.o.ready))
        with m.If(self.by_index & ~busy & self.i.valid):
            m.d.sync += [busy.eq(1), first.eq(1), left.eq(self.i.payload.rows)]
        with m.If(row & self.o.ready):
            m.d.sync += [first.eq(0), left.eq(left - 1)]
            with m.If(request.last):
                m.d.sync += busy.eq(0)
        return m

    def _indices(self, m: Module, busy, taken, row):
        """The indices in hand and their number, ``taken`` one by one; whether more are asked for,
        and by which transfer."""
        room = self.config.word_bytes // INDEX_BYTES
        held, coming = (Signal(8 * self.config.word_bytes, name=name, reset_less=True)
                        for name in ("held", "coming"))
        count, arrived = Signal(range(room + 1)), Signal(range(room + 1))
        amount = Signal.like(count)
        unasked = Signal(COUNT_BITS)
        awaited, asks = Signal(), Signal()
        address = Signal(64, reset_less=True)
        ask = Signal(TRANSFER)
        m.d.comb += [
            amount.eq(Mux(unasked < room, unasked, room)),
            ask.address.eq(address), ask.rows.eq(1), ask.row_bytes.eq(amount * INDEX_BYTES),
            asks.eq(busy & (unasked != 0) & ~awaited & ~row & (arrived == 0)),
        ]
        requested = Signal.like(count, reset_less=True)
        with m.If(self.by_index & ~busy & self.i.valid):
            m.d.sync += [unasked.eq(self.i.payload.rows), address.eq(self.indices)]
        with m.If(asks & self.o.ready):
            m.d.sync += [awaited.eq(1), requested.eq(amount), unasked.eq(unasked - amount),
                         address.eq(address + self.config.word_bytes)]
        with m.If(self.words_valid):
            m.d.sync += [awaited.eq(0), arrived.eq(requested), coming.eq(self.words)]
        with m.If((count == 0) & (arrived != 0)):
            m.d.sync += [count.eq(arrived), arrived.eq(0), held.eq(coming)]
        with m.Elif(taken):
            m.d.sync += [count.eq(count - 1), held.eq(held >> 8 * INDEX_BYTES)]
        return held, count, asks, ask

    def _address(self, m: Module, held, count, asks, taken, row) -> Signal:
        """The address of the row of the index ``taken`` last, complete with ``row``."""
        address, addend = Signal(64, reset_less=True), Signal(64, reset_less=True)
        factor = Signal(COUNT_BITS, reset_less=True)
        index = held[:8 * INDEX_BYTES]
        with m.FSM():
            with m.State("TAKE"):
                with m.If(count != 0):
                    with m.If(index >= self.limit):
                        m.next = "FAILED"
                    with m.Else():
                        m.d.comb += taken.eq(1)
                        m.d.sync += [address.eq(self.i.payload.address), factor.eq(index),
                                     addend.eq(self.i.payload.stride)]
                        m.next = "MULTIPLY"
            with m.State("MULTIPLY"):
                with m.If(factor[0]):
                    m.d.sync += address.eq(address + addend)
                m.d.sync += [addend.eq(addend << 1), factor.eq(factor >> 1)]
                # What is offered stays until it is taken.
                with m.If((factor == 0) & ~asks):
                    m.next = "ROW"
            with m.State("ROW"):
                m.d.comb += row.eq(1)
                with m.If(self.o.ready):
                    m.next = "TAKE"
            with m.State("FAILED"):
                m.d.comb += self.failed.eq(1)
        return address
