"""The accelerator: memory engines, control registers, sequencer and datapath, with AXI ports."""

from amaranth.hdl import (
    ClockDomain,
    ClockSignal,
    DomainRenamer,
    EnableInserter,
    Module,
    ResetSignal,
    Signal,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.bus import axi
from hdl.bus.read_engine import ReadEngine
from hdl.bus.write_engine import WriteEngine
from hdl.core import Core
from hdl.host.csr_block import CsrBlock
from hdl.issue.sequencer import Sequencer
from hdl.lib.leaf import enable
from hdl.lib.synchroniser import synchronised
from hdl.spec.config import AcceleratorConfig
from hdl.spec.surroundings import Surroundings
from hdl.spec.timing import READ_BEFORE, READERS, landing_beats

__all__ = ["Accelerator"]


class Accelerator(wiring.Component):
    """A build of ``config``; as a module its ports are flat (``gen.top``).

    Members
    -------
    aclk, aresetn: In(1), clock and active-low reset of everything, but for a control port with
        its own; synchronous or not, as ``surroundings`` says.
    aclken: In(1), of a build with a clock enable: where it is 0, an edge of ``aclk`` changes
        nothing, a synchronous reset excepted.
    s_axi_ctrl_aclk, s_axi_ctrl_aresetn: In(1), of a build whose control port has a clock of its
        own: its clock and active-low reset.
    s_axi_ctrl: In(``axi.LiteSignature``): ``hdl.spec.registers``.
    m_axi_gmem: Out(``axi.Signature``) of ``bus_bytes``: programs and tensors.
    interrupt: Out(1), level, a program ended and that event is enabled; at the control port's
        clock.
    """

    def __init__(self, config: AcceleratorConfig, surroundings: Surroundings | None = None):
        self.config = config
        self.surroundings = surroundings or Surroundings()
        super().__init__({
            "aclk": In(1), "aresetn": In(1), "interrupt": Out(1),
            **({"aclken": In(1)} if self.surroundings.clock_enable else {}),
            **({"s_axi_ctrl_aclk": In(1), "s_axi_ctrl_aresetn": In(1)}
               if self.surroundings.control_clock else {}),
            "s_axi_ctrl": In(axi.LiteSignature()),
            "m_axi_gmem": Out(axi.Signature(config.bus_bytes, self.surroundings.address_bits)),
        })

    def elaborate(self, platform):
        m = Module()
        config, surroundings = self.config, self.surroundings.on(self.config.bus_bytes)
        bus = {name: getattr(surroundings, name)
               for name in ("outstanding", "burst", "address_bits")}
        m.submodules.csr = csr = CsrBlock(config, surroundings.control_clock)
        m.submodules.sequencer = sequencer = Sequencer(config)
        m.submodules.reader = reader = ReadEngine(
            config, READERS, {name: landing_beats(name, config.bus_bytes) for name in READERS},
            before=READ_BEFORE, repeating={"y": config.row_depth}, **bus)
        m.submodules.writer = writer = WriteEngine(config, **bus)
        core = Core(config)
        m.submodules.core = DomainRenamer("core")(core)
        self._clocks(m, sequencer.core_reset)
        self._interrupt(m, csr.interrupt)
        wiring.connect(m, wiring.flipped(self.s_axi_ctrl), csr.axi)
        wiring.connect(m, reader.axi, wiring.flipped(self.m_axi_gmem.read))
        wiring.connect(m, writer.axi, wiring.flipped(self.m_axi_gmem.write))

        wiring.connect(m, csr.program, sequencer.host)
        wiring.connect(m, sequencer.units, core.units)
        wiring.connect(m, sequencer.reader, reader.engine)
        wiring.connect(m, sequencer.writer, writer.engine)
        m.d.comb += [
            sequencer.filling.eq(core.filling), sequencer.index_failed.eq(core.index_failed),
            sequencer.writer_idle.eq(writer.idle), sequencer.awaited.eq(reader.awaited),
        ]
        if config.trains:
            m.d.comb += core.starts.eq(sequencer.starts)
        wiring.connect(m, sequencer.program, reader.program)
        wiring.connect(m, core.operands, reader.operands)
        wiring.connect(m, core.weights, reader.weights)
        wiring.connect(m, core.y, reader.y)
        wiring.connect(m, core.results, writer.client)

        wiring.connect(m, sequencer.counts, csr.counts.sequencer)
        wiring.connect(m, core.counts, csr.counts.core)
        wiring.connect(m, reader.counts, csr.counts.reader)
        wiring.connect(m, writer.counts, csr.counts.writer)
        return self._enabled(m)

    def _clocks(self, m: Module, core_reset: Signal) -> None:
        """The domains, whose clocks and resets are ports; ``core_reset`` resets one of them too."""
        own = {"local": True, "async_reset": self.surroundings.asynchronous}
        m.domains.sync = ClockDomain(**own)
        m.domains.core = ClockDomain(**own)
        if self.surroundings.asynchronous:
            # What resets registers without a clock must not be logic, which has glitches.
            held = Signal(name="core_reset_held")
            m.d.sync += held.eq(core_reset)
            core_reset = held
        m.d.comb += [
            ClockSignal("sync").eq(self.aclk), ResetSignal("sync").eq(~self.aresetn),
            ClockSignal("core").eq(self.aclk),
            ResetSignal("core").eq(~self.aresetn | core_reset),
        ]
        if self.surroundings.control_clock:
            m.domains.control = ClockDomain(**own)
            m.d.comb += [ClockSignal("control").eq(self.s_axi_ctrl_aclk),
                         ResetSignal("control").eq(~self.s_axi_ctrl_aresetn)]

    def _interrupt(self, m: Module, interrupt: Signal) -> None:
        """The port, at the clock of the control port."""
        if not self.surroundings.control_clock:
            m.d.comb += self.interrupt.eq(interrupt)
            return
        pending = Signal(name="interrupt_pending")
        m.d.sync += pending.eq(interrupt)
        m.d.comb += self.interrupt.eq(synchronised(m, pending, "control"))

    def _enabled(self, m: Module):
        """``m``, whose registers at ``aclk`` change only with ``aclken`` where there is one."""
        if not self.surroundings.clock_enable:
            return m
        leaves = enable()
        if leaves is not None:
            m.d.comb += leaves.eq(self.aclken)
        return EnableInserter({"sync": self.aclken, "core": self.aclken})(m)
