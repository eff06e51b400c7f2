"""AXI4 and AXI4-Lite as flat tables of port names, seen from our side of the bus.

Ports of the top are ``m_axi_gmem_`` or ``s_axi_ctrl_`` and these names. Every burst is INCR, full
width, ID 0; the memory is declared normal, non-cacheable, bufferable (AxCACHE 0011).
"""

from collections.abc import Mapping

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.spec.config import log2_exact

__all__ = [
    "ADDRESS_BITS",
    "CONTROL_ADDRESS_BITS",
    "OKAY",
    "attach",
    "lite_members",
    "read_members",
    "tie_constants",
    "write_members",
]

ADDRESS_BITS = 64
CONTROL_ADDRESS_BITS = 12
OKAY = 0

_INCR = 1
_BUFFERABLE = 0b0011


def _address_members(channel: str) -> dict[str, wiring.Member]:
    widths = {"id": 1, "addr": ADDRESS_BITS, "len": 8, "size": 3, "burst": 2, "lock": 1,
              "cache": 4, "prot": 3, "qos": 4, "valid": 1}
    members = {channel + name: Out(width) for name, width in widths.items()}
    return members | {channel + "ready": In(1)}


def read_members(bus_bytes: int) -> dict[str, wiring.Member]:
    """Channels AR and R of an AXI4 master."""
    return _address_members("ar") | {
        "rid": In(1), "rdata": In(8 * bus_bytes), "rresp": In(2), "rlast": In(1),
        "rvalid": In(1), "rready": Out(1),
    }


def write_members(bus_bytes: int) -> dict[str, wiring.Member]:
    """Channels AW, W and B of an AXI4 master."""
    return _address_members("aw") | {
        "wdata": Out(8 * bus_bytes), "wstrb": Out(bus_bytes), "wlast": Out(1),
        "wvalid": Out(1), "wready": In(1),
        "bid": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1),
    }


def lite_members() -> dict[str, wiring.Member]:
    """All channels of an AXI4-Lite slave of 32 data bits."""
    return {
        "awaddr": In(CONTROL_ADDRESS_BITS), "awprot": In(3), "awvalid": In(1), "awready": Out(1),
        "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
        "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
        "araddr": In(CONTROL_ADDRESS_BITS), "arprot": In(3), "arvalid": In(1), "arready": Out(1),
        "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1),
    }


def tie_constants(m: Module, port: wiring.Component, channel: str, bus_bytes: int) -> None:
    """Drive what never changes on the address channel ``ar`` or ``aw`` of ``port``."""
    values = {"id": 0, "size": log2_exact(bus_bytes), "burst": _INCR, "lock": 0,
              "cache": _BUFFERABLE, "prot": 0, "qos": 0}
    m.d.comb += [getattr(port, channel + name).eq(value) for name, value in values.items()]


def attach(m: Module, outer: wiring.Component, prefix: str, inner: wiring.Component,
           members: Mapping[str, wiring.Member]) -> None:
    """Join ``inner``'s ports to those of its parent ``outer`` called ``prefix`` + name."""
    for name, member in members.items():
        outside, inside = getattr(outer, prefix + name), getattr(inner, name)
        m.d.comb += outside.eq(inside) if member.flow is Out else inside.eq(outside)
