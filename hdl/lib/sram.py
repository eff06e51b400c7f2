"""The only place where a memory is written down, so that a foundry macro can replace it."""

from amaranth.hdl import ClockSignal, Instance, Module, Mux
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.leaf import enable, macro
from hdl.ports.sram import SramRead, SramWrite

__all__ = ["Sram1R1W"]


class Sram1R1W(wiring.Component):
    """``depth`` words of ``width`` bits; one synchronous write port, one read port.

    A read of the address that is written in the same cycle gives the old or an undefined word, and
    so does a read of a word never written: users avoid both.

    Members
    -------
    write: In(``SramWrite``), with one bit of ``enable`` for each ``granularity`` bits of a word.
    read: In(``SramRead``).
    data: Out(``width``), one cycle after an enabled read, until the next.

    Raises
    ------
    ValueError: ``width`` or ``depth`` is too small, or ``granularity`` does not divide ``width``.
    """

    def __init__(self, width: int, depth: int, granularity: int | None = None) -> None:
        if width < 1 or depth < 2:
            raise ValueError(f"width and depth must be at least 1 and 2, not {width!r}, {depth!r}")
        if granularity is not None and (granularity < 1 or width % granularity):
            raise ValueError(f"granularity must divide width {width}, not {granularity!r}")
        self.width = width
        self.depth = depth
        self.granularity = granularity
        parts = width // granularity if granularity else 1
        super().__init__({"write": In(SramWrite(width, depth, parts)), "read": In(SramRead(depth)),
                          "data": Out(width)})

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
        on, writes, reads = enable(), self.write.enable, self.read.enable
        if on is not None:
            writes, reads = Mux(on, writes, 0), reads & on
        m.submodules.ram = Instance(
            name, p_WIDTH=self.width, p_DEPTH=self.depth,
            p_GRANULARITY=self.granularity or self.width, i_clk=ClockSignal(),
            i_write_address=self.write.address, i_write_data=self.write.data,
            i_write_enable=writes, i_read_address=self.read.address,
            i_read_enable=reads, o_read_data=self.data)
        return m

    def _storage(self, m: Module) -> None:
        """The same memory for a simulator of Amaranth, which cannot look into Verilog."""
        m.submodules.storage = storage = memory.Memory(
            shape=self.width, depth=self.depth, init=[])
        write = storage.write_port(granularity=self.granularity)
        read = storage.read_port()
        m.d.comb += [
            write.addr.eq(self.write.address),
            write.data.eq(self.write.data),
            write.en.eq(self.write.enable),
            read.addr.eq(self.read.address),
            read.en.eq(self.read.enable),
            self.data.eq(read.data),
        ]
