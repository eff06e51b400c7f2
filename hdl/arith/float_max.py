"""The larger of two lane words."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.sort_key import float_key
from hdl.spec.formats import LaneType

__all__ = ["FloatMax"]


class FloatMax(wiring.Component):
    """``o`` = the larger of ``a`` and ``b``; combinational.

    A NaN wins, +0 is larger than -0. Both inputs are clean words: no subnormals, no NaN but the
    canonical, positive one (its bits are above infinity's, so one integer comparison serves all).
    """

    def __init__(self, lane: LaneType):
        self.lane = lane
        super().__init__({"a": In(lane.bits), "b": In(lane.bits), "o": Out(lane.bits)})

    @property
    def leaf_name(self) -> str:
        return f"float_max_{self.lane.name}"

    def elaborate(self, platform):
        m = Module()
        keys = []
        for name, word in (("a_key", self.a), ("b_key", self.b)):
            key = Signal(self.lane.bits, name=name)
            m.d.comb += key.eq(float_key(word))
            keys.append(key)
        m.d.comb += self.o.eq(Mux(keys[0] < keys[1], self.b, self.a))
        return m
