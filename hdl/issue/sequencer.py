"""Fetches a program, checks it, hands its commands to the units and stops it when it must."""

from contextlib import contextmanager

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.issue.command_check import CommandCheck, HeaderCheck
from hdl.issue.planner import Planner
from hdl.issue.scalar_reader import ScalarReader
from hdl.issue.stopping import stop_causes, stop_states, watch_bus
from hdl.ports.counts import Counts
from hdl.ports.host import ProgramPort
from hdl.ports.memory import EnginePort, ReadClient
from hdl.ports.unit import UnitPorts
from hdl.spec.commands import COMMAND, COMMAND_BYTES, HEADER_BYTES, ErrorCause, Opcode
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.spec.timing import READERS, UNITS

__all__ = ["Sequencer"]


class Sequencer(wiring.Component):
    """Runs one program at a time; commands issue in order and overlap in the units.

    The scoreboard is one flag per unit: a command has been handed to it or is still due. A unit
    takes its next command while others work on the last one; FENCE and END wait for all of them
    and for every write response. Memory is not otherwise ordered between commands.

    The bus is stuck when it owes an answer and transfers nothing for ``config.stuck_cycles``,
    while a program runs or is being stopped.

    Members
    -------
    host: In(``ProgramPort``).
    program: Out(``ReadClient``), for headers, commands and scalars.
    units: Out(``UnitPorts``); all are offered one plan, constant until the last has taken it.
    filling: In(1), the operand unit fills an accumulation bank.
    index_failed: In(1), it met an index beyond its table.
    reader, writer: Out(``EnginePort``). writer_idle: In(1), every write has been answered.
    awaited: In, which of ``READERS`` a read is for or is awaited by, until the reader is quiet.
    core_reset: Out(1), resets all units when a program was stopped and the bus owes nothing.
    counts: Out(``Counts``).
    starts: Out(1), in a build that trains: pulse, a program starts.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "host": In(ProgramPort()), "program": Out(ReadClient(config.bus_bytes)),
            "units": Out(UnitPorts(config)), "filling": In(1), "index_failed": In(1),
            "reader": Out(EnginePort()), "writer": Out(EnginePort()), "writer_idle": In(1),
            "awaited": In(range(len(READERS))),
            "core_reset": Out(1), "counts": Out(Counts("sequencer")),
            **({"starts": Out(1)} if config.trains else {})})

    def _dispatch(self, m: Module, plan, record_address, addresses, opcode, due) -> None:
        """Offer the plan to the units that still lack it, in the order that banks demand."""
        gemm = opcode == Opcode.GEMM
        # Both fill accumulation banks; only one may do so at a time, in program order.
        allowed = {
            "operands": gemm | (self.units.feeder.idle & ~due.feeder),
            "weights": 1,
            "feeder": ~self.filling,
            # A write error then always belongs to the command that drains.
            "drain": self.writer_idle,
        }
        # Loaders run ahead of the array where it still has another command; the feeder, which comes
        # to A as its loader has grouped it, is told what that loader was.
        feeder = self.units.feeder.plan
        ahead = due.feeder & ~(feeder.valid & feeder.ready)
        for name, unit in self._ports().items():
            m.d.comb += [
                unit.plan.payload.eq(plan),
                unit.plan.payload.ahead.eq(~due.operands if name == "feeder" else ahead),
                unit.plan.valid.eq(due[name] & allowed[name]),
            ]
            with m.If(unit.plan.valid & unit.plan.ready):
                m.d.sync += [due[name].eq(0), addresses[name].eq(record_address)]

    def _ports(self) -> dict[str, wiring.PureInterface]:
        """The units by their names."""
        return {name: getattr(self.units, name) for name in UNITS}

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.header = header = HeaderCheck(config)
        m.submodules.check = check = CommandCheck(config)
        m.submodules.planner = planner = Planner(config)

        record = Signal(8 * COMMAND_BYTES, reset_less=True)
        address = Signal(64, reset_less=True)
        remaining = Signal(32, reset_less=True)
        due = Signal(data.StructLayout({unit: 1 for unit in UNITS}))
        addresses = {unit: Signal(64, name=f"{unit}_address", reset_less=True) for unit in UNITS}
        opcode = record[: COMMAND["opcode"].bits]
        m.d.comb += [
            header.record.eq(record[8 * (COMMAND_BYTES - HEADER_BYTES):]),
            check.record.eq(record), planner.record.eq(record),
            planner.rowwise.eq(check.rowwise), planner.stored.eq(check.stored),
            planner.count.eq(check.count),
            self.program.transfer.payload.address.eq(address),
            self.program.transfer.payload.rows.eq(1),
        ]
        scalars = self._scalars(m, header, record)
        self._dispatch(m, planner.plan, address, addresses, opcode, due)

        running, abort = Signal(), Signal()
        fail, failure = Signal(), Signal(ErrorCause)
        cause = Signal(ErrorCause, reset_less=True)
        stuck = watch_bus(m, self, running, config.stuck_cycles)
        stop, stop_cause, stop_address = stop_causes(m, self, running, stuck, addresses, address)
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
            self._header_states(m, state, refuse, header, record, address, remaining, scalars)
            self._command_states(m, state, check, planner, record, due, cause, scalars)
            self._end_states(m, state, refuse, opcode, address, remaining, due, cause)
            stop_states(m, self, stuck)
        host = self.host
        m.d.comb += [host.busy.eq(~fsm.ongoing("IDLE")), host.reset_done.eq(~host.busy),
                     running.eq(host.busy & ~fsm.ongoing("FLUSH") & ~fsm.ongoing("RESET")),
                     host.failure.address.eq(Mux(stop, stop_address, address)),
                     self.counts.cycles.eq(host.busy), self.counts.active.eq(~self._settled())]
        # What goes wrong with earlier commands comes before what is wrong with the next one.
        with m.If(abort):
            m.d.comb += [
                host.failure.causes.bit_select(Mux(stop, stop_cause, failure), 1).eq(1),
                host.done.eq(0), self.counts.commands.eq(0), self.program.transfer.valid.eq(0),
            ]
            m.d.sync += due.eq(0)
        return m

    def _scalars(self, m: Module, header, record) -> ScalarReader | None:
        """The reader of immediates that stand in memory, in a build that trains."""
        if not self.config.trains:
            return None
        m.submodules.scalars = scalars = ScalarReader(self.config.bus_bytes)
        m.d.comb += scalars.table.eq(header.scalars)
        scalars.serve(m, record)
        return scalars

    def _settled(self) -> Value:
        """No unit holds a command and every write has been answered."""
        return Cat(unit.idle for unit in self._ports().values()).all() & self.writer_idle

    def _receive(self, m: Module, record, following: str) -> None:
        """Shift a transfer's beats into the record, the first lowest."""
        beats = self.program.beats
        with m.If(beats.valid):
            m.d.comb += beats.ready.eq(1)
            m.d.sync += record.eq(Cat(record, beats.payload.data)[8 * self.config.bus_bytes:])
            with m.If(beats.payload.last):
                m.next = following

    def _header_states(self, m, state, refuse, header, record, address, remaining, scalars
                       ) -> None:
        with m.State("IDLE"):
            with m.If(self.host.start & ~self.host.bus_stuck):
                m.d.sync += address.eq(self.host.address)
                if self.config.trains:
                    m.d.comb += self.starts.eq(1)
                m.next = "REQUEST_HEADER"
        with state("REQUEST_HEADER"):
            misaligned = address[: log2_exact(HEADER_BYTES)].any()
            refuse(misaligned, ErrorCause.MISALIGNED)
            m.d.comb += [self.program.transfer.valid.eq(~misaligned),
                         self.program.transfer.payload.row_bytes.eq(HEADER_BYTES)]
            with m.If(self.program.transfer.ready):
                m.next = "HEADER"
        with state("HEADER"):
            self._receive(m, record, "CHECK_HEADER")
        with state("CHECK_HEADER"):
            refuse(header.failed, header.cause)
            if scalars is not None:
                m.d.comb += scalars.header.eq(1)
            with m.If(~header.failed):
                m.d.sync += [remaining.eq(header.commands), address.eq(address + HEADER_BYTES)]
                m.next = "REQUEST"

    def _command_states(self, m, state, check, planner, record, due, cause, scalars) -> None:
        opcode = record[: COMMAND["opcode"].bits]
        wait = Signal(range(Planner.LATENCY + 1))
        with state("REQUEST"):
            m.d.comb += [self.program.transfer.valid.eq(1),
                         self.program.transfer.payload.row_bytes.eq(COMMAND_BYTES)]
            with m.If(self.program.transfer.ready):
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
                ready = ~planner.oversize
                if scalars is not None:
                    ready = ready & ~scalars.wanted.any()
                    with m.If(scalars.wanted.any() & scalars.odd):
                        m.d.sync += cause.eq(ErrorCause.MISALIGNED)
                    with m.Elif(scalars.wanted.any() & ~planner.oversize):
                        m.d.comb += scalars.start.eq(1)
                        m.next = "SCALARS"
                with m.If(ready):
                    self._hand_out(m, opcode, due)
        if scalars is not None:
            with state("SCALARS"):
                scalars.borrow(m, self.program)
                with m.If(scalars.done):
                    self._hand_out(m, opcode, due)

    @staticmethod
    def _hand_out(m: Module, opcode, due) -> None:
        """The command is due to its units; a VECTOR brings its operands without the array."""
        gemm = opcode == Opcode.GEMM
        m.d.sync += [due.operands.eq(1), due.weights.eq(gemm), due.feeder.eq(gemm),
                     due.drain.eq(1)]
        m.next = "DISPATCH"

    def _end_states(self, m, state, refuse, opcode, address, remaining, due, cause) -> None:
        settled = self._settled()

        def following():
            m.d.sync += [address.eq(address + COMMAND_BYTES), remaining.eq(remaining - 1)]
            m.d.comb += self.counts.commands.eq(1)
            m.next = "REQUEST"
            with m.If(remaining == 1):
                m.d.sync += cause.eq(ErrorCause.BAD_LENGTH)
                m.next = "REFUSE"

        with state("DISPATCH"):
            with m.If(due.as_value() == 0):
                following()
        with state("SETTLE"):
            with m.If(settled & (opcode == Opcode.FENCE)):
                following()
            with m.Elif(settled):
                m.d.comb += [self.counts.commands.eq(1), self.host.done.eq(1)]
                m.next = "IDLE"
        # The commands before one that is refused are valid: they finish first.
        with state("REFUSE"):
            refuse(settled, cause)
