"""1/x of a lane word, by bit trick or by table."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.float_word import largest
from hdl.arith.segments import evaluate, scale_to_word
from hdl.spec.config import SOFTMAX_TRICKS, AcceleratorConfig
from hdl.spec.tables import RECIPROCAL

__all__ = ["Reciprocal"]


class Reciprocal(wiring.Component):
    """``result`` = 1 / ``value``, lane words, combinational.

    Softmax modes ``pwl`` and ``linear``: the table of ``hdl.spec.tables``. ``approx`` and
    ``approx_shifted``: sign, 253 - E, complement of the fraction for 1 <= E <= 252 (paper section
    3.3, within 12.5 %); with ``exact_power_reciprocal`` the magnitude is (254 << F) - magnitude
    instead, exact at powers of two. In all modes E = 0 gives the largest finite value, infinity and
    whatever has no normal reciprocal zero, each with the sign of x, and NaN the canonical NaN.
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
        kind = "pwl"
        if config.softmax in SOFTMAX_TRICKS:
            kind = "exact_power" if config.exact_power_reciprocal else "trick"
        return f"reciprocal_{kind}_{config.lane.name}"

    def elaborate(self, platform):
        m = Module()
        lane = self.config.lane
        fraction = self.value[:lane.fraction_bits]
        exponent = self.value[lane.fraction_bits:-1]
        if self.config.softmax not in SOFTMAX_TRICKS:
            magnitude, vanishes = self._by_table(m, fraction, exponent)
        elif self.config.exact_power_reciprocal:
            magnitude, vanishes = self._by_negation(m, fraction, exponent)
        else:
            self._by_complement(m, fraction, exponent)
            return m

        is_nan = Signal()
        tiny = Signal()
        m.d.comb += [
            is_nan.eq(exponent.all() & fraction.any()),
            tiny.eq(~exponent.any()),
        ]
        with m.If(is_nan):
            m.d.comb += self.result.eq(lane.nan)
        with m.Elif(tiny):
            m.d.comb += self.result.eq(Cat(Const(largest(lane), lane.bits - 1), self.value[-1]))
        with m.Elif(vanishes):
            m.d.comb += self.result.eq(Cat(Const(0, lane.bits - 1), self.value[-1]))
        with m.Else():
            m.d.comb += self.result.eq(Cat(magnitude, self.value[-1]))
        return m

    def _by_complement(self, m, fraction, exponent):
        """The whole result of 253 - E, ~fraction, with its ends worked into the borrow.

        E = 2h + b: 253 - E = 2(126 - h) + 1 - b, and 126 - h is ~h less one. Without that borrow
        h = 0 gives the upper exponent bits of the largest finite value, h = 127 those of zero; with
        it h = 127 gives those of NaN. So one signal, the borrow, tells all of these apart.
        """
        lowest, upper = exponent[0], exponent[1:]
        names = ("any_fraction", "tiny", "most", "ends_high", "vanishes", "is_nan", "borrow",
                 "field_low", "normal")
        any_fraction, tiny, most, ends_high, vanishes, is_nan, borrow, field_low, normal = (
            Signal(name=name) for name in names)
        m.d.comb += [
            any_fraction.eq(fraction.any()),
            tiny.eq(~exponent.any()),
            normal.eq(~tiny),
            most.eq(upper[1:].all()),
            ends_high.eq(most & upper[0]),  # E >= 254
            vanishes.eq(most & (upper[0] | lowest)),  # E >= 253
            borrow.eq(~(tiny | (ends_high & ~(lowest & any_fraction)))),
            field_low.eq(borrow & (~lowest | ends_high)),
        ]
        borrows = [borrow]
        for bit, value in enumerate(upper):
            further = Signal(name=f"borrow_{bit + 1}")
            m.d.comb += further.eq(borrows[-1] & value)
            borrows.append(further)
        m.d.comb += is_nan.eq(ends_high & borrow)
        cleared = [(bit & normal) | vanishes for bit in fraction]
        m.d.comb += self.result.eq(Cat(
            *(~bit for bit in cleared[:-1]), ~(cleared[-1] & ~is_nan),
            field_low, *(~(h ^ less) for h, less in zip(upper, borrows, strict=False)),
            self.value[-1] & ~is_nan))

    def _by_negation(self, m, fraction, exponent):
        magnitude = Signal(self.config.lane.bits - 1)
        m.d.comb += magnitude.eq((254 << len(fraction)) - Cat(fraction, exponent))
        return magnitude, (exponent >= 254) | (exponent == 253) & fraction.any()

    def _by_table(self, m, fraction, exponent):
        lane = self.config.lane
        segments = RECIPROCAL[lane].segments
        significand = evaluate(m, segments, fraction[-segments.argument_bits:])
        field = Signal(range(-2, 254))
        m.d.comb += field.eq(253 - exponent)
        word, is_small, _ = scale_to_word(m, lane, segments.result_bits, field, significand)
        magnitude = Signal(lane.bits - 1)
        m.d.comb += magnitude.eq(Mux(is_small, 0, word))
        return magnitude, exponent.all()
