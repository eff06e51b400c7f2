"""Products of operands in fixed point."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.exact_sum import exact_sum
from hdl.arith.product import product_layout
from hdl.spec.formats import Format

__all__ = ["FixedProduct"]


def _fine_bits(fmt: Format) -> int:
    """Exponent bits that the fine shifter takes: it then makes windows about as wide as a
    product. Measured, decision 006."""
    return 3 if fmt.product_bits <= 50 else 4


def _windows(fmt: Format, fine: int) -> dict[int, dict[int, int]]:
    """Which bits can be set: {place in the fixed-point word: {exponent >> fine: place in the
    window}}.

    The window is the significand shifted left by the low ``fine`` bits of the exponent. Codes of
    large and small magnitude have few fraction bits, which leaves most places of it empty.
    """
    fraction_bits: dict[int, int] = {}
    for encoding in fmt.encodings:
        for exponent in range(encoding.min_exponent, encoding.max_exponent + 1):
            fraction_bits[exponent] = max(fraction_bits.get(exponent, 0),
                                          encoding.fraction_bits_at(exponent))
    point = 2 * (fmt.significand_bits - 1)
    found: dict[int, dict[int, int]] = {}
    for exponent_a, bits_a in fraction_bits.items():
        for exponent_b, bits_b in fraction_bits.items():
            exponent = exponent_a + exponent_b
            offset = exponent & (1 << fine) - 1
            # Two powers of two never make a product of 2 or more.
            top = point + 1 if bits_a and bits_b else point
            for index in range(point - bits_a - bits_b, top + 1):
                place = exponent - point + index - fmt.product_unit_log2
                found.setdefault(place, {})[exponent >> fine] = index + offset
    return found


class FixedProduct(wiring.Component):
    """Combinational: an exact product in fixed point, ready to be added.

    A negative one is a ones' complement whose missing unit is ``o.carry``: the adder that takes it
    has a carry input to spare. A zero product gives 0. One of integers is in that form already.

    Members
    -------
    product: In(``product_layout``).
    o: Out(``exact_sum``) of one product.

    Raises
    ------
    TypeError: ``fmt`` is no ``Format``.
    """

    def __init__(self, fmt: Format):
        if not isinstance(fmt, Format):
            raise TypeError(f"fmt must be a Format, not {fmt!r}")
        self.fmt = fmt
        super().__init__({
            "product": In(product_layout(fmt)),
            "o": Out(exact_sum(fmt, 1)),
        })

    @property
    def leaf_name(self) -> str:
        return f"fixed_product_{self.fmt.name}"

    def elaborate(self, platform):
        m = Module()
        if self.fmt.integer:
            m.d.comb += self.o.sum.eq(self.product.number)
            return m
        fine = _fine_bits(self.fmt)
        negative = Signal()
        m.d.comb += negative.eq(self.product.sign & ~self.product.is_zero)
        # The sign is spent where the word is narrowest; it fills every place left free.
        significand = self.product.significand
        window = Signal(len(significand), name="window")
        m.d.comb += window.eq(significand ^ negative.replicate(len(significand)))
        for index in range(fine):
            fill = negative.replicate(1 << index)
            shifted = Signal(len(window) + len(fill), name=f"window_{index}")
            m.d.comb += shifted.eq(Mux(self.product.exponent[index], Cat(fill, window),
                                       Cat(window, fill)))
            window = shifted
        places = _windows(self.fmt, fine)
        selects: dict[int, Signal] = {}
        coarse = self.product.exponent[fine:].as_signed()
        for number, key in enumerate(sorted({key for place in places.values() for key in place})):
            selects[key] = Signal(name=f"select_{number}")
            m.d.comb += selects[key].eq((coarse == key) & ~self.product.is_zero)
        fills: dict[tuple[int, ...], Signal] = {}  # negative, and none of these windows is chosen
        bits = []
        for place in range(self.fmt.product_bits):
            chosen = places.get(place, {})
            keys = tuple(sorted(chosen))
            if keys not in fills:
                fills[keys] = Signal(name=f"fill_{len(fills)}")
                m.d.comb += fills[keys].eq(negative & ~Cat(selects[key] for key in keys).any())
            bit = fills[keys]
            for key in keys:
                bit = bit | (selects[key] & window[chosen[key]])
            bits.append(bit)
        m.d.comb += [self.o.sum.eq(Cat(bits).as_signed()), self.o.carry.eq(negative),
                     self.o.nar.eq(self.product.is_nar)]
        return m
