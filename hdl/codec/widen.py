"""Stored code → lane word, exactly: the fetch ports of the vector unit."""

from amaranth.hdl import Cat, Const, Module, Mux
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
