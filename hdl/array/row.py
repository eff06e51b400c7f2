"""D processing elements side by side."""

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.array.pe import PE, psum_members
from hdl.codec.operand import OperandLayout, OperandVector
from hdl.lib.leaf import shared, with_latency
from hdl.spec.config import AcceleratorConfig

__all__ = ["Row"]


class Row(wiring.Component):
    """One row of the array, the unit that ``Array`` stacks.

    Members
    -------
    x_i, swap_i, down_i, w_left: enter the leftmost ``PE``.
    right_i → right_o, w_above → w_o, psum_i → psum_o: D elements, column 0 lowest; ``psum_i`` is
        absent from a build of exact columns.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        operand = OperandLayout(config.format)
        dim = config.dim
        operands = OperandVector(config.format, dim)
        super().__init__({
            "x_i": In(operand), "swap_i": In(1), "down_i": In(1), "w_left": In(operand),
            "right_i": In(dim), "right_o": Out(dim),
            "w_above": In(operands), "w_o": Out(operands),
            **psum_members(config, 1, dim),
        })

    @property
    def leaf_name(self) -> str:
        config = self.config
        return with_latency(f"row_{config.fmt}_{config.acc}_{config.dim}", config.pe_latency)

    def elaborate(self, platform):
        m = Module()
        psum = self.config.column_bits(1)
        x, swap, down, left = self.x_i, self.swap_i, self.down_i, self.w_left
        for column in range(self.config.dim):
            pe = PE(self.config)
            m.submodules[f"pe{column}"] = shared(pe)
            m.d.comb += [
                pe.x_i.eq(x), pe.swap_i.eq(swap), pe.down_i.eq(down), pe.w_left.eq(left),
                pe.right_i.eq(self.right_i[column]),
                self.right_o[column].eq(pe.right_o),
                pe.w_above.eq(self.w_above[column]), self.w_o[column].eq(pe.w_o),
                self.psum_o.word_select(column, psum).eq(pe.psum_o),
            ]
            if not self.config.exact_columns:
                m.d.comb += pe.psum_i.eq(self.psum_i.word_select(column, psum))
            x, swap, down, left = pe.x_o, pe.swap_o, pe.down_o, pe.w_o
        return m
