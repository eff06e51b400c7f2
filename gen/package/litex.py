"""A build as a module of LiteX: its ports as LiteX's AXI records, its interrupt as an event."""

from gen.cli import describe, describe_surroundings
from gen.design import Design, Port
from hdl.spec.config import AcceleratorConfig

__all__ = ["class_name", "litex_module"]

_TEXT = '''\
"""{top} as a module of LiteX. Generated; keep it beside {top}.v.

{config}

    self.{top} = {cls}(platform)
    self.{top}.attach(self, "{top}", 0x9000_0000)
"""

import os

from litex.gen import *
from litex.soc.integration.soc import SoCRegion
from litex.soc.interconnect import axi
from litex.soc.interconnect.csr_eventmanager import EventManager, EventSourceLevel
from migen import *


class {cls}(LiteXModule):
    """The accelerator in the clock domain {domain}.

    ctrl: the control port, an AXI-Lite slave of 32 bits, 4 KiB.
    dma: the memory port, an AXI master of {bits} bits; its addresses are cut to address_width.
    ev.ended: level, a program has ended and INTERRUPT_ENABLE lets that through.
{told}    """

    def __init__(self, platform, address_width=32{arguments}):
        self.ctrl = axi.AXILiteInterface(data_width=32, address_width=address_width)
        self.dma = axi.AXIInterface(data_width={bits}, address_width=address_width, id_width=1)
        self.ev = EventManager()
        self.ev.ended = EventSourceLevel(description="A program has ended.")
        self.ev.finalize()
{members}        ctrl, dma = self.ctrl, self.dma
        # Addresses have the ports' widths here: those of the records depend on the design.
{wires}
        self.comb += [
{assigns}
        ]
        self.specials += Instance("{top}",
{ports}
        )
        here = os.path.dirname(os.path.abspath(__file__))
        platform.add_source(os.path.join(here, "{top}.v"))

    def attach(self, soc, name, origin, irq=True):
        """Put it on the bus of soc, its registers at origin; soc has it as attribute name."""
        soc.bus.add_slave(name, self.ctrl, SoCRegion(origin=origin, size=0x1000, cached=False))
        soc.bus.add_master(name, self.dma)
        if irq:
            soc.irq.add(name, use_loc_if_exists=True)
'''

_RECORDS = {"s_axi_ctrl": "ctrl", "m_axi_gmem": "dma"}
_TOLD = {
    "control_clock": """\
    The memory port dma is in that domain too, registers and event in "sys".
""",
    "clock_enable": """\
    enable: where it is 0 an edge of the accelerator's clock changes nothing, and its ports wait.
"""}

_TAKEN = frozenset(("ClockSignal", "EventManager", "EventSourceLevel", "Instance", "LiteXModule",
                    "ResetSignal", "Signal", "SoCRegion", "False", "None", "True"))


def litex_module(design: Design, config: AcceleratorConfig) -> str:
    """The module as a file of Python, for LiteX and migen; its class is named after the top."""
    around = design.surroundings
    wires, assigns, listed = [], [], []
    for port in design.modules[design.top].ports:
        direction = port.direction[0]
        line = _line(port, around.control_clock)
        if line:
            listed.append(f"{direction}_{port.name}={line}")
            continue
        channel = next(c for c in ("aw", "ar", "w", "r", "b") if port.role.startswith(c))
        place = f"{_RECORDS[port.bus]}.{channel}.{port.role.removeprefix(channel)}"
        if port.role.endswith("addr"):
            wire = f"{_RECORDS[port.bus]}_{port.role}"
            wires.append(f"        {wire} = Signal({port.width})")
            assigns.append(f"            {place}.eq({wire})," if direction == "o"
                           else f"            {wire}.eq({place}),")
            place = wire
        listed.append(f"{direction}_{port.name}={place}")
    return _TEXT.format(
        top=design.top, cls=class_name(design.top),
        config="\n".join([describe(config), *describe_surroundings(around)]),
        domain="that is named" if around.control_clock else '"sys"',
        told="".join(text for name, text in _TOLD.items() if getattr(around, name)),
        arguments=', domain="sys"' if around.control_clock else "",
        members="        self.enable = Signal(reset=1)\n" if around.clock_enable else "",
        bits=8 * config.bus_bytes, wires="\n".join(wires), assigns="\n".join(assigns),
        ports="\n".join(f"            {line}," for line in listed))


def _line(port: Port, two_clocks: bool) -> str:
    """What a port is connected to that is none of a bus."""
    domain = "domain" if two_clocks and port.name.startswith("a") else '"sys"'
    return {"clock": f"ClockSignal({domain})", "reset": f"~ResetSignal({domain})",
            "enable": "self.enable", "interrupt": "self.ev.ended.trigger"}.get(port.role, "")


def class_name(top: str) -> str:
    """Name of the class: that of the module without underscores, each part with a capital, after
    ``Accelerator`` where that alone would be no name, or one that the text uses."""
    name = "".join(part[:1].upper() + part[1:] for part in top.split("_"))
    return name if name.isidentifier() and name not in _TAKEN else f"Accelerator{name}"
