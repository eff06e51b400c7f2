"""1/sqrt(x) of a lane word, by table."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.float_word import largest
from hdl.arith.segments import evaluate, scale_to_word
from hdl.spec.formats import LaneType
from hdl.spec.tables import INVERSE_SQRT

__all__ = ["InverseSqrt"]


class InverseSqrt(wiring.Component):
    """``result`` = 1 / sqrt(``value``), words of ``lane``, combinational.

    The table of ``hdl.spec.tables``, in every softmax mode. Zeros and subnormals of either sign
    give the largest finite value, other negative words and NaN the canonical NaN, infinity +0.
    ``taken``: the type that the result is rounded to by what takes it, where that is narrower: 1/√0
    is its largest finite value, which no rounding makes infinite.
    """

    def __init__(self, lane: LaneType, taken: LaneType | None = None):
        self.lane = lane
        self.taken = lane if taken is None else taken
        super().__init__({"value": In(lane.bits), "result": Out(lane.bits)})

    @property
    def leaf_name(self) -> str:
        return f"inverse_sqrt_{self.lane.name}" + (
            "" if self.taken is self.lane else f"_for_{self.taken.name}")

    def elaborate(self, platform):
        m = Module()
        lane = self.lane
        segments = INVERSE_SQRT[lane].segments
        fraction = self.value[:lane.fraction_bits]
        exponent = self.value[lane.fraction_bits:-1]
        is_even = Signal()
        field = Signal(range(256))
        m.d.comb += [
            is_even.eq(~exponent[0]),
            field.eq(189 + is_even - exponent[1:]),
        ]
        kept = segments.argument_bits - 1
        significand = evaluate(m, segments, Cat(fraction[-kept:], is_even))
        magnitude, _, _ = scale_to_word(m, lane, segments.result_bits, field, significand)
        with m.If(~exponent.any()):
            m.d.comb += self.result.eq(largest(self.taken) << lane.bits - self.taken.bits)
        with m.Elif(self.value[-1] | (exponent.all() & fraction.any())):
            m.d.comb += self.result.eq(lane.nan)
        with m.Elif(exponent.all()):
            m.d.comb += self.result.eq(0)
        with m.Else():
            m.d.comb += self.result.eq(magnitude)
        return m
