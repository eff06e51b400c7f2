"""The exact accumulator: sums of products into a word that never overflows."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.exact_sum import exact_sum, exact_word_bits, extended
from hdl.lib import ripple
from hdl.spec.formats import Format

__all__ = ["ExactAccumulator"]


class ExactAccumulator(wiring.Component):
    """Combinational addition of a sum of ``products`` products to an accumulator word.

    Ports: ``addend`` in, ``exact_sum(fmt, products)``; ``psum_i`` in and ``psum_o`` out, words of
    ``exact_word_bits``: two's complement in units of 2^fmt.product_unit_log2 and a sticky NaR bit
    on top, which words of integers lack. Nothing is rounded, and nothing overflows in at most
    ``k_max`` products; under NaR the other bits carry no meaning.
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
        if self.fmt.integer:
            total = ripple.add(m, "sum", self.psum_i, extended(addend.sum, len(self.psum_i)))
            m.d.comb += self.psum_o.eq(total[:-1])
            return m
        total = ripple.add(m, "sum", self.psum_i[:-1],
                           extended(addend.sum, len(self.psum_i) - 1), addend.carry)
        m.d.comb += self.psum_o.eq(Cat(total[:-1], self.psum_i[-1] | addend.nar))
        return m
