"""The accelerator: memory engines, control registers, sequencer and datapath, with AXI ports."""

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.bus import axi
from hdl.bus.read_engine import ReadEngine
from hdl.bus.write_engine import WriteEngine
from hdl.core import Core
from hdl.host.csr_block import CsrBlock
from hdl.issue.sequencer import Sequencer
from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import READERS

__all__ = ["Accelerator"]


class Accelerator(wiring.Component):
    """A build of ``config``; as a module its ports are flat (``gen.top``).

    Members
    -------
    aclk, aresetn: In(1), clock and synchronous active-low reset of everything.
    s_axi_ctrl: In(``axi.LiteSignature``): ``hdl.spec.registers``.
    m_axi_gmem: Out(``axi.Signature``) of ``bus_bytes``: programs and tensors.
    interrupt: Out(1), level, a program ended and that event is enabled.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "aclk": In(1), "aresetn": In(1), "interrupt": Out(1),
            "s_axi_ctrl": In(axi.LiteSignature()),
            "m_axi_gmem": Out(axi.Signature(config.bus_bytes)),
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
        return m
