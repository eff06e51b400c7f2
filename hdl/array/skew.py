"""Triangular delay lines at the edges of the array.

Each is a chain of one register a stage, so that its text grows linearly in the number of
elements although its flip-flops grow with the square.
"""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Deskew", "Skew"]


class _Triangle(wiring.Component):
    """Shared shape of both triangles.

    Ports: ``i``, ``o``, vectors of ``elements`` × ``width`` bits, element 0 lowest.
    """

    kind: str

    def __init__(self, elements: int, width: int):
        if elements < 2:
            raise ValueError(f"elements must be at least 2, not {elements!r}")
        self.elements = elements
        self.width = width
        super().__init__({"i": In(elements * width), "o": Out(elements * width)})

    @property
    def leaf_name(self) -> str:
        return f"{self.kind}_{self.elements}x{self.width}"

    def _stage(self, m: Module, index: int, value) -> Signal:
        stage = Signal(len(value), name=f"stage{index}", reset_less=True)
        m.d.sync += stage.eq(value)
        return stage


class Skew(_Triangle):
    """Delays element n by n cycles: a row of operands becomes a wavefront."""

    kind = "skew"

    def elaborate(self, platform):
        m = Module()
        outputs = [self.i[: self.width]]
        stage = self.i
        for index in range(1, self.elements):
            stage = self._stage(m, index, stage[self.width:])
            outputs.append(stage[: self.width])
        m.d.comb += self.o.eq(Cat(outputs))
        return m


class Deskew(_Triangle):
    """Delays element n by ``elements − 1 − n`` cycles: a wavefront becomes a row of results."""

    kind = "deskew"

    def elaborate(self, platform):
        m = Module()
        last = (self.elements - 1) * self.width
        stage = None
        for index in range(self.elements - 1):
            element = self.i[index * self.width : (index + 1) * self.width]
            stage = self._stage(m, index, element if stage is None else Cat(stage, element))
        m.d.comb += self.o.eq(Cat(stage, self.i[last:]))
        return m
