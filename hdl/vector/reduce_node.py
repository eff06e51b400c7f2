"""Two partial results of a row's reduction made one."""

from amaranth.hdl import Cat, Const, Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.cut import cut_name, holder
from hdl.arith.float_adder import FloatAdder
from hdl.arith.float_max import FloatMax
from hdl.lib.leaf import shared
from hdl.spec.formats import BINARY32, LaneType

__all__ = ["ReduceNode"]


class ReduceNode(wiring.Component):
    """``o`` = ``a`` + ``b`` in FP32, or the larger where ``is_max``; combinational, or ``cuts``
    cycles later.

    ``a``, ``b``: FP32 words; for a maximum of BF16 words their low halves are zero. ``first``: lane
    words, so that half of a BF16 addition is constant.
    """

    def __init__(self, lane: LaneType, first: bool = False, cuts: int = 0):
        self.lane = lane
        self.first = first
        self.cuts = cuts
        bits = lane.bits if first else 32
        super().__init__({"a": In(bits), "b": In(bits), "is_max": In(1), "o": Out(32)})

    @property
    def leaf_name(self) -> str:
        return cut_name(f"reduce_{'first' if self.first else 'node'}_{self.lane.name}", self.cuts)

    def elaborate(self, platform):
        m = Module()
        adder = FloatAdder(BINARY32, self.cuts)
        larger = FloatMax(self.lane)
        m.submodules.adder = shared(adder)
        m.submodules.larger = shared(larger)
        below = 32 - self.lane.bits
        a, b = (Cat(Const(0, below), word) if self.first else word for word in (self.a, self.b))
        moving = Const(1, 1) if self.cuts else None
        if self.cuts:
            m.d.comb += adder.enable.eq(moving)
        found = holder(m, moving, self.cuts)(larger.o, "larger")
        m.d.comb += [
            adder.a.eq(a), adder.b.eq(b), larger.a.eq(a[below:]), larger.b.eq(b[below:]),
            self.o.eq(Mux(self.is_max, Cat(Const(0, below), found), adder.o)),
        ]
        return m
