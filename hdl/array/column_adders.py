"""The adders of an exact array's columns, side by side."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.column_adder import ColumnAdder
from hdl.lib.leaf import shared
from hdl.spec.config import AcceleratorConfig

__all__ = ["ColumnAdders"]

_GROUP = 8  # adders in the smallest leaf: enough that area counts each of them as a unit


class ColumnAdders(wiring.Component):
    """Combinational sums of two exact sums of ``products`` products each, for ``columns`` columns.

    Two equal halves, each a shared leaf, down to groups of adders: text grows with log ``columns``.

    Ports: ``upper``, ``lower`` in, ``o`` out; a ``ColumnAdder``'s words, column 0 lowest.
    """

    def __init__(self, config: AcceleratorConfig, products: int, columns: int):
        self.config = config
        self.products = products
        self.columns = columns
        half, whole = (config.column_bits(rows) for rows in (products, 2 * products))
        super().__init__({"upper": In(columns * half), "lower": In(columns * half),
                          "o": Out(columns * whole)})

    @property
    def leaf_name(self) -> str:
        return f"column_adds_{self.config.fmt}_{2 * self.products}_{self.columns}"

    def elaborate(self, platform):
        m = Module()
        parts = 2 if self.columns > _GROUP else self.columns
        upper, lower, o = (len(port) // parts for port in (self.upper, self.lower, self.o))
        for index in range(parts):
            if self.columns > _GROUP:
                part = ColumnAdders(self.config, self.products, self.columns // 2)
                inputs = part.upper, part.lower
            else:
                part = ColumnAdder(self.config.format, self.products)
                inputs = part.upper.as_value(), part.lower.as_value()
            m.submodules[f"part{index}"] = shared(part)
            m.d.comb += [
                inputs[0].eq(self.upper.word_select(index, upper)),
                inputs[1].eq(self.lower.word_select(index, lower)),
                self.o.word_select(index, o).eq(part.o),
            ]
        return m
