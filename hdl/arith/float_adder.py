"""Addition of lane words."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.cut import cut_members, cut_name, holders
from hdl.arith.float_word import infinity, normalise, pack, unpack
from hdl.lib import ripple
from hdl.spec.formats import LaneType

__all__ = ["FloatAdder"]

_PLACES = ("aligned", "added", "normalised")
_TAKEN = ((), ("added",), ("aligned", "added"), _PLACES)


class FloatAdder(wiring.Component):
    """``o`` = ``a`` + ``b``, or ``a`` - ``b`` where ``subtract``; combinational, or ``cuts`` cycles
    with ``enable`` later: registers after the addition, the alignment and the normalisation.

    One rounding to nearest even; subnormals in and out are zeros of their sign; overflow gives
    infinity. An exact zero is +0 unless both addends are -0. Infinity minus infinity and any NaN
    give the canonical NaN. Source: numerics of the vector unit; single path, one normaliser.
    """

    def __init__(self, lane: LaneType, cuts: int = 0):
        self.lane = lane
        self.cuts = cuts
        super().__init__({
            "a": In(lane.bits), "b": In(lane.bits), "subtract": In(1), "o": Out(lane.bits),
            **cut_members(cuts),
        })

    @property
    def leaf_name(self) -> str:
        return cut_name(f"float_add_{self.lane.name}", self.cuts)

    def _ordered(self, m):
        """Both addends, the larger magnitude first."""
        lane = self.lane
        magnitude_bits = lane.bits - 1
        b_sign = Signal()
        swap = Signal()
        large_word = Signal(lane.bits)
        small_word = Signal(lane.bits)
        signed_b = Cat(self.b[:-1], b_sign)
        m.d.comb += [
            b_sign.eq(self.b[-1] ^ self.subtract),
            swap.eq(self.a[:magnitude_bits] < self.b[:magnitude_bits]),
            large_word.eq(Mux(swap, signed_b, self.a)),
            small_word.eq(Mux(swap, self.a, signed_b)),
        ]
        return unpack(m, lane, large_word, "large"), unpack(m, lane, small_word, "small")

    def elaborate(self, platform):
        m = Module()
        lane = self.lane
        large, small = self._ordered(m)
        aligned_hold, added_hold, normalised_hold = holders(m, self, _PLACES, _TAKEN)
        opposite = large.sign ^ small.sign
        is_nan = large.is_nan | small.is_nan | large.is_special & small.is_special & opposite
        both_negative = large.sign & small.sign
        aligned, extra = self._align(m, large, small)

        def past(hold, *names):
            """What of the larger addend, and of the result's class, a register takes along."""
            nonlocal large, is_nan, both_negative
            is_nan, both_negative = hold(is_nan, "is_nan"), hold(both_negative, "zero_sign")
            large = large._replace(**{name: hold(getattr(large, name), f"large_{name}")
                                      for name in names})

        aligned, extra = aligned_hold(aligned, "aligned"), aligned_hold(extra, "extra")
        opposite = aligned_hold(opposite, "opposite")
        past(aligned_hold, "sign", "exponent", "is_special", "significand")
        sum_ = self._add(m, large, aligned, opposite, extra)
        sum_, extra = added_hold(sum_, "sum"), added_hold(extra, "extra")
        past(added_hold, "sign", "exponent", "is_special")
        shifted, zeros = normalise(m, sum_, "sum")

        # The sum has one bit above the larger significand's; an exact zero has exponent 0 or less
        # only by its empty significand, hence the explicit test.
        exponent = Signal(range(-len(sum_), (1 << lane.exponent_bits) + 1))
        m.d.comb += exponent.eq(large.exponent + 1 - zeros)
        below = Signal()
        kept = lane.fraction_bits + 2
        m.d.comb += below.eq(shifted[:-kept].any() | extra)
        exponent, below = (normalised_hold(exponent, "exponent"),
                           normalised_hold(below, "below"))
        shifted = normalised_hold(shifted[-kept:], "shifted")
        past(normalised_hold, "sign", "is_special")
        magnitude = pack(m, lane, exponent, shifted, below, "result")

        is_zero = Signal()
        m.d.comb += is_zero.eq(~shifted[-1])
        with m.If(is_nan):
            m.d.comb += self.o.eq(lane.nan)
        with m.Elif(large.is_special):
            m.d.comb += self.o.eq(Cat(Const(infinity(lane), lane.bits - 1), large.sign))
        with m.Elif(is_zero):
            m.d.comb += self.o.eq(Cat(Const(0, lane.bits - 1), both_negative))
        with m.Else():
            m.d.comb += self.o.eq(Cat(magnitude, large.sign))
        return m

    def _align(self, m, large, small):
        """Small aligned to large, with two bits below it, and whether anything fell off."""
        significand_bits = self.lane.fraction_bits + 1
        width = significand_bits + 2  # guard and one more: a long cancellation is exact
        distance = Signal(self.lane.exponent_bits)
        m.d.comb += distance.eq(large.exponent - small.exponent)
        value = Cat(Const(0, 2), small.significand)
        levels = (width - 1).bit_length()
        lost = []
        for level in range(levels):
            step = 1 << level
            shifted = Signal(width, name=f"aligned_by_{step}")
            m.d.comb += shifted.eq(Mux(distance[level], value >> step, value))
            lost.append(distance[level] & value[:step].any())
            value = shifted
        far = Signal()
        aligned = Signal(width)
        extra = Signal()
        # A flushed zero has the exponent field 0, yet nothing of it can be lost.
        m.d.comb += [
            far.eq(distance[levels:].any()),
            aligned.eq(Mux(far, 0, value)),
            extra.eq(Mux(far, ~small.is_zero, Cat(lost).any())),
        ]
        return aligned, extra

    def _add(self, m, large, aligned, opposite, extra):
        """Their sum, or the difference of what has ``opposite`` signs.

        Bits that fall off a subtrahend borrow one unit: ~small + (nothing fell off) does it.
        """
        width = len(aligned)
        subtract = Signal()
        augend = Signal(width + 1)
        addend = Signal(width + 1)
        sum_ = Signal(width + 1)
        m.d.comb += [
            subtract.eq(opposite),
            augend.eq(Cat(Const(0, 2), large.significand)),
            addend.eq(Cat(*(Mux(subtract, ~bit, bit) for bit in aligned), subtract)),
            sum_.eq(ripple.add(m, "sum", augend, addend, subtract & ~extra)),
        ]
        return sum_
