"""Fetches a program, checks it, hands its commands to the units and stops it when it must."""

from contextlib import contextmanager

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus.transfer import TRANSFER
from hdl.issue.command_check import CommandCheck, HeaderCheck
from hdl.issue.planner import Planner
from hdl.lib.chunk import chunk_layout
from hdl.ports.plan import plan_layout
from hdl.spec.commands import COMMAND, COMMAND_BYTES, HEADER_BYTES, ErrorCause, Opcode
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.spec.timing import READERS, UNITS

__all__ = ["Sequencer"]

WRITER = len(READERS)
"""What writes, beside the ``READERS`` that ``read_client`` counts."""


class Sequencer(wiring.Component):
    """Runs one program at a time; commands issue in order and overlap in the units.

    The scoreboard is one flag a unit: a command has been handed to it or is still due. A unit
    takes its next command while others work on the last one; FENCE and END wait for all of them
    and for every write response. Memory is not otherwise ordered between commands.

    Ports
    -----
    start, stop, soft_reset: pulses from the host. program_address, watchdog_limit: its settings.
    transfer, chunks: client ``program`` of the read engine.
    plan: for all units, constant while any ``{unit}_valid`` is up; ``{unit}_ready`` takes it.
    {unit}_idle: no command inside. filling: the operand unit fills an accumulation bank.
    index_failed: it met an index beyond its table.
    writer_idle: every write has been answered.
    read_error, write_error: pulses, an answer that is not OKAY: ``read_response``,
        ``write_response``; read_client: the one of ``READERS`` that a read is for or awaited by.
    bus_progress: something was transferred on the bus.
    flush: drop what is under way; read_quiet, write_quiet: nothing is outstanding on the bus.
    core_reset: resets all units after that.
    busy, bus_stuck: status. done_event, failed_event, command_done: pulses.
    error_set: pulse, one bit an ``ErrorCause``; error_address, error_client (of ``CLIENTS``)
        and error_response belong to it.

    The bus is stuck when it owes an answer and transfers nothing for ``config.stuck_cycles``,
    while a program runs or is being stopped.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        members = {
            "start": In(1), "stop": In(1), "soft_reset": In(1),
            "program_address": In(64), "watchdog_limit": In(32),
            "transfer": Out(stream.Signature(TRANSFER)),
            "chunks": In(stream.Signature(chunk_layout(config.bus_bytes))),
            "plan": Out(plan_layout(config)), "filling": In(1), "index_failed": In(1),
            "writer_idle": In(1),
            "read_error": In(1), "read_response": In(2), "read_client": In(range(len(READERS))),
            "write_error": In(1), "write_response": In(2), "bus_progress": In(1),
            "flush": Out(1), "read_quiet": In(1), "write_quiet": In(1), "core_reset": Out(1),
            "busy": Out(1), "bus_stuck": Out(1), "done_event": Out(1), "failed_event": Out(1),
            "command_done": Out(1), "error_set": Out(len(ErrorCause)), "error_address": Out(64),
            "error_client": Out(3), "error_response": Out(2),
        }
        for unit in UNITS:
            members |= {f"{unit}_valid": Out(1), f"{unit}_ready": In(1), f"{unit}_idle": In(1)}
        super().__init__(members)

    def _stop_causes(self, m: Module, running, stuck, addresses, current):
        """Events that end a program from outside its own text: cause and address."""
        cause, stop = Signal(ErrorCause), Signal()
        address = Signal(64)
        cycles = Signal(32)
        with m.If(~running):
            m.d.sync += cycles.eq(0)
        with m.Else():
            m.d.sync += cycles.eq(cycles + 1)
        expired = (self.watchdog_limit != 0) & (cycles >= self.watchdog_limit)
        client, response = Signal.like(self.error_client), Signal.like(self.error_response)
        m.d.comb += [address.eq(current), client.eq(Mux(self.read_quiet, WRITER, self.read_client))]
        with m.If(self.read_error):
            m.d.comb += [cause.eq(ErrorCause.READ_ERROR), response.eq(self.read_response)]
        with m.Elif(self.write_error):
            m.d.comb += [cause.eq(ErrorCause.WRITE_ERROR), response.eq(self.write_response),
                         client.eq(WRITER)]
        with m.Elif(self.index_failed):
            m.d.comb += [cause.eq(ErrorCause.INDEX_RANGE), address.eq(addresses["operands"])]
        with m.Elif(stuck):
            m.d.comb += cause.eq(ErrorCause.BUS_STUCK)
        with m.Elif(self.stop | self.soft_reset):
            m.d.comb += cause.eq(ErrorCause.STOPPED)
        with m.Else():
            m.d.comb += cause.eq(ErrorCause.WATCHDOG)
        bus = self.read_error | self.write_error | stuck
        m.d.comb += stop.eq(running & (bus | self.index_failed | self.stop | self.soft_reset
                                        | expired))
        with m.If(bus):
            m.d.comb += [self.error_client.eq(client), self.error_response.eq(response)]
            with m.Switch(client):
                for index, unit in enumerate(("operands", "weights", "drain", "drain"), 1):
                    with m.Case(index):
                        m.d.comb += address.eq(addresses[unit])
        return stop, cause, address

    def _dispatch(self, m: Module, record_address, addresses, opcode, due) -> None:
        """Offer the plan to the units that still lack it, in the order that banks demand."""
        gemm = opcode == Opcode.GEMM
        # Both fill accumulation banks; only one may do so at a time, in program order.
        allowed = {
            "operands": gemm | (self.feeder_idle & ~due[UNITS.index("feeder")]),
            "weights": 1,
            "feeder": ~self.filling,
            # A write error then always belongs to the command that drains.
            "drain": self.writer_idle,
        }
        for index, unit in enumerate(UNITS):
            valid, ready = getattr(self, f"{unit}_valid"), getattr(self, f"{unit}_ready")
            m.d.comb += valid.eq(due[index] & allowed[unit])
            with m.If(valid & ready):
                m.d.sync += [due[index].eq(0), addresses[unit].eq(record_address)]

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.header = header = HeaderCheck(config)
        m.submodules.check = check = CommandCheck(config)
        m.submodules.planner = planner = Planner(config)

        record = Signal(8 * COMMAND_BYTES, reset_less=True)
        address = Signal(64, reset_less=True)
        remaining = Signal(32, reset_less=True)
        due = Signal(len(UNITS))
        addresses = {unit: Signal(64, name=f"{unit}_address", reset_less=True) for unit in UNITS}
        opcode = record[: COMMAND["opcode"].bits]
        m.d.comb += [
            header.record.eq(record[8 * (COMMAND_BYTES - HEADER_BYTES):]),
            check.record.eq(record), planner.record.eq(record),
            planner.rowwise.eq(check.rowwise), planner.stored.eq(check.stored),
            planner.count.eq(check.count), self.plan.eq(planner.plan),
            self.transfer.payload.address.eq(address),
            self.transfer.payload.rows.eq(1),
        ]
        self._dispatch(m, address, addresses, opcode, due)

        running, abort = Signal(), Signal()
        fail, failure = Signal(), Signal(ErrorCause)
        cause = Signal(ErrorCause, reset_less=True)
        stuck = self._watch_bus(m, running)
        stop, stop_cause, stop_address = self._stop_causes(m, running, stuck, addresses, address)
        m.d.comb += abort.eq(running & (stop | fail))

        @contextmanager
        def state(name):
            with m.State(name):
                yield
                with m.If(abort):
                    m.next = "FLUSH"

        def refuse(failed, cause):
            m.d.comb += [fail.eq(failed), failure.eq(cause)]

        with m.FSM() as fsm:
            self._header_states(m, state, refuse, header, record, address, remaining)
            self._command_states(m, state, check, planner, record, due, cause)
            self._end_states(m, state, refuse, opcode, address, remaining, due, cause)
            self._stop_states(m, stuck)
        m.d.comb += [self.busy.eq(~fsm.ongoing("IDLE")),
                     running.eq(self.busy & ~fsm.ongoing("FLUSH") & ~fsm.ongoing("RESET"))]
        m.d.comb += self.error_address.eq(Mux(stop, stop_address, address))
        # What goes wrong with earlier commands comes before what is wrong with the next one.
        with m.If(abort):
            m.d.comb += [
                self.error_set.bit_select(Mux(stop, stop_cause, failure), 1).eq(1),
                self.done_event.eq(0), self.command_done.eq(0), self.transfer.valid.eq(0),
            ]
            m.d.sync += due.eq(0)
        return m

    def _receive(self, m: Module, record, following: str) -> None:
        """Shift a transfer's beats into the record, the first lowest."""
        with m.If(self.chunks.valid):
            m.d.comb += self.chunks.ready.eq(1)
            m.d.sync += record.eq(
                Cat(record, self.chunks.payload.data)[8 * self.config.bus_bytes:])
            with m.If(self.chunks.payload.last):
                m.next = following

    def _header_states(self, m, state, refuse, header, record, address, remaining) -> None:
        with m.State("IDLE"):
            with m.If(self.start & ~self.bus_stuck):
                m.d.sync += address.eq(self.program_address)
                m.next = "REQUEST_HEADER"
        with state("REQUEST_HEADER"):
            misaligned = address[: log2_exact(HEADER_BYTES)].any()
            refuse(misaligned, ErrorCause.MISALIGNED)
            m.d.comb += [self.transfer.valid.eq(~misaligned),
                         self.transfer.payload.row_bytes.eq(HEADER_BYTES)]
            with m.If(self.transfer.ready):
                m.next = "HEADER"
        with state("HEADER"):
            self._receive(m, record, "CHECK_HEADER")
        with state("CHECK_HEADER"):
            refuse(header.failed, header.cause)
            with m.If(~header.failed):
                m.d.sync += [remaining.eq(header.commands), address.eq(address + HEADER_BYTES)]
                m.next = "REQUEST"

    def _command_states(self, m, state, check, planner, record, due, cause) -> None:
        opcode = record[: COMMAND["opcode"].bits]
        wait = Signal(range(Planner.LATENCY + 1))
        with state("REQUEST"):
            m.d.comb += [self.transfer.valid.eq(1),
                         self.transfer.payload.row_bytes.eq(COMMAND_BYTES)]
            with m.If(self.transfer.ready):
                m.next = "COMMAND"
        with state("COMMAND"):
            self._receive(m, record, "SCAN")
        with state("SCAN"):
            m.d.comb += check.start.eq(1)
            m.next = "CHECK"
        with state("CHECK"):
            m.d.sync += wait.eq(Planner.LATENCY)
            m.d.sync += cause.eq(check.cause)
            with m.If(check.done):
                m.next = "PLAN"
                with m.If(check.failed):
                    m.next = "REFUSE"
        with state("PLAN"):
            m.d.sync += wait.eq(wait - 1)
            with m.If((opcode == Opcode.FENCE) | (opcode == Opcode.END)):
                m.next = "SETTLE"
            with m.Elif(wait == 0):
                m.d.sync += cause.eq(ErrorCause.OVERSIZE)
                m.next = "REFUSE"
                with m.If(~planner.oversize):
                    m.d.sync += due.eq(Mux(opcode == Opcode.GEMM, 0b1111, 0b1001))
                    m.next = "DISPATCH"

    def _end_states(self, m, state, refuse, opcode, address, remaining, due, cause) -> None:
        settled = Cat(getattr(self, f"{unit}_idle") for unit in UNITS).all() & self.writer_idle

        def following():
            m.d.sync += [address.eq(address + COMMAND_BYTES), remaining.eq(remaining - 1)]
            m.d.comb += self.command_done.eq(1)
            m.next = "REQUEST"
            with m.If(remaining == 1):
                m.d.sync += cause.eq(ErrorCause.BAD_LENGTH)
                m.next = "REFUSE"

        with state("DISPATCH"):
            with m.If(due == 0):
                following()
        with state("SETTLE"):
            with m.If(settled & (opcode == Opcode.FENCE)):
                following()
            with m.Elif(settled):
                m.d.comb += [self.command_done.eq(1), self.done_event.eq(1)]
                m.next = "IDLE"
        # The commands before one that is refused are valid: they finish first.
        with state("REFUSE"):
            refuse(settled, cause)

    def _watch_bus(self, m: Module, running):
        """High when the bus has owed something for too long without a transfer."""
        patience = Signal(range(self.config.stuck_cycles + 1))
        stuck = Signal()
        m.d.comb += stuck.eq(patience == self.config.stuck_cycles)
        with m.If((self.read_quiet & self.write_quiet) | self.bus_progress):
            m.d.sync += patience.eq(0)
        with m.Elif(~stuck):
            m.d.sync += patience.eq(patience + 1)
        with m.If(running & stuck):
            m.d.sync += self.bus_stuck.eq(1)
        return stuck

    def _stop_states(self, m: Module, stuck) -> None:
        """Wait until the bus is owed nothing, but not for ever, then reset the units."""
        with m.State("FLUSH"):
            m.d.comb += self.flush.eq(1)
            with m.If((self.read_quiet & self.write_quiet) | self.bus_stuck):
                m.next = "RESET"
            with m.Elif(stuck):
                m.d.comb += self.error_set.bit_select(Const(ErrorCause.BUS_STUCK, 4), 1).eq(1)
                m.d.sync += self.bus_stuck.eq(1)
                m.next = "RESET"
        with m.State("RESET"):
            # The units still offer what they had: the engines must not take it now.
            m.d.comb += [self.flush.eq(1), self.core_reset.eq(1), self.failed_event.eq(1)]
            m.next = "IDLE"
