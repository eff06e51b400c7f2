"""Stored code → unpacked operand."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.codec.operand import OperandLayout
from hdl.spec.formats import FloatEncoding, Format, PositEncoding

__all__ = ["Decoder"]


class Decoder(wiring.Component):
    """Combinational decoder of every code of ``fmt`` (numerics: Formats).

    Subnormals come out normalised. The sign of a float zero is kept, a posit zero is positive, and
    the sign of a NaR is the code's. An integer is its code: wires.

    Members
    -------
    code: In, fmt.storage_bits.
    e5m2: In, of hybrid formats: read the code as the second encoding.
    o: Out(``OperandLayout``), exact.

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
            "o": Out(OperandLayout(fmt)),
        })

    @property
    def leaf_name(self) -> str:
        return f"decoder_{self.fmt.name}"

    def elaborate(self, platform):
        m = Module()
        if self.fmt.integer:
            m.d.comb += self.o.number.eq(self.code.as_signed())
        elif isinstance(self.fmt.encodings[0], PositEncoding):
            self._posit(m, self.fmt.encodings[0])
        elif self.fmt.hybrid:
            self._hybrid_float(m, *self.fmt.encodings)
        else:
            self._float(m, self.fmt.encodings[0])
        return m

    def _posit(self, m: Module, encoding: PositEncoding) -> None:
        """Magnitude first; then one ladder counts the regime's run and shifts it out."""
        bits, es = encoding.bits, encoding.es
        magnitude, nonzero, is_zero = Signal(bits - 1), Signal(), Signal()
        m.d.comb += [
            nonzero.eq(self.code[:-1].any()),
            is_zero.eq(~nonzero & ~self.code[-1]),
            self.o.sign.eq(self.code[-1]),
            self.o.nonzero.eq(~is_zero),
            self.o.is_nar.eq(~nonzero & self.code[-1]),
        ]
        # Two's complement: what lies above the lowest set bit is inverted.
        digits, below = [], Const(0, 1)
        for index in range(bits - 1):
            digits.append(self.code[index] ^ (below & self.code[-1]))
            after = Signal(name=f"set_below_{index + 1}")
            m.d.comb += after.eq(below | self.code[index])
            below = after
        m.d.comb += magnitude.eq(Cat(*digits))
        # The regime's first bit gives its kind; XOR makes the run after it leading zeros.
        large = magnitude[-1]
        run = Signal(bits - 2)
        m.d.comb += run.eq(magnitude[:-1] ^ large.replicate(bits - 2))
        ones = Const(-1, 4)  # they end a run that reaches the last bit
        rest, count = magnitude[:-2], []
        for step in (4, 2, 1):
            clear = Signal(name=f"clear_{step}")
            shifted_run, shifted_rest = Signal.like(run), Signal(bits - 3)
            m.d.comb += [
                clear.eq(~run[-step:].any()),
                shifted_run.eq(Mux(clear, Cat(ones[:step], run), run)),
                shifted_rest.eq(Mux(clear, rest << step, rest)),
            ]
            run, rest = shifted_run, shifted_rest
            count.insert(0, clear)
        regime = Cat(*(bit ^ ~large for bit in count), ~large)
        fraction_bits = bits - 3 - es
        m.d.comb += [
            self.o.exponent.eq(Cat(rest[fraction_bits:], regime)),
            self.o.fraction.eq(rest[:fraction_bits]),
        ]

    def _float(self, m: Module, encoding: FloatEncoding) -> None:
        fraction_bits = encoding.fraction_bits
        exponent = self.code[fraction_bits:-1]
        fraction = self.code[:fraction_bits]
        special = exponent.all()
        if not encoding.ieee_specials:
            special = special & fraction.all()
        m.d.comb += self.o.is_nar.eq(special)
        self._normalise(m, exponent, fraction, -encoding.bias)

    def _hybrid_float(self, m: Module, first: FloatEncoding, second: FloatEncoding) -> None:
        """Both encodings widen to the larger exponent and the larger fraction."""
        pad = first.fraction_bits - second.fraction_bits
        exponent = Signal(second.exponent_bits)
        fraction = Signal(first.fraction_bits)
        m.d.comb += [
            exponent.eq(Mux(self.e5m2, self.code[second.fraction_bits:-1],
                            self.code[first.fraction_bits:-1])),
            fraction.eq(Mux(self.e5m2, self.code[:second.fraction_bits] << pad,
                            self.code[:first.fraction_bits])),
            self.o.is_nar.eq(Mux(self.e5m2, exponent.all(), self.code[:-1].all())),
        ]
        self._normalise(m, exponent, fraction, Mux(self.e5m2, -second.bias, -first.bias))

    def _normalise(self, m: Module, exponent, fraction, negated_bias) -> None:
        """Exponent field 0 means that the leading one must be found in the fraction."""
        width = len(fraction)
        subnormal, is_zero = Signal(), Signal()
        leading = Signal(range(width + 1))
        m.d.comb += subnormal.eq(~exponent.any())
        for position in range(width):  # the highest set bit is assigned last
            with m.If(fraction[position]):
                m.d.comb += leading.eq(width - 1 - position)
        shifted = (fraction << 1 << leading)[:width]
        m.d.comb += [
            is_zero.eq(subnormal & ~fraction.any()),
            self.o.sign.eq(self.code[-1]),
            self.o.nonzero.eq(~is_zero),
            self.o.exponent.eq(Mux(subnormal, -leading, exponent) + negated_bias),
            self.o.fraction.eq(Mux(subnormal, shifted, fraction)),
        ]
