"""Lane word → stored code, the one rounding on the way out."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.spec.formats import FloatEncoding, Format, PositEncoding

__all__ = ["Encoder"]


class Encoder(wiring.Component):
    """Combinational encoder of every lane word into ``fmt`` (numerics: Formats).

    Ports: ``value`` in, a word of fmt.lane; hybrid formats add ``e5m2`` in (1 writes the second
    encoding); ``result`` out, fmt.storage_bits. With ``flags``: ``saturated`` out (finite and
    beyond the largest finite value, hence clipped) and ``nar`` out (NaN or Inf came in).

    Posits round to nearest even on the bit string, saturate to maxpos, give zero below the
    encoding's flush threshold and minpos from there on; −0 gives 0x00. Floats round to nearest
    even with subnormals (a subnormal lane word counts with its value), saturate to the largest
    finite value and keep the sign of zero. NaN and Inf give the canonical NaR.
    """

    def __init__(self, fmt: Format, flags: bool = False):
        if not isinstance(fmt, Format):
            raise TypeError(f"fmt must be a Format, not {fmt!r}")
        self.fmt = fmt
        self.flags = bool(flags)
        super().__init__({
            "value": In(fmt.lane.bits),
            **({"e5m2": In(1)} if fmt.hybrid else {}),
            "result": Out(fmt.storage_bits),
            **({"saturated": Out(1), "nar": Out(1)} if flags else {}),
        })

    @property
    def leaf_name(self) -> str:
        return f"encoder_{self.fmt.name}" + ("_flags" if self.flags else "")

    def elaborate(self, platform):
        m = Module()
        lane = self.fmt.lane
        fraction = self.value[:lane.fraction_bits]
        exponent = self.value[lane.fraction_bits:-1]
        is_nar = Signal()
        beyond = Signal()  # magnitude above the largest finite value
        m.d.comb += is_nar.eq(exponent.all())
        if isinstance(self.fmt.encodings[0], PositEncoding):
            self._posit(m, self.fmt.encodings[0], exponent, fraction, is_nar, beyond)
        elif self.fmt.storage_bits == 16:
            self._truncate(m, self.fmt.encodings[0], is_nar, beyond)
        else:
            self._float(m, exponent, fraction, is_nar, beyond)
        if self.flags:
            m.d.comb += [self.nar.eq(is_nar), self.saturated.eq(beyond & ~is_nar)]
        return m

    def _posit(self, m: Module, encoding: PositEncoding, exponent, fraction, is_nar, beyond):
        """Regime, exponent and fraction as one string, shifted right by the regime's length."""
        bits, es, bias = encoding.bits, encoding.es, self.fmt.lane.bias
        top = encoding.max_exponent
        scale = Signal(range(-bias - 1, bias + 2))
        m.d.comb += scale.eq(exponent - bias)
        huge, tiny, flushed = Signal(), Signal(), Signal()
        m.d.comb += [
            huge.eq(scale >= top),
            tiny.eq(scale < -top),
            beyond.eq(huge & ((scale > top) | fraction.any())),
        ]
        if encoding.flush_log2 is None:
            m.d.comb += flushed.eq(~(exponent.any() | fraction.any()))
        else:
            m.d.comb += flushed.eq(scale < encoding.flush_log2)
        small = Signal()
        length = Signal(3)
        m.d.comb += [small.eq(scale[-1]), length.eq(scale[es:es + 3] ^ small.replicate(3))]
        string = Cat(fraction, scale[:es], small, ~small)
        sticky = Const(0, 1)
        for index, step in enumerate((1, 2, 4)):
            shifted, lost = Signal(len(string)), Signal()
            filled = Cat(string[step:], (~small).replicate(step))
            m.d.comb += [
                shifted.eq(Mux(length[index], filled, string)),
                lost.eq(sticky | (length[index] & string[:step].any())),
            ]
            string, sticky = shifted, lost
        body, guard, rest = string[-7:], string[-8], string[:-8].any() | sticky
        magnitude, up = Signal(bits - 1), Signal()
        m.d.comb += [
            magnitude.eq(Mux(huge, (1 << (bits - 1)) - 1, Mux(tiny, 0, body))),
            up.eq(Mux(huge, 0, tiny | (guard & (rest | body[0])))),
        ]
        negative = self.value[-1]
        signed_code = Signal(bits)
        # −(magnitude + up) = ~magnitude + 1 − up: one incrementer serves rounding and sign.
        m.d.comb += signed_code.eq(
            Cat(magnitude ^ negative.replicate(bits - 1), negative) + (up ^ negative))
        m.d.comb += self.result.eq(
            Mux(is_nar, encoding.nar_code, Mux(flushed, 0, signed_code)))

    def _truncate(self, m: Module, encoding: FloatEncoding, is_nar, beyond):
        """The lane word's upper half, rounded; both have the same exponent."""
        cut = self.fmt.lane.bits - encoding.bits
        kept, below = self.value[cut:-1], self.value[:cut]
        largest = Signal()
        rounded = Signal(encoding.bits - 1)
        m.d.comb += [
            largest.eq(kept == encoding.max_code),
            beyond.eq(largest & below.any()),
            rounded.eq(kept + (below[-1] & (below[:-1].any() | kept[0]) & ~largest)),
            self.result.eq(Mux(is_nar, encoding.nar_code, Cat(rounded, self.value[-1]))),
        ]

    def _float(self, m: Module, exponent, fraction, is_nar, beyond):
        """{exponent, fraction} rounded as one integer, after a shift where the result is
        subnormal. The second encoding of a hybrid has one bit more exponent, one less fraction."""
        first, last = self.fmt.encodings[0], self.fmt.encodings[-1]
        wide = self.e5m2 if self.fmt.hybrid else Const(0, 1)

        def pick(attribute):
            one, two = attribute(first), attribute(last)
            return Const(one) if one == two else Mux(wide, two, one)

        bias = self.fmt.lane.bias
        rebased = Signal(range(-bias - 1, 2 * bias + 2))
        m.d.comb += rebased.eq(exponent - pick(lambda e: bias - e.bias))
        # String with the hidden bit on top; a subnormal result moves right by 1 − rebased.
        subnormal, distance = Signal(), Signal(range(2 * bias + 4))
        m.d.comb += [
            subnormal.eq(rebased <= 0),
            distance.eq(Mux(subnormal, 1 - rebased, 0)),
        ]
        string, sticky = Cat(fraction, 1), Const(0, 1)
        for index, step in enumerate((1, 2, 4)):
            shifted, lost = Signal(len(string)), Signal()
            m.d.comb += [
                shifted.eq(Mux(distance[index], string >> step, string)),
                lost.eq(sticky | (distance[index] & string[:step].any())),
            ]
            string, sticky = shifted, lost
        far = Signal()  # below half of the smallest subnormal
        m.d.comb += far.eq(distance[3:].any())
        self._round_float(m, rebased, subnormal, far, string, sticky, is_nar, beyond, wide, pick)

    def _round_float(self, m, rebased, subnormal, far, string, sticky, is_nar, beyond, wide, pick):
        first, last = self.fmt.encodings[0], self.fmt.encodings[-1]
        keep = first.fraction_bits
        fraction = string[:-1]
        if self.fmt.hybrid:  # one bit fewer is kept: the kept ones align at the bottom
            pad = keep - last.fraction_bits
            aligned = Signal(len(fraction) + pad)
            m.d.comb += aligned.eq(Mux(wide, fraction, fraction << pad))
            fraction = aligned
        body, guard = Signal(keep), fraction[-1 - keep]
        rest, up = Signal(), Signal()
        m.d.comb += [
            body.eq(fraction[-keep:]),
            rest.eq(fraction[:-1 - keep].any() | sticky),
            up.eq(~far & guard & (rest | body[0])),
        ]
        field, packed, magnitude = Signal(5), Signal(9), Signal(7)
        huge = Signal()
        top = pick(lambda e: e.max_code >> e.fraction_bits)
        largest = pick(lambda e: e.max_code)
        m.d.comb += [
            field.eq(Mux(subnormal, 0, rebased[:5])),
            packed.eq(Mux(far, 0, body) + (field << pick(lambda e: e.fraction_bits)) + up),
            huge.eq((rebased > top) | (packed > largest)),
            magnitude.eq(Mux(huge, largest, packed)),
            self.result.eq(Cat(Mux(is_nar, pick(lambda e: e.nar_code), magnitude),
                               self.value[-1] & ~is_nar)),
        ]
        largest_body = pick(lambda e: e.max_code & ((1 << e.fraction_bits) - 1))
        m.d.comb += beyond.eq((rebased > top) | ((rebased == top) & (
            (body > largest_body) | ((body == largest_body) & (guard | rest)))))
