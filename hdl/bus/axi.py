"""AXI4 and AXI4-Lite as signatures, seen from the master.

The signals have the names of the standard, each with its channel's prefix. Every burst is INCR,
full width, ID 0; the memory is declared normal, non-cacheable, bufferable (AxCACHE 0011).
"""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.ports.parametric import Parametric
from hdl.spec.config import log2_exact

__all__ = [
    "ADDRESS_BITS", "CONTROL_ADDRESS_BITS", "OKAY", "LiteSignature", "ReadSignature", "Signature",
    "WriteSignature", "tie_constants",
]

ADDRESS_BITS = 64
CONTROL_ADDRESS_BITS = 12
OKAY = 0

_INCR = 1
_BUFFERABLE = 0b0011


def _address_members(channel: str, address_bits: int) -> dict[str, wiring.Member]:
    widths = {"id": 1, "addr": address_bits, "len": 8, "size": 3, "burst": 2, "lock": 1,
              "cache": 4, "prot": 3, "qos": 4, "valid": 1}
    members = {channel + name: Out(width) for name, width in widths.items()}
    return members | {channel + "ready": In(1)}


def _checked(bus_bytes: int, address_bits: int) -> dict[str, int]:
    if not isinstance(bus_bytes, int) or bus_bytes < 1 or bus_bytes & (bus_bytes - 1):
        raise ValueError(f"bus_bytes must be a power of two, not {bus_bytes!r}")
    return {"bus_bytes": bus_bytes, "address_bits": address_bits}


class ReadSignature(Parametric):
    """Channels AR and R of an AXI4 master.

    Members
    -------
    arid, araddr, arlen, arsize, arburst, arlock, arcache, arprot, arqos, arvalid: Out.
    arready: In(1).
    rid, rdata (8 · ``bus_bytes``), rresp, rlast, rvalid: In.
    rready: Out(1).

    Raises
    ------
    ValueError: ``bus_bytes`` is not a power of two.
    """

    def __init__(self, bus_bytes: int, address_bits: int = ADDRESS_BITS) -> None:
        super().__init__(_checked(bus_bytes, address_bits), {
            **_address_members("ar", address_bits),
            "rid": In(1), "rdata": In(8 * bus_bytes), "rresp": In(2), "rlast": In(1),
            "rvalid": In(1), "rready": Out(1)})


class WriteSignature(Parametric):
    """Channels AW, W and B of an AXI4 master.

    Members
    -------
    awid, awaddr, awlen, awsize, awburst, awlock, awcache, awprot, awqos, awvalid: Out.
    awready: In(1).
    wdata (8 · ``bus_bytes``), wstrb, wlast, wvalid: Out.
    wready: In(1).
    bid, bresp, bvalid: In.
    bready: Out(1).

    Raises
    ------
    ValueError: ``bus_bytes`` is not a power of two.
    """

    def __init__(self, bus_bytes: int, address_bits: int = ADDRESS_BITS) -> None:
        super().__init__(_checked(bus_bytes, address_bits), {
            **_address_members("aw", address_bits),
            "wdata": Out(8 * bus_bytes), "wstrb": Out(bus_bytes), "wlast": Out(1),
            "wvalid": Out(1), "wready": In(1),
            "bid": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1)})


class Signature(Parametric):
    """An AXI4 master whose reads and writes are independent.

    Members
    -------
    read: Out(``ReadSignature``).
    write: Out(``WriteSignature``).
    """

    def __init__(self, bus_bytes: int, address_bits: int = ADDRESS_BITS) -> None:
        super().__init__(_checked(bus_bytes, address_bits), {
            "read": Out(ReadSignature(bus_bytes, address_bits)),
            "write": Out(WriteSignature(bus_bytes, address_bits))})


class LiteSignature(Parametric):
    """An AXI4-Lite master of 32 data bits and ``CONTROL_ADDRESS_BITS`` address bits.

    Members
    -------
    awaddr, awprot, awvalid, wdata, wstrb, wvalid, bready, araddr, arprot, arvalid, rready: Out.
    awready, wready, bresp, bvalid, arready, rdata, rresp, rvalid: In.
    """

    def __init__(self) -> None:
        super().__init__({}, {
            "awaddr": Out(CONTROL_ADDRESS_BITS), "awprot": Out(3), "awvalid": Out(1),
            "awready": In(1),
            "wdata": Out(32), "wstrb": Out(4), "wvalid": Out(1), "wready": In(1),
            "bresp": In(2), "bvalid": In(1), "bready": Out(1),
            "araddr": Out(CONTROL_ADDRESS_BITS), "arprot": Out(3), "arvalid": Out(1),
            "arready": In(1),
            "rdata": In(32), "rresp": In(2), "rvalid": In(1), "rready": Out(1)})


def tie_constants(m: Module, port: wiring.PureInterface, channel: str, bus_bytes: int) -> None:
    """Drive what never changes on the address channel ``ar`` or ``aw`` of ``port``."""
    values = {"id": 0, "size": log2_exact(bus_bytes), "burst": _INCR, "lock": 0,
              "cache": _BUFFERABLE, "prot": 0, "qos": 0}
    m.d.comb += [getattr(port, channel + name).eq(value) for name, value in values.items()]
