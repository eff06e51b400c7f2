"""e^x of a lane word, by bit trick or by table."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.cut import cut_members, cut_name, holders
from hdl.arith.float_word import infinity, is_nan, normalise
from hdl.arith.segments import evaluate, scale_to_word
from hdl.codec.bfloat16_round import bfloat16_round
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16
from hdl.spec.tables import EXP

__all__ = ["Exp"]

_PLACES = ("multiplied", "reduced", "found")
_TAKEN = ((), ("reduced",), ("reduced", "found"), _PLACES)


class Exp(wiring.Component):
    """``result`` = e^``value``, lane words, combinational. FP32 lanes round x to BF16 first.

    With ``cuts``, which mode ``pwl`` alone knows, as many cycles with ``enable`` later: registers
    between the reduction of the argument and the table, after the table, within the reduction.

    Softmax mode ``pwl``: the table of ``hdl.spec.tables``, for every x. ``approx`` and
    ``approx_shifted`` (paper section 3.3, through the sigmoid of a Posit(16,0)): with
    p = P(16,0)(-x) >> 8 the result is max(0, 255 - ``exp_epsilon`` - p) / 128, and 0 for
    x < ``exp_theta`` / 128 where that is given; x > 0 counts as 0. NaN gives the canonical NaN.
    ``linear``: the BF16 word 0x3F80 - floor(184 abs(x)), a power of two with a linear fraction
    (Schraudolph, 1999: the exponent field counts the exponent, 184 / 128 stands for log2(e)), for
    -16 < x; 0 below; x > 0 counts as 0.
    """

    def __init__(self, config: AcceleratorConfig, cuts: int = 0):
        if cuts and config.softmax != "pwl":
            raise ValueError(f"cuts must be 0 for softmax {config.softmax}, not {cuts!r}")
        self.config = config
        self.cuts = cuts
        bits = config.lane.bits
        super().__init__({"value": In(bits), "result": Out(bits), **cut_members(cuts)})

    @property
    def leaf_name(self) -> str:
        return cut_name(self.name_for(self.config), self.cuts)

    @staticmethod
    def name_for(config: AcceleratorConfig) -> str:
        """Name of the unit that ``config`` needs; it says all that the hardware depends on."""
        if config.softmax == "pwl":
            return f"exp_pwl_{config.lane.name}"
        if config.softmax == "linear":
            return f"exp_linear_{config.lane.name}"
        theta = "" if config.exp_theta is None else f"_theta{abs(config.exp_theta)}"
        return f"exp_trick{config.exp_epsilon}{theta}_{config.lane.name}"

    def elaborate(self, platform):
        m = Module()
        lane = self.config.lane
        multiplied, hold, found = holders(m, self, _PLACES, _TAKEN)
        x = Signal(16)
        if lane is BFLOAT16:
            m.d.comb += x.eq(self.value)
        else:
            m.d.comb += x.eq(bfloat16_round(m, self.value, "value"))
        if self.config.softmax == "pwl":
            magnitude = self._by_table(m, x, multiplied, hold, found)
        else:
            word = (self._by_line if self.config.softmax == "linear" else self._by_trick)(m, x)
            magnitude = Cat(Const(0, lane.bits - 16), word)
        nan = found(hold(multiplied(is_nan(BFLOAT16, x), "nan"), "nan"), "nan")
        m.d.comb += self.result.eq(Mux(nan, lane.nan, magnitude))
        return m

    def _by_table(self, m, x, multiplied, hold, found):
        """The five steps of ``ExpTable``, in its names; ``multiplied``, ``hold`` and ``found`` take
        the results of the first, the third and the fourth on."""
        lane = self.config.lane
        table = EXP[lane]
        segments = table.segments
        argument_bits = segments.argument_bits
        sign, exponent = x[15], x[7:15]
        product = Signal(range(255 * table.log2e + 1))
        # abs(x) < 128: the product of E = 133 is shifted right by this, smaller E by more.
        least = table.log2e_bits - argument_bits + 1
        distance = Signal(8)
        shifted = Signal(len(product) - least)
        t = Signal(len(shifted) + 1)
        m.d.comb += product.eq(Cat(x[:7], Const(1, 1)) * table.log2e)
        product, exponent = multiplied(product, "product"), multiplied(exponent, "exponent")
        sign = multiplied(sign, "sign")
        m.d.comb += [
            distance.eq(133 - exponent),
            shifted.eq(product[least:] >> distance[:5]),
            t.eq(Mux(distance[5:].any(), 0, shifted) ^ sign.replicate(len(t))),
        ]
        huge = exponent >= 134
        t, huge, sign = hold(t, "t"), hold(huge, "huge"), hold(sign, "sign")
        significand = found(evaluate(m, segments, t[:argument_bits]), "significand")
        t, huge, sign = found(t[argument_bits:], "t"), found(huge, "huge"), found(sign, "sign")
        field = Signal(range(-300, 400))
        m.d.comb += field.eq(t.as_signed() + lane.bias)
        word, underflow, overflow = scale_to_word(
            m, lane, segments.result_bits, field, significand)
        magnitude = Signal(lane.bits)
        with m.If(Mux(huge, ~sign, overflow)):
            m.d.comb += magnitude.eq(infinity(lane))
        with m.Elif(Mux(huge, sign, underflow)):
            m.d.comb += magnitude.eq(0)
        with m.Else():
            m.d.comb += magnitude.eq(word)
        return magnitude

    def _by_line(self, m, x):
        """BF16 word of 1 less floor(184 abs(x)) units of the last place, 0 for x <= -16."""
        significand = Cat(x[:7], Const(1, 1))
        exponent = x[7:15]
        triple, product = Signal(10), Signal(13)
        distance = Signal(4)
        reached, vanishes = Signal(), Signal()
        shifted, less = Signal(12), Signal(12)
        word = Signal(16)
        m.d.comb += [
            # 23 = 8 · 3 - 1; abs(x) · 184 is the product · 2^(E - 131).
            triple.eq(significand + (significand << 1)),
            product.eq((triple << 3) - significand),
            distance.eq(130 - exponent),
            shifted.eq(product[1:] >> distance),
            vanishes.eq(exponent >= 131),
            reached.eq(x[15] & (exponent >= 115)),
            less.eq(shifted & reached.replicate(12)),
            word.eq(Mux(vanishes & x[15], 0, Cat((0xF80 - less)[:12], Const(3, 4)))),
        ]
        return word

    def _by_trick(self, m, x):
        """BF16 word of max(0, 255 - ε - p) / 128."""
        amount = self.config.exp_epsilon - 128
        count = self._subtract(m, self._complement(m, x, amount), amount)
        if self.config.exp_theta is not None:
            kept = Signal()
            m.d.comb += kept.eq(~x[15] | (x[:15] <= self._theta_word()))
            count = count & kept.replicate(len(count))
        shifted, zeros = normalise(m, count, "count")
        # A count with its top bit at t stands for 2^(t - 7): exponent field 120 + t, t <= 7.
        top = Signal(3)
        word = Signal(16)
        fill = Const(0, 8 - len(count))
        m.d.comb += [
            top.eq(len(count) - 1 - zeros),
            word.eq(Cat(fill, shifted[:-1], Mux(shifted[-1], Cat(top, Const(15, 5)), 0))),
        ]
        return word

    def _complement(self, m, x, amount):
        """127 - p, or 0 where that is at most ``amount`` anyway.

        p of 2^k (1 + f) is k + 1 ones, a zero and f for k >= 0; -k zeros, a one and f for k < 0.
        """
        found = Signal(7)
        with m.Switch(x[7:15]):
            for k in range(-6, 6):
                if k > 0 and 1 << (6 - k) <= amount:
                    break
                run = "0" * (k + 1) + "1" if k >= 0 else "1" * -k + "0"
                rest = 7 - len(run)
                with m.Case(127 + k):
                    m.d.comb += found.eq(Cat(~x[7 - rest:7], Const(int(run, 2), len(run))))
            for small in ("00------", "010-----", "0110----", "01110---", "01111000"):
                with m.Case(small):
                    m.d.comb += found.eq(127)
        complement = Signal(7)
        m.d.comb += complement.eq(found | ~x[15].replicate(7))
        return complement

    def _subtract(self, m, minuend, amount):
        """max(0, minuend - amount): 7 bits, or 8 for a negative amount.

        Low zeros of ``amount`` leave the low bits alone: ε = 1.125 just counts three bits down.
        """
        if amount <= 0:
            count = Signal(8 if amount else 7)
            m.d.comb += count.eq(minuend - amount)
            return count
        step = (amount & -amount).bit_length() - 1
        low, high = minuend[:step], minuend[step:]
        count = Signal(7)
        if amount == 1 << step:
            # A bit stays if one is set below it, and rises if none is but one is above.
            down = [(high[:bit].any() & high[bit]) | (~high[:bit + 1].any() & high[bit + 1:].any())
                    for bit in range(len(high))]
            m.d.comb += count.eq(Cat(low & high.any().replicate(step), *down))
        else:
            fits = Signal()
            m.d.comb += [
                fits.eq(high >= amount >> step),
                count.eq(Mux(fits, Cat(low, (high - (amount >> step))[:len(high)]), 0)),
            ]
        return count

    def _theta_word(self):
        """Magnitude bits of the largest BF16 that is at most -θ: whatever is above it vanishes."""
        units = abs(self.config.exp_theta)
        if units == 0:
            return 127  # subnormals count as zero
        exponent = units.bit_length() - 1
        fraction = (units << 7 >> exponent) & 127
        return (127 - 7 + exponent) << 7 | fraction
