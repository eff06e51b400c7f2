"""The only place where a memory is written down, so that a foundry macro can replace it."""

from amaranth.hdl import ClockSignal, Instance, Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.leaf import macro

__all__ = ["Sram1R1W"]


class Sram1R1W(wiring.Component):
    """``depth`` words of ``width`` bits; one synchronous write port, one read port.

    ``write_enable`` has one bit, or one for each ``granularity`` bits of a word, the lowest first.
    ``read_data`` follows ``read_address`` by one cycle where ``read_enable`` is set and otherwise
    holds. A read of the address that is written in the same cycle gives the old or an undefined
    word, and so does a read of a word never written: users avoid both.
    """

    def __init__(self, width: int, depth: int, granularity: int | None = None) -> None:
        if width < 1 or depth < 2:
            raise ValueError(f"width and depth must be at least 1 and 2, not {width!r}, {depth!r}")
        if granularity is not None and (granularity < 1 or width % granularity):
            raise ValueError(f"granularity must divide width {width}, not {granularity!r}")
        self.width = width
        self.depth = depth
        self.granularity = granularity
        super().__init__({
            "write_address": In(range(depth)),
            "write_data": In(width),
            "write_enable": In(width // granularity if granularity else 1),
            "read_address": In(range(depth)),
            "read_enable": In(1),
            "read_data": Out(width),
        })

    @property
    def leaf_name(self) -> str:
        suffix = f"_by{self.granularity}" if self.granularity else ""
        return f"ottava_sram_1r1w_{self.width}x{self.depth}{suffix}"

    def elaborate(self, platform):
        m = Module()
        name = macro("ottava_sram_1r1w")
        if name is None:
            self._storage(m)
            return m
        m.submodules.ram = Instance(
            name, p_WIDTH=self.width, p_DEPTH=self.depth,
            p_GRANULARITY=self.granularity or self.width, i_clk=ClockSignal(),
            i_write_address=self.write_address, i_write_data=self.write_data,
            i_write_enable=self.write_enable, i_read_address=self.read_address,
            i_read_enable=self.read_enable, o_read_data=self.read_data)
        return m

    def _storage(self, m: Module) -> None:
        """The same memory for a simulator of Amaranth, which cannot look into Verilog."""
        m.submodules.storage = storage = memory.Memory(
            shape=self.width, depth=self.depth, init=[])
        write = storage.write_port(granularity=self.granularity)
        read = storage.read_port()
        m.d.comb += [
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            write.en.eq(self.write_enable),
            read.addr.eq(self.read_address),
            read.en.eq(self.read_enable),
            self.read_data.eq(read.data),
        ]
