"""A word of a fixed lane times a BF16 factor."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.cut import cut_members, cut_name, holder
from hdl.arith.fixed_word import FACTOR_POINT, WORD_POINT, factor, held, place
from hdl.spec.formats import BFLOAT16, FIXED32

__all__ = ["FixedMultiplier"]

_LIFT = 25
"""By how much a product is moved up at most: its significand's hidden bit alone then is beyond."""
_LEVELS = 7


class FixedMultiplier(wiring.Component):
    """``o`` = ``x`` × ``y``, rounded once to nearest even and clipped; combinational, or with as
    many registers as there are ``cuts`` between product and rounding, which move with ``enable``.

    Members
    -------
    x: In, a word. y: In, a BF16 word; a subnormal is zero, what is not finite counts as the largest
        finite value of its sign.
    scale: In(2), x · y · 2^(16 · ``scale``) is meant: 1 where x is an accumulator, whose unit is 1,
        2 where y is so too.
    o: Out, a word. beyond: Out(1), it is clipped.
    """

    def __init__(self, cuts: int = 0):
        self.cuts = cuts
        super().__init__({
            "x": In(FIXED32.bits), "y": In(BFLOAT16.bits), "scale": In(2),
            "o": Out(FIXED32.bits), "beyond": Out(1), **cut_members(cuts)})

    @property
    def leaf_name(self) -> str:
        return cut_name("fixed_multiply", self.cuts)

    def elaborate(self, platform):
        m = Module()
        hold = holder(m, self.enable if self.cuts else None, self.cuts)
        y = factor(m, BFLOAT16, self.y, "y")
        product = Signal(FIXED32.bits + len(y.significand))
        m.d.comb += product.eq(self.x.as_signed() * y.significand)
        right = held(m, _LIFT + FACTOR_POINT - y.exponent - self.scale * WORD_POINT, _LEVELS,
                     "right")
        found = place(m, hold(product, "product"), hold(right, "right"), _LIFT, FIXED32.bits,
                      "result", negate=hold(y.negative, "negative"))
        m.d.comb += [self.o.eq(found.word), self.beyond.eq(found.beyond)]
        return m
