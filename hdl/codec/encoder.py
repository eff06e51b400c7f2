"""Lane word → stored code, the one rounding on the way out."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.codec.bfloat16_round import bfloat16_round
from hdl.lib import ripple
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
    finite value and keep the sign of zero. NaN and Inf give the canonical NaR. Integers round to
    nearest even and are clipped, infinities too, which then count as ``saturated``; NaN gives 0.
    """

    def __init__(self, fmt: Format, flags: bool = False):
        if not isinstance(fmt, Format):
            raise TypeError(f"fmt must be a Format, not {fmt!r}")
        for encoding in fmt.encodings:
            if isinstance(encoding, PositEncoding) and encoding.flush_log2 is not None:
                low = -encoding.max_exponent - (1 << encoding.es)
                if not low <= encoding.flush_log2 < -encoding.max_exponent:
                    raise ValueError(f"flush_log2 of {encoding.name} must be None or from {low} to "
                                     f"{-encoding.max_exponent - 1}, not {encoding.flush_log2!r}")
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
        m.d.comb += is_nar.eq(exponent.all() & fraction.any() if self.fmt.integer
                              else exponent.all())
        if self.fmt.integer:
            self._integer(m, exponent, fraction, is_nar, beyond)
        elif isinstance(self.fmt.encodings[0], PositEncoding):
            self._posit(m, self.fmt.encodings[0], exponent, fraction, is_nar, beyond)
        elif self.fmt.storage_bits == 16:
            self._bfloat16(m, beyond)
        else:
            self._float(m, exponent, fraction, is_nar, beyond)
        if self.flags:
            m.d.comb += [self.nar.eq(is_nar), self.saturated.eq(beyond & ~is_nar)]
        return m

    def _posit(self, m: Module, encoding: PositEncoding, exponent, fraction, is_nar, beyond):
        """Regime, exponent and fraction as one string, shifted right by the regime's length.

        A length of bits − 2 leaves the body at maxpos or zero; all beyond is held at bits − 1, so
        that only the rounding bit tells zero from minpos and maxpos from NaR (maxpos + 1).
        """
        bits, es = encoding.bits, encoding.es
        scale, small, far = Signal(self.fmt.lane.exponent_bits), Signal(), Signal()
        regime, length = Signal(3), Signal(3)
        bias, reach = self.fmt.lane.bias, (bits - 1) << es
        m.d.comb += [
            scale.eq(exponent + 1),  # bias + 1 is a power of two: the top bit is the sign
            small.eq(~(exponent[-1] | exponent[:-1].all())),
            far.eq((exponent >= bias + reach) | (exponent < bias - reach)),
            regime.eq(scale[es:es + 3] ^ small.replicate(3)),
            length.eq(regime | far.replicate(3)),
        ]
        # Body and guard bit are shifted, the bits below them can only be sticky.
        string = Cat(fraction, scale[:es], small, ~small)
        string, sticky = string[-bits:], string[:-bits].any()
        for index in range(3):
            step = 1 << index
            after, lost = Signal(bits), Signal()
            filled = Cat(string[step:], (~small).replicate(step))
            m.d.comb += [
                after.eq(Mux(length[index], filled, string)),
                lost.eq(sticky | (length[index] & string[:step].any())),
            ]
            string, sticky = after, lost
        body, guard = string[1:], string[0]
        up, tail, kept = Signal(), Signal(), Signal()
        m.d.comb += [
            tail.eq(length[1:].all()),
            kept.eq(self._survives(encoding, exponent, fraction, scale, length)),
            up.eq(Mux(tail, Mux(small, kept, is_nar), guard & (sticky | body[0]))),
        ]
        # −(body + up) = ~body + 1 − up: one incrementer serves rounding and sign.
        negative = self.value[-1]
        signed_body = Cat(body ^ negative.replicate(bits - 1), negative)
        m.d.comb += self.result.eq(ripple.increment(m, "result", signed_body, up ^ negative))
        # At maxpos's own regime all that follows it is sticky.
        m.d.comb += beyond.eq(tail & ~small & (length[0] | sticky))

    def _integer(self, m: Module, exponent, fraction, is_nar, beyond):
        """The significand shifted right to the point, then rounded and given its sign at once.

        Its 8 bits are an integer where the exponent field is 134. ``reach``, the field plus 9, is
        143 less the distance: while its upper bits are 8 its lower four are the distance's
        complement. From 9 on the magnitude is 256 or more, below 8 less than 2^-8.
        """
        bits, lane = self.fmt.storage_bits, self.fmt.lane
        reach, negative = Signal(lane.exponent_bits + 1), self.value[-1]
        m.d.comb += reach.eq(exponent + (15 - (lane.bias + bits - 1)) % 16)
        large = reach[-1] | (reach[-2] & reach[4:-2].any())
        small = ~(large | reach[-2])
        string, sticky = Cat(Const(0, 1), fraction[-(bits - 1):], Const(1, 1)), Const(0, 1)
        for index in range(4):
            step = 1 << index
            after, lost = Signal(bits + 1), Signal()
            m.d.comb += [
                after.eq(Mux(reach[index], string, string >> step)),
                lost.eq(sticky | (~reach[index] & string[:step].any())),
            ]
            string, sticky = after, lost
        guard, body = string[0], string[1:]
        up, sign = Signal(), Signal()
        m.d.comb += [up.eq(guard & (sticky | body[0]) & ~small), sign.eq(negative)]
        # −(body + up) = ~body + 1 − up: one incrementer serves rounding and sign.
        kept = body & (~small).replicate(bits)
        number = ripple.increment(m, "number", Cat(kept ^ sign.replicate(bits), sign),
                                  up ^ sign)[:bits + 1]
        m.d.comb += beyond.eq(large | (number[-1] ^ number[-2]))
        limit = Cat((~negative).replicate(bits - 1), negative)
        m.d.comb += self.result.eq(Mux(is_nar, 0, Mux(beyond, limit, number[:bits])))

    def _survives(self, encoding: PositEncoding, exponent, fraction, scale, length):
        """Whether a value below minpos gives minpos; the flush threshold is in the binades that
        would make the next regime."""
        if encoding.flush_log2 is None:
            return exponent.any() | fraction.any()
        threshold = encoding.flush_log2 + encoding.max_exponent + (1 << encoding.es)
        if encoding.es == 0:
            return ~length[0]
        return ~length[0] & (scale[:encoding.es] >= threshold)

    def _bfloat16(self, m: Module, beyond):
        """The lane word's upper half, rounded."""
        m.d.comb += self.result.eq(bfloat16_round(m, self.value, "value", beyond=beyond))

    def _float(self, m: Module, exponent, fraction, is_nar, beyond):
        """{exponent field, fraction} rounded as one integer.

        The significand is shifted right where the result is subnormal and, by one, where the
        encoding keeps one fraction bit less (the second one of a hybrid). Biases being 8n − 1, the
        three low bits of the exponent are also those of the result's.
        """
        first, last = self.fmt.encodings[0], self.fmt.encodings[-1]
        wide = self.e5m2 if self.fmt.hybrid else Const(0, 1)

        def pick(attribute):
            one, two = attribute(first), attribute(last)
            return Const(one) if one == two else Mux(wide, two, one)

        low, high, keep = exponent[:3], Signal(6), first.fraction_bits
        normal, far, shift, distance = Signal(), Signal(), Signal(3), Signal(3)
        step = pick(lambda e: keep - e.fraction_bits)
        m.d.comb += [
            high.eq(exponent[3:] + pick(lambda e: e.bias + 1 >> 3)),  # 16: exponent field 0 … 7
            normal.eq(high[4:].any() & (high[:4].any() | high[5] | low.any())),
            far.eq(Cat(low, high) < 125),  # only sticky remains; shift wraps from here on
            # 1 − low (mod 8) for those that are not far: low is 0, 7, 6 or 5.
            distance.eq(Cat(~low[0], low[1], low[0] & ~low[1]) & ~normal.replicate(3)),
            shift.eq((distance + step) | far.replicate(3)),
        ]
        # Fraction and guard bit; the hidden bit goes above them, those below can only be sticky.
        string = Cat(fraction, 1)[-keep - 2:]
        sticky = fraction[:-keep - 1].any()
        for index in range(3):
            after, lost = Signal(keep + 2), Signal()
            m.d.comb += [
                after.eq(Mux(shift[index], string >> (1 << index), string)),
                lost.eq(sticky | (shift[index] & string[:1 << index].any())),
            ]
            string, sticky = after, lost
        self._round_float(m, Cat(low, high), normal, string, sticky, is_nar, beyond, wide)

    def _round_float(self, m: Module, exponent, normal, string, sticky, is_nar, beyond, wide):
        """Round to nearest even, then saturate. ``exponent`` is the field plus 128."""
        first, last = self.fmt.encodings[0], self.fmt.encodings[-1]
        guard = string[0]

        def pick(function, *operands):
            one, two = function(first, *operands), function(last, *operands)
            return Mux(wide, two, one) if self.fmt.hybrid else one

        def pack(encoding: FloatEncoding):
            bits = encoding.fraction_bits
            return Cat(string[1:bits + 1], exponent[:7 - bits] & normal.replicate(7 - bits))

        def exceeds(encoding: FloatEncoding, above):
            """Beyond the largest code, or at it with something ``above``."""
            limit = 128 + (1 << 7 - encoding.fraction_bits)
            return ((exponent >= limit) | (packed > encoding.max_code)
                    | ((packed == encoding.max_code) & above))

        packed, up, full = Signal(7), Signal(), Signal()
        m.d.comb += [
            packed.eq(pick(pack)),
            up.eq(guard & (sticky | packed[0])),
            full.eq(pick(exceeds, up)),  # NaN and Inf too
            beyond.eq(pick(exceeds, guard | sticky)),
        ]
        rounded = ripple.increment(m, "rounded", packed, up)[:-1]
        limit = Mux(is_nar, pick(lambda e: Const(e.nar_code, 7)),
                    pick(lambda e: Const(e.max_code, 7)))
        m.d.comb += self.result.eq(Cat(Mux(full, limit, rounded), self.value[-1] & ~is_nar))
