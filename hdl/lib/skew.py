"""Triangular delay lines at the edges of the array.

Both are built by halves, each size a shared leaf: the bits grow with the square of the number of
elements, the text and the work of emitting it do not.
"""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.leaf import shared
from hdl.lib.sram import Sram1R1W
from hdl.spec.config import log2_exact

__all__ = ["Delay", "Deskew", "Skew"]

_STORED = 8  # cycles from which on a memory delays: below, a macro is hardly smaller than registers


class Delay(wiring.Component):
    """``o`` is ``i``, ``width`` bits, ``cycles`` cycles later; ``cycles`` is a power of two.

    Longer ones are a memory that a counter goes round: of any value in their first cycles.
    """

    def __init__(self, cycles: int, width: int):
        log2_exact(cycles)
        self.cycles = cycles
        self.width = width
        super().__init__({"i": In(width), "o": Out(width)})

    @property
    def leaf_name(self) -> str:
        return f"delay_{self.cycles}x{self.width}"

    def elaborate(self, platform):
        m = Module()
        if self.cycles == 1:
            stage = Signal(self.width, reset_less=True)
            m.d.sync += stage.eq(self.i)
            m.d.comb += self.o.eq(stage)
            return m
        if self.cycles >= _STORED:
            sram = Sram1R1W(self.width, self.cycles)
            m.submodules.sram = shared(sram)
            place = Signal(range(self.cycles))
            m.d.sync += place.eq(place + 1)
            m.d.comb += [
                sram.write.enable.eq(1), sram.write.address.eq(place), sram.write.data.eq(self.i),
                # The oldest word; it takes the last cycle to its output.
                sram.read.enable.eq(1), sram.read.address.eq(place + 1), self.o.eq(sram.data),
            ]
            return m
        early, late = (Delay(self.cycles // 2, self.width) for _ in range(2))
        m.submodules.early = shared(early)
        m.submodules.late = shared(late)
        m.d.comb += [early.i.eq(self.i), late.i.eq(early.o), self.o.eq(late.o)]
        return m


class _Triangle(wiring.Component):
    """Shared shape of both triangles.

    Ports: ``i``, ``o``, vectors of ``elements`` × ``width`` bits, element 0 lowest; ``elements``
    is a power of two.
    """

    kind: str

    def __init__(self, elements: int, width: int):
        log2_exact(elements)
        self.elements = elements
        self.width = width
        super().__init__({"i": In(elements * width), "o": Out(elements * width)})

    @property
    def leaf_name(self) -> str:
        return f"{self.kind}_{self.elements}x{self.width}"

    def elaborate(self, platform):
        m = Module()
        if self.elements == 1:
            m.d.comb += self.o.eq(self.i)
            return m
        half = self.elements // 2
        low, high = (type(self)(half, self.width) for _ in range(2))
        delay = Delay(half, half * self.width)
        m.submodules.low = shared(low)
        m.submodules.high = shared(high)
        m.submodules.delay = shared(delay)
        self._join(m, low, high, delay)
        return m


class Skew(_Triangle):
    """Delays element n by n cycles: a row of operands becomes a wavefront."""

    kind = "skew"

    def _join(self, m: Module, low, high, delay) -> None:
        m.d.comb += [
            Cat(low.i, delay.i).eq(self.i),
            high.i.eq(delay.o),
            self.o.eq(Cat(low.o, high.o)),
        ]


class Deskew(_Triangle):
    """Delays element n by ``elements − 1 − n`` cycles: a wavefront becomes a row of results."""

    kind = "deskew"

    def _join(self, m: Module, low, high, delay) -> None:
        m.d.comb += [
            Cat(low.i, high.i).eq(self.i),
            delay.i.eq(low.o),
            self.o.eq(Cat(delay.o, high.o)),
        ]
