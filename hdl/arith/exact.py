"""Exact accumulation: products as two's-complement fixed point, which no sum ever rounds."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.product import product_layout
from hdl.lib import ripple
from hdl.spec.config import ceil_log2
from hdl.spec.formats import Format

__all__ = ["ColumnAdder", "ExactAccumulator", "FixedProduct", "exact_sum", "exact_word_bits"]


def exact_sum(fmt: Format, products: int) -> data.StructLayout:
    """The sum of ``products`` products of ``fmt`` (a power of two), in units of
    2^fmt.product_unit_log2: its value is ``sum`` + ``carry``. ``nar``: one of them is NaR; the
    rest then carries no meaning."""
    return data.StructLayout({
        "sum": signed(fmt.product_bits + ceil_log2(products)), "carry": 1, "nar": 1})


def exact_word_bits(fmt: Format, k_max: int) -> int:
    """Bits of an exact accumulator that has room for ``k_max`` products, NaR bit included."""
    return fmt.product_bits + ceil_log2(k_max) + 1


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
    has a carry input to spare. A zero product gives 0.

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


def _extended(value, width: int):
    """The low ``width`` bits of a signed value, however wide it is."""
    return Cat(value, value[-1].replicate(max(0, width - len(value))))[:width]


class ColumnAdder(wiring.Component):
    """Combinational sum of two sums of ``products`` products each.

    Ports: ``upper``, ``lower`` in, ``exact_sum(fmt, products)``; ``o`` out,
    ``exact_sum(fmt, 2 · products)``. One carry goes in, the other is passed on.
    """

    def __init__(self, fmt: Format, products: int):
        self.fmt = fmt
        self.products = products
        super().__init__({"upper": In(exact_sum(fmt, products)),
                          "lower": In(exact_sum(fmt, products)),
                          "o": Out(exact_sum(fmt, 2 * products))})

    @property
    def leaf_name(self) -> str:
        return f"column_add_{self.fmt.name}_{2 * self.products}"

    def elaborate(self, platform):
        m = Module()
        upper, lower, o = self.upper, self.lower, self.o
        width = len(o.sum)
        total = ripple.add(m, "sum", _extended(upper.sum, width), _extended(lower.sum, width),
                           upper.carry)
        m.d.comb += [o.sum.eq(total[:width].as_signed()), o.carry.eq(lower.carry),
                     o.nar.eq(upper.nar | lower.nar)]
        return m


class ExactAccumulator(wiring.Component):
    """Combinational addition of a sum of ``products`` products to an accumulator word.

    Ports: ``addend`` in, ``exact_sum(fmt, products)``; ``psum_i`` in and ``psum_o`` out, words of
    ``exact_word_bits``: two's complement in units of 2^fmt.product_unit_log2 and a sticky NaR bit
    on top. Nothing is rounded, and nothing overflows in at most ``k_max`` products; under NaR the
    other bits carry no meaning.
    """

    def __init__(self, fmt: Format, k_max: int, products: int = 1):
        self.fmt = fmt
        self.k_max = k_max
        self.products = products
        word = exact_word_bits(fmt, k_max)
        super().__init__({"addend": In(exact_sum(fmt, products)),
                          "psum_i": In(word), "psum_o": Out(word)})

    @property
    def leaf_name(self) -> str:
        return f"accumulator_add_{self.fmt.name}_exact_{len(self.psum_o)}_{self.products}"

    def elaborate(self, platform):
        m = Module()
        addend = self.addend
        total = ripple.add(m, "sum", self.psum_i[:-1],
                           _extended(addend.sum, len(self.psum_i) - 1), addend.carry)
        m.d.comb += self.psum_o.eq(Cat(total[:-1], self.psum_i[-1] | addend.nar))
        return m
