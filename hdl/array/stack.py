"""Rows of the array, stacked by halves."""

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.array.column_adders import ColumnAdders
from hdl.array.pe import psum_members
from hdl.array.row import Row
from hdl.codec.operand import OperandVector
from hdl.lib.leaf import shared, with_latency
from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["Stack"]


class Stack(wiring.Component):
    """``rows`` rows of D processing elements, one above the other.

    Two equal halves make a stack, down to one ``Row``: each size is one shared leaf, so that the
    text and the work of emitting D rows of D columns grow with D log D, not with D².

    Members, row 0 (the uppermost) lowest
    -------
    x_i, swap_i, down_i, w_left: enter the rows at the left, one element per row.
    right_i → right_o, w_above → w_o, psum_i → psum_o: D elements; pass from above to below. With
        exact columns there is no ``psum_i``: ``psum_o`` is the sum of a column's products
        (``exact_sum``), the halves' being added without a register.

    Raises
    ------
    ValueError: ``rows`` is not a power of two, at least 2.
    """

    def __init__(self, config: AcceleratorConfig, rows: int):
        if log2_exact(rows) < 1:
            raise ValueError(f"rows must be a power of two and at least 2, not {rows!r}")
        self.config = config
        self.rows = rows
        dim = config.dim
        column, row = (OperandVector(config.format, count) for count in (rows, dim))
        super().__init__({
            "x_i": In(column), "swap_i": In(rows), "down_i": In(rows), "w_left": In(column),
            "right_i": In(dim), "right_o": Out(dim),
            "w_above": In(row), "w_o": Out(row),
            **psum_members(config, rows, dim),
        })

    @property
    def leaf_name(self) -> str:
        config = self.config
        return with_latency(f"stack_{config.fmt}_{config.acc}_{config.dim}_{self.rows}",
                            config.pe_latency)

    def elaborate(self, platform):
        m = Module()
        half = self.rows // 2
        upper, lower = (Row(self.config) if half == 1 else Stack(self.config, half)
                        for _ in range(2))
        m.submodules.upper = shared(upper)
        m.submodules.lower = shared(lower)
        for name in ("x_i", "swap_i", "down_i", "w_left"):
            m.d.comb += Cat(getattr(upper, name), getattr(lower, name)).eq(getattr(self, name))
        chains = [("right_i", "right_o"), ("w_above", "w_o")]
        if self.config.exact_columns:
            adders = ColumnAdders(self.config, half, self.config.dim)
            m.submodules.adders = shared(adders)
            m.d.comb += [adders.upper.eq(upper.psum_o), adders.lower.eq(lower.psum_o),
                         self.psum_o.eq(adders.o)]
        else:
            chains.append(("psum_i", "psum_o"))
        for source, target in chains:
            m.d.comb += [
                getattr(upper, source).eq(getattr(self, source)),
                getattr(lower, source).eq(getattr(upper, target)),
                getattr(self, target).eq(getattr(lower, target)),
            ]
        return m
