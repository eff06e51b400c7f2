"""Sums of products, two at a time, down a column of the array."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.exact_sum import exact_sum, extended
from hdl.lib import ripple
from hdl.spec.formats import Format

__all__ = ["ColumnAdder"]


class ColumnAdder(wiring.Component):
    """Combinational sum of two sums of ``products`` products each.

    Ports: ``upper``, ``lower`` in, ``exact_sum(fmt, products)``; ``o`` out,
    ``exact_sum(fmt, 2 · products)``. One carry goes in, the other is passed on, where there are
    carries.
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
        total = ripple.add(m, "sum", extended(upper.sum, width), extended(lower.sum, width),
                           None if self.fmt.integer else upper.carry)
        m.d.comb += o.sum.eq(total[:width].as_signed())
        if not self.fmt.integer:
            m.d.comb += [o.carry.eq(lower.carry), o.nar.eq(upper.nar | lower.nar)]
        return m
