"""Multiplication of lane words."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..spec.formats import LaneType
from .float_word import infinity, pack, unpack

__all__ = ["FloatMultiplier"]


class FloatMultiplier(wiring.Component):
    """``o`` = ``a`` × ``b``; combinational.

    One rounding to nearest even with unbounded exponent, then underflow to a zero of the
    product's sign and overflow to infinity; subnormal inputs are zeros of their sign. Zero times
    infinity and any NaN give the canonical NaN. Source: numerics of the vector unit.
    """

    def __init__(self, lane: LaneType):
        self.lane = lane
        super().__init__({"a": In(lane.bits), "b": In(lane.bits), "o": Out(lane.bits)})

    @property
    def leaf_name(self) -> str:
        return f"float_multiply_{self.lane.name}"

    def elaborate(self, platform):
        m = Module()
        lane = self.lane
        a = unpack(m, lane, self.a, "a")
        b = unpack(m, lane, self.b, "b")
        product = Signal(2 * lane.fraction_bits + 2)
        normalised = Signal(len(product) - 1)
        high = product[-1]
        exponent = Signal(range(-lane.bias, 2 << lane.exponent_bits))
        sign = Signal()
        m.d.comb += [
            product.eq(a.significand * b.significand),
            # In [1, 4): the last bit is never lost, it only joins those below the guard.
            normalised.eq(Mux(high, Cat(product[0] | product[1], product[2:]), product[:-1])),
            exponent.eq(a.exponent + b.exponent - lane.bias + high),
            sign.eq(a.sign ^ b.sign),
        ]
        kept = lane.fraction_bits + 2
        magnitude = pack(m, lane, exponent, normalised[-kept:], normalised[:-kept].any(), "result")

        is_zero = Signal()
        is_special = Signal()
        m.d.comb += [
            is_zero.eq(a.is_zero | b.is_zero),
            is_special.eq(a.is_special | b.is_special),
        ]
        with m.If(a.is_nan | b.is_nan | is_zero & is_special):
            m.d.comb += self.o.eq(lane.nan)
        with m.Elif(is_special):
            m.d.comb += self.o.eq(Cat(Const(infinity(lane), lane.bits - 1), sign))
        with m.Elif(is_zero):
            m.d.comb += self.o.eq(Cat(Const(0, lane.bits - 1), sign))
        with m.Else():
            m.d.comb += self.o.eq(Cat(magnitude, sign))
        return m
