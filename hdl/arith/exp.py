"""e^x of a lane word, by bit trick or by table."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..spec.config import AcceleratorConfig
from ..spec.formats import BFLOAT16
from ..spec.tables import EXP
from .float_word import infinity, is_nan, normalise
from .segments import evaluate, scale_to_word

__all__ = ["Exp", "to_bfloat16"]


def to_bfloat16(m: Module, word, name: str) -> Signal:
    """BF16 word of an FP32 word: RNE, overflow to infinity, any NaN the canonical one."""
    rounded = Signal(16, name=f"{name}_rounded")
    result = Signal(16, name=f"{name}_bf16")
    m.d.comb += [
        rounded.eq(word[16:] + (word[15] & (word[:15].any() | word[16]))),
        result.eq(Mux(word[23:31].all() & word[:23].any(), BFLOAT16.nan, rounded)),
    ]
    return result


class Exp(wiring.Component):
    """``result`` = e^``value``, lane words, combinational. FP32 lanes round x to BF16 first.

    Softmax mode ``pwl``: the table of ``hdl.spec.tables``, for every x. ``approx`` and
    ``approx_shifted`` (paper section 3.3, through the sigmoid of a Posit(16,0)): with
    p = P(16,0)(-x) >> 8 the result is max(0, 255 - ``exp_epsilon`` - p) / 128, and 0 for
    x < ``exp_theta`` / 128 where that is given; x > 0 counts as 0. NaN gives the canonical NaN.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        bits = config.lane.bits
        super().__init__({"value": In(bits), "result": Out(bits)})

    @property
    def leaf_name(self) -> str:
        return self.name_for(self.config)

    @staticmethod
    def name_for(config: AcceleratorConfig) -> str:
        """Name of the unit that ``config`` needs; it says all that the hardware depends on."""
        if config.softmax == "pwl":
            return f"exp_pwl_{config.lane.name}"
        theta = "" if config.exp_theta is None else f"_theta{abs(config.exp_theta)}"
        return f"exp_trick{config.exp_epsilon}{theta}_{config.lane.name}"

    def elaborate(self, platform):
        m = Module()
        lane = self.config.lane
        x = Signal(16)
        if lane is BFLOAT16:
            m.d.comb += x.eq(self.value)
        else:
            m.d.comb += x.eq(to_bfloat16(m, self.value, "value"))
        if self.config.softmax == "pwl":
            magnitude = self._by_table(m, x)
        else:
            word = self._by_trick(m, x)
            magnitude = Cat(Const(0, lane.bits - 16), word)
        m.d.comb += self.result.eq(Mux(is_nan(BFLOAT16, x), lane.nan, magnitude))
        return m

    def _by_table(self, m, x):
        """The five steps of ``ExpTable``, in its names."""
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
        m.d.comb += [
            product.eq(Cat(x[:7], Const(1, 1)) * table.log2e),
            distance.eq(133 - exponent),
            shifted.eq(product[least:] >> distance[:5]),
            t.eq(Mux(distance[5:].any(), 0, shifted) ^ sign.replicate(len(t))),
        ]
        significand = evaluate(m, segments, t[:argument_bits])
        field = Signal(range(-300, 400))
        m.d.comb += field.eq(t[argument_bits:].as_signed() + lane.bias)
        word, underflow, overflow = scale_to_word(
            m, lane, segments.result_bits, field, significand)
        magnitude = Signal(lane.bits)
        huge = exponent >= 134
        with m.If(Mux(huge, ~sign, overflow)):
            m.d.comb += magnitude.eq(infinity(lane))
        with m.Elif(Mux(huge, sign, underflow)):
            m.d.comb += magnitude.eq(0)
        with m.Else():
            m.d.comb += magnitude.eq(word)
        return magnitude

    def _by_trick(self, m, x):
        """BF16 word of max(0, 255 - ε - p) / 128."""
        p = self._posit(m, x)
        constant = 255 - self.config.exp_epsilon
        difference = Signal(range(-128, max(constant, 0) + 1))
        count = Signal(8)
        m.d.comb += difference.eq(constant - p)
        vanishes = difference[-1]
        if self.config.exp_theta is not None:
            vanishes = vanishes | (x[15] & (x[:15] > self._theta_word()))
        m.d.comb += count.eq(Mux(vanishes, 0, difference))
        shifted, zeros = normalise(m, count, "count")
        word = Signal(16)
        m.d.comb += word.eq(Mux(shifted[-1], Cat(shifted[:7], (127 - zeros)[:8]), 0))
        return word

    def _posit(self, m, x):
        """p: for abs(x) = 2^k (1 + f), k >= 0: k + 1 ones, a zero, f; k < 0: -k zeros, a one, f."""
        p = Signal(7)
        with m.Switch(x[7:15]):
            for k in range(-7, 7):
                run = [1] * (k + 1) + [0] if k >= 0 else [0] * -k + [1]
                run = run[:7]
                rest = 7 - len(run)
                prefix = Const(int("".join(map(str, run)), 2), len(run))
                with m.Case(127 + k):
                    m.d.comb += p.eq(Cat(x[7 - rest:7], prefix))
            for bits in ("1000011-", "10001---", "1001----", "101-----", "11------"):
                with m.Case(bits):
                    m.d.comb += p.eq(127)
        negative = Signal(7)
        m.d.comb += negative.eq(Mux(x[15], p, 0))
        return negative

    def _theta_word(self):
        """Magnitude bits of the largest BF16 that is at most -θ: whatever is above it vanishes."""
        units = abs(self.config.exp_theta)
        if units == 0:
            return 0
        exponent = units.bit_length() - 1
        fraction = (units << 7 >> exponent) & 127
        return (127 - 7 + exponent) << 7 | fraction
