"""The exact multiplier of unpacked operands."""

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.codec.unpacked import unpacked_members
from hdl.lib import ripple
from hdl.spec.formats import Format

__all__ = ["Multiplier", "product_members"]


def product_members(fmt: Format, flow) -> dict[str, object]:
    """Members of an exact product: ``sign``; ``exponent``, signed, one bit wider than an
    operand's; ``significand``, 2·fmt.significand_bits, two of them integer bits."""
    return {
        "sign": flow(1),
        "exponent": flow(signed(fmt.exponent_bits + 1)),
        "significand": flow(2 * fmt.significand_bits),
        "is_zero": flow(1),
        "is_nar": flow(1),
    }


class Multiplier(wiring.Component):
    """Combinational exact product of two operands of ``fmt``.

    Ports: ``a_*`` and ``b_*`` in, flat unpacked operands (``unpacked_members``); out ``sign``,
    ``exponent``, ``significand``, ``is_zero``, ``is_nar`` (``product_members``). The product is
    (−1)^sign · significand · 2^(exponent − 2·(fmt.significand_bits − 1)): the significand is in
    [1, 4) and not normalised, the exponent is the sum of the operands'. NaR · anything is NaR;
    0 · finite is zero with the product's sign. With a flag set, exponent and significand carry no
    meaning; so it is for the operands, whose hidden bits are taken as 1.
    """

    def __init__(self, fmt: Format):
        if not isinstance(fmt, Format):
            raise TypeError(f"fmt must be a Format, not {fmt!r}")
        self.fmt = fmt
        super().__init__({
            **unpacked_members(fmt, In, "a_"),
            **unpacked_members(fmt, In, "b_"),
            **product_members(fmt, Out),
        })

    @property
    def leaf_name(self) -> str:
        return f"multiplier_{self.fmt.name}"

    def elaborate(self, platform):
        m = Module()
        m.d.comb += [
            self.sign.eq(self.a_sign ^ self.b_sign),
            self.exponent.eq(self.a_exponent + self.b_exponent),
            self.significand.eq(self._significands(m)),
            self.is_nar.eq(self.a_is_nar | self.b_is_nar),
            self.is_zero.eq((self.a_is_zero | self.b_is_zero) & ~self.is_nar),
        ]
        return m

    def _significands(self, m: Module) -> Value:
        """Their product. From 5 bits on an array of ripple rows is the smaller circuit: the
        hidden bit of ``a`` needs no gates in the rows, that of ``b`` makes the last one."""
        bits = self.fmt.significand_bits
        if bits < 5:
            a, b = Signal(bits), Signal(bits)
            m.d.comb += [
                a.eq(Cat(self.a_significand[:-1], 1)),
                b.eq(Cat(self.b_significand[:-1], 1)),
            ]
            return a * b
        fraction, digits = self.a_significand[:-1], self.b_significand[:-1]
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
