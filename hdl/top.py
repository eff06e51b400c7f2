"""The accelerator: memory engines, control registers, sequencer and datapath behind AXI ports."""

from amaranth.hdl import Cat, ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.bus import axi
from hdl.bus.read_engine import ReadEngine
from hdl.bus.write_engine import WriteEngine
from hdl.core import CORE_COUNTERS, Core
from hdl.host.csr_block import CsrBlock
from hdl.issue.sequencer import Sequencer
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import READERS, UNITS

__all__ = ["Accelerator"]

_CONTROL, _MEMORY = "s_axi_ctrl_", "m_axi_gmem_"


class Accelerator(wiring.Component):
    """The top module of a build of ``config``.

    Ports
    -----
    aclk, aresetn: clock and synchronous active-low reset of everything.
    s_axi_ctrl_*: AXI4-Lite slave, 32 data bits, 12 address bits: ``hdl.spec.registers``.
    m_axi_gmem_*: AXI4 master, 64 address bits, ``bus_bytes`` of data: programs and tensors.
    interrupt: level, a program ended and that event is enabled.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        memory = axi.read_members(config.bus_bytes) | axi.write_members(config.bus_bytes)
        super().__init__({
            "aclk": In(1), "aresetn": In(1), "interrupt": Out(1),
            **{_CONTROL + name: member for name, member in axi.lite_members().items()},
            **{_MEMORY + name: member for name, member in memory.items()},
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.domains.sync = ClockDomain(local=True)
        m.domains.core = ClockDomain(local=True)
        m.submodules.csr = csr = CsrBlock(config)
        m.submodules.sequencer = sequencer = Sequencer(config)
        m.submodules.reader = reader = ReadEngine(config, READERS)
        m.submodules.writer = writer = WriteEngine(config)
        core = Core(config)
        m.submodules.core = DomainRenamer("core")(core)
        m.d.comb += [
            ClockSignal("sync").eq(self.aclk), ResetSignal("sync").eq(~self.aresetn),
            ClockSignal("core").eq(self.aclk),
            ResetSignal("core").eq(~self.aresetn | sequencer.core_reset),
            self.interrupt.eq(csr.interrupt),
        ]
        axi.attach(m, self, _CONTROL, csr, axi.lite_members())
        axi.attach(m, self, _MEMORY, reader, axi.read_members(config.bus_bytes))
        axi.attach(m, self, _MEMORY, writer, axi.write_members(config.bus_bytes))

        wiring.connect(m, sequencer.transfer, reader.program_command)
        wiring.connect(m, reader.program, sequencer.chunks)
        for name in READERS[1:]:
            wiring.connect(m, getattr(core, f"{name}_transfer"), getattr(reader, f"{name}_command"))
            wiring.connect(m, getattr(reader, name), getattr(core, f"{name}_chunks"))
        wiring.connect(m, core.c_transfer, writer.command)
        wiring.connect(m, core.c_chunks, writer.i)
        m.d.comb += [
            core.plan.eq(sequencer.plan), sequencer.filling.eq(core.filling),
            sequencer.index_failed.eq(core.index_failed),
            reader.operands_urgent.eq(core.operands_urgent),
            reader.weights_urgent.eq(core.weights_urgent),
            core.weights_granted.eq(reader.weights_granted),
        ]
        for unit in UNITS:
            m.d.comb += [
                getattr(core, f"{unit}_valid").eq(getattr(sequencer, f"{unit}_valid")),
                getattr(sequencer, f"{unit}_ready").eq(getattr(core, f"{unit}_ready")),
                getattr(sequencer, f"{unit}_idle").eq(getattr(core, f"{unit}_idle")),
            ]
        self._control(m, csr, sequencer, reader, writer)
        self._counters(m, csr, sequencer, reader, writer, core)
        return m

    def _control(self, m: Module, csr, sequencer, reader, writer) -> None:
        m.d.comb += [
            sequencer.start.eq(csr.start), sequencer.stop.eq(csr.stop),
            sequencer.soft_reset.eq(csr.soft_reset),
            sequencer.program_address.eq(csr.program_address),
            sequencer.watchdog_limit.eq(csr.watchdog_limit),
            sequencer.writer_idle.eq(writer.idle),
            sequencer.read_error.eq(reader.error), sequencer.read_client.eq(reader.error_client),
            sequencer.read_response.eq(self.m_axi_gmem_rresp),
            sequencer.write_error.eq(writer.error),
            sequencer.write_response.eq(self.m_axi_gmem_bresp),
            sequencer.bus_progress.eq(reader.beat | writer.beat
                                      | (self.m_axi_gmem_bvalid & self.m_axi_gmem_bready)),
            sequencer.read_quiet.eq(reader.quiet), sequencer.write_quiet.eq(writer.quiet),
            reader.flush.eq(sequencer.flush), writer.flush.eq(sequencer.flush),
            csr.busy.eq(sequencer.busy), csr.bus_stuck.eq(sequencer.bus_stuck),
            csr.done_event.eq(sequencer.done_event), csr.failed_event.eq(sequencer.failed_event),
            csr.error_set.eq(sequencer.error_set), csr.error_address.eq(sequencer.error_address),
            csr.error_client.eq(sequencer.error_client),
            csr.error_response.eq(sequencer.error_response),
            csr.soft_reset_done.eq(~sequencer.busy),
        ]

    def _counters(self, m: Module, csr, sequencer, reader, writer, core) -> None:
        settled = Cat(getattr(core, f"{unit}_idle") for unit in UNITS).all() & writer.idle
        m.d.comb += [
            csr.count_cycles.eq(sequencer.busy), csr.count_active.eq(~settled),
            csr.count_commands.eq(sequencer.command_done),
            csr.count_read_bursts.eq(reader.burst), csr.count_read_beats.eq(reader.beat),
            csr.count_write_bursts.eq(writer.burst), csr.count_write_beats.eq(writer.beat),
        ]
        m.d.comb += [getattr(csr, f"count_{name}").eq(getattr(core, f"count_{name}"))
                     for name in CORE_COUNTERS]
