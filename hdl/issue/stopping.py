"""What ends a program from outside its own text, and how the accelerator comes to rest after it.

Parts of the sequencer, whose members ``ports`` has: they drive ``host``, the engines' ``flush`` and
``core_reset``.
"""

from amaranth.hdl import Module, Mux, Signal

from hdl.spec.commands import ErrorCause
from hdl.spec.registers import CLIENTS
from hdl.spec.timing import READERS

__all__ = ["stop_causes", "stop_states", "watch_bus"]

_WRITER = len(READERS)  # the client that writes, after those that read
_UNIT_OF = {"operands": "operands", "weights": "weights", "y": "drain", "results": "drain"}
"""The unit whose command a client of the memory engines works for; the others have none."""


def watch_bus(m: Module, ports, running, stuck_cycles: int):
    """High when the bus has owed something for ``stuck_cycles`` without a transfer.

    From then on the host may start nothing, nor once the bus gave what nobody asked for, running
    or not.
    """
    patience = Signal(range(stuck_cycles + 1))
    stuck = Signal()
    m.d.comb += stuck.eq(patience == stuck_cycles)
    # What the bus owes comes as data or, for a write, as an answer.
    moved = ports.reader.moved | ports.writer.moved | ports.writer.answered
    with m.If((ports.reader.quiet & ports.writer.quiet) | moved):
        m.d.sync += patience.eq(0)
    with m.Elif(~stuck):
        m.d.sync += patience.eq(patience + 1)
    unasked = ports.reader.unasked | ports.writer.unasked
    with m.If((running & stuck) | unasked):
        m.d.sync += ports.host.bus_stuck.eq(1)
    with m.If(unasked):
        m.d.comb += ports.host.failure.causes[ErrorCause.BUS_STUCK].eq(1)
    return stuck


def stop_causes(m: Module, ports, running, stuck, addresses, current):
    """Events that end a program from outside its own text: whether, cause and address."""
    cause, stop = Signal(ErrorCause), Signal()
    address = Signal(64)
    cycles = Signal(32)
    with m.If(~running):
        m.d.sync += cycles.eq(0)
    with m.Else():
        m.d.sync += cycles.eq(cycles + 1)
    host, read, write = ports.host, ports.reader.failure, ports.writer.failure
    expired = (host.watchdog_limit != 0) & (cycles >= host.watchdog_limit)
    client, response = Signal.like(host.failure.client), Signal.like(read.response)
    m.d.comb += [address.eq(current),
                 client.eq(Mux(ports.reader.quiet, _WRITER, ports.awaited))]
    with m.If(read.valid):
        m.d.comb += [cause.eq(ErrorCause.READ_ERROR), response.eq(read.response)]
    with m.Elif(write.valid):
        m.d.comb += [cause.eq(ErrorCause.WRITE_ERROR), response.eq(write.response),
                     client.eq(_WRITER)]
    with m.Elif(ports.index_failed):
        m.d.comb += [cause.eq(ErrorCause.INDEX_RANGE), address.eq(addresses["operands"])]
    with m.Elif(stuck | host.bus_stuck):
        m.d.comb += cause.eq(ErrorCause.BUS_STUCK)
    with m.Elif(host.stop | host.soft_reset):
        m.d.comb += cause.eq(ErrorCause.STOPPED)
    with m.Else():
        m.d.comb += cause.eq(ErrorCause.WATCHDOG)
    bus = read.valid | write.valid | stuck
    m.d.comb += stop.eq(running & (bus | host.bus_stuck | ports.index_failed | host.stop
                                   | host.soft_reset | expired))
    with m.If(bus):
        m.d.comb += [host.failure.client.eq(client), host.failure.response.eq(response)]
        with m.Switch(client):
            for index, (name, _) in enumerate(CLIENTS):
                if name in _UNIT_OF:  # else it is the program's own: the current address
                    with m.Case(index):
                        m.d.comb += address.eq(addresses[_UNIT_OF[name]])
    return stop, cause, address


def stop_states(m: Module, ports, stuck) -> None:
    """Wait until the bus is owed nothing, but not for ever, then reset the units."""
    with m.State("FLUSH"):
        m.d.comb += [ports.reader.flush.eq(1), ports.writer.flush.eq(1)]
        with m.If((ports.reader.quiet & ports.writer.quiet) | ports.host.bus_stuck):
            m.next = "RESET"
        with m.Elif(stuck):
            m.d.comb += ports.host.failure.causes[ErrorCause.BUS_STUCK].eq(1)
            m.d.sync += ports.host.bus_stuck.eq(1)
            m.next = "RESET"
    with m.State("RESET"):
        # The units still offer what they had: the engines must not take it now.
        m.d.comb += [ports.reader.flush.eq(1), ports.writer.flush.eq(1),
                     ports.core_reset.eq(1), ports.host.failed.eq(1)]
        m.next = "IDLE"
