"""Immediates of a command that are read from the program's table of scalars."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.ports.memory import ReadPort
from hdl.spec.commands import COMMAND

__all__ = ["ScalarReader"]

_IMMEDIATES = tuple(field.scalar for field in COMMAND.values() if field.scalar)
_BYTES = 2


class ScalarReader(wiring.Component):
    """Reads the words of the scalars that a command takes, both asked for before one is awaited.

    Members
    -------
    table: In(64), the address of scalar 0, taken with ``header``, In(1), pulse. odd: Out(1), it is.
    imm0, imm1: In(16), their numbers; wanted: In(2), which of the two are scalars. They are stable
        from ``start`` to ``done``.
    start: In(1), pulse; reads that were given up before are forgotten.
    memory: Out(``ReadPort``).
    found: Out(2), pulses: ``word``, Out(16), is that immediate.
    done: Out(1), with the last of them.
    """

    def __init__(self, bus_bytes: int):
        super().__init__({
            "table": In(64), "header": In(1), "odd": Out(1), "imm0": In(16), "imm1": In(16),
            "wanted": In(2), "start": In(1), "memory": Out(ReadPort(bus_bytes)),
            "found": Out(2), "word": Out(8 * _BYTES), "done": Out(1)})

    def serve(self, m: Module, record: Value) -> None:
        """Take what is wanted from a command's ``record``, and put the words into their places."""
        def bits(name):
            field = COMMAND[name]
            return record[field.offset:field.offset + field.bits]

        m.d.comb += self.wanted.eq(Cat(bits(f"{name}_scalar") for name in _IMMEDIATES))
        for name, found in zip(_IMMEDIATES, self.found, strict=True):
            m.d.comb += getattr(self, name).eq(bits(name))
            with m.If(found):
                m.d.sync += bits(name).eq(self.word)

    def borrow(self, m: Module, client: wiring.PureInterface) -> None:
        """Read through ``client``, which has other transfers at other times."""
        transfer, beats = self.memory.transfer, self.memory.beats
        m.d.comb += [
            client.transfer.valid.eq(transfer.valid),
            client.transfer.payload.eq(transfer.payload),
            transfer.ready.eq(client.transfer.ready),
            beats.valid.eq(client.beats.valid), beats.payload.eq(client.beats.payload),
            client.beats.ready.eq(beats.ready),
        ]

    def elaborate(self, platform):
        m = Module()
        table = Signal.like(self.table, reset_less=True)
        ask, due = (Signal.like(self.wanted, name=name) for name in ("ask", "due"))
        transfer, beats = self.memory.transfer, self.memory.beats
        number = Mux(ask[0], self.imm0, self.imm1)
        with m.If(self.header):
            m.d.sync += table.eq(self.table)
        m.d.comb += [
            self.odd.eq(table[0]),
            transfer.valid.eq(ask.any()), transfer.payload.rows.eq(1),
            transfer.payload.address.eq(table + Cat(Const(0, 1), number)),
            transfer.payload.row_bytes.eq(_BYTES),
            # A row comes from byte 0 on.
            beats.ready.eq(due.any()), self.word.eq(beats.payload.data),
            self.found.eq(Mux(beats.valid, due & Cat(1, ~due[0]), 0)),
            self.done.eq(beats.valid & ~due.all()),
        ]
        with m.If(transfer.ready):
            m.d.sync += ask.eq(ask & Cat(0, ask[0]))
        with m.If(beats.valid):
            m.d.sync += due.eq(due & ~self.found)
        with m.If(self.start):
            m.d.sync += [ask.eq(self.wanted), due.eq(self.wanted)]
        return m
