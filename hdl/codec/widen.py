"""Stored code → lane word, exactly: the fetch ports of the vector unit."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.codec.decoder import Decoder
from hdl.lib import ripple
from hdl.spec.formats import Format

__all__ = ["Widen"]


class Widen(wiring.Component):
    """Combinational and exact widening of every code of ``fmt`` to a word of fmt.lane.

    NaR, NaN and Inf give the lane's canonical NaN, zeros keep their sign. A BF16 code becomes the
    FP32 word of the same value, subnormal ones included.

    Members
    -------
    code: In, fmt.storage_bits.
    e5m2: In, of hybrid formats: read the code as the second encoding.
    value: Out, a word of fmt.lane.

    Raises
    ------
    TypeError: ``fmt`` is no ``Format``.
    """

    def __init__(self, fmt: Format):
        if not isinstance(fmt, Format):
            raise TypeError(f"fmt must be a Format, not {fmt!r}")
        self.fmt = fmt
        super().__init__({
            "code": In(fmt.storage_bits),
            **({"e5m2": In(1)} if fmt.hybrid else {}),
            "value": Out(fmt.lane.bits),
        })

    @property
    def leaf_name(self) -> str:
        return f"widen_{self.fmt.name}"

    def elaborate(self, platform):
        m = Module()
        lane = self.fmt.lane
        if self.fmt.storage_bits == 16:
            encoding = self.fmt.encodings[0]
            special = self.code[encoding.fraction_bits:-1].all()
            m.d.comb += self.value.eq(
                Mux(special, lane.nan, self.code << (lane.bits - encoding.bits)))
            return m
        if self.fmt.integer:
            m.d.comb += self.value.eq(self._integer(m))
            return m
        m.submodules.decoder = decoder = Decoder(self.fmt)
        operand = decoder.o
        m.d.comb += decoder.code.eq(self.code)
        if self.fmt.hybrid:
            m.d.comb += decoder.e5m2.eq(self.e5m2)
        # exponent + bias = (exponent − 1) + (bias + 1), the latter a power of two.
        exponent = Cat(operand.exponent, operand.exponent[-1])
        less = ~ripple.increment(m, "less", ~exponent, Const(1, 1))[:-1]
        extension = less[-1].replicate(lane.exponent_bits - len(less) - 1)
        pad = lane.fraction_bits - len(operand.fraction)
        finite = Cat(Const(0, pad), operand.fraction, less, extension, ~less[-1])
        m.d.comb += self.value.eq(Mux(
            operand.is_nar, lane.nan, Cat(Mux(operand.is_zero, 0, finite), operand.sign)))
        return m

    def _integer(self, m: Module) -> Value:
        """The word of a number: its magnitude shifted left until the leading one is the hidden bit.
        A zero is +0."""
        lane, sign, bits = self.fmt.lane, self.code[-1], len(self.code)
        digits = ripple.increment(m, "magnitude", self.code ^ sign.replicate(bits), sign)[:-1]
        count = Signal(range(bits))
        for level in reversed(range(len(count))):
            step = 1 << level
            shifted = Signal(bits, name=f"by_{step}")
            m.d.comb += [count[level].eq(~digits[-step:].any()),
                         shifted.eq(Mux(count[level], digits << step, digits))]
            digits = shifted
        exponent = Signal(lane.exponent_bits)
        m.d.comb += exponent.eq(lane.bias + bits - 1 - count)
        magnitude = Cat(Const(0, lane.fraction_bits - (bits - 1)), digits[:-1], exponent)
        return Cat(magnitude & digits[-1].replicate(len(magnitude)), sign)
