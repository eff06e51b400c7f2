"""The exact multiplier of unpacked operands."""

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.product import product_layout
from hdl.codec.operand import OperandLayout
from hdl.lib import ripple
from hdl.lib.leaf import for_fpga
from hdl.spec.formats import Format

__all__ = ["Multiplier"]


class Multiplier(wiring.Component):
    """Combinational exact product of two operands of ``fmt``.

    NaR · anything is NaR; 0 · finite is zero with the product's sign. The exponent is the sum of
    the operands', whose hidden bits are taken as 1. Integers are multiplied in two's complement.

    Members
    -------
    a, b: In(``OperandLayout``).
    o: Out(``product_layout``).

    Raises
    ------
    TypeError: ``fmt`` is no ``Format``.
    """

    def __init__(self, fmt: Format):
        if not isinstance(fmt, Format):
            raise TypeError(f"fmt must be a Format, not {fmt!r}")
        self.fmt = fmt
        super().__init__({
            "a": In(OperandLayout(fmt)), "b": In(OperandLayout(fmt)),
            "o": Out(product_layout(fmt)),
        })

    @property
    def leaf_name(self) -> str:
        return f"multiplier_{self.fmt.name}"

    def elaborate(self, platform):
        m = Module()
        a, b, o = self.a, self.b, self.o
        if self.fmt.integer:
            m.d.comb += o.number.eq(self._integers(m).as_signed())
            return m
        m.d.comb += [
            o.sign.eq(a.sign ^ b.sign),
            o.exponent.eq(a.exponent + b.exponent),
            o.significand.eq(self._significands(m)),
            o.is_nar.eq(a.is_nar | b.is_nar),
            o.is_zero.eq((a.is_zero | b.is_zero) & ~o.is_nar),
        ]
        return m

    def _integers(self, m: Module) -> Value:
        """Their product by rows of ripple carry (Baugh and Wooley 1973): where one sign bit meets
        other digits the partial product is inverted, which the two constants 2^n and 2^(2n - 1)
        make up for. The first fills the place above row 0, the second inverts the last carry."""
        a, b = self.a.number, self.b.number
        if for_fpga():
            return a * b
        bits = len(a)
        rows = [Cat(a[:-1] & digit.replicate(bits - 1), ~(a[-1] & digit)) for digit in b[:-1]]
        rows.append(Cat(~(a[:-1] & b[-1].replicate(bits - 1)), a[-1] & b[-1]))
        total, done = Cat(rows[0], Const(1, 1)), []
        for index, row in enumerate(rows[1:], 1):
            done.append(total[0])
            total = ripple.add(m, f"row_{index}", total[1:], row)
        return Cat(*done, total[:-1], ~total[-1])

    def _significands(self, m: Module) -> Value:
        """Their product. From 5 bits on an array of ripple rows is the smaller circuit: the
        hidden bit of ``a`` needs no gates in the rows, that of ``b`` makes the last one."""
        bits = self.fmt.significand_bits
        if bits < 5 or for_fpga():
            a, b = Signal(bits), Signal(bits)
            m.d.comb += [
                a.eq(Cat(self.a.fraction, 1)),
                b.eq(Cat(self.b.fraction, 1)),
            ]
            return a * b
        fraction, digits = self.a.fraction, self.b.fraction
        rows = [Cat(fraction & digit.replicate(bits - 1), digit) for digit in digits]
        rows.append(Cat(fraction, Const(1, 1)))
        total, done = rows[0], []
        for index, row in enumerate(rows[1:], 1):
            done.append(total[0])
            if len(total) == bits:  # the first sum has no carry to take in at its top
                low = ripple.add(m, "row_1", total[1:], row[:-1])
                total = Cat(low[:-1], ripple.increment(m, "row_1_top", row[-1:], low[-1]))
            else:
                total = ripple.add(m, f"row_{index}", total[1:], row)
        return Cat(*done, total)
