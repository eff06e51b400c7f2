"""The foot of a column of ``fused`` sums: a tile's exact sum becomes an FP32 word."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.exact_round import ExactRound
from hdl.arith.exact_sum import exact_sum
from hdl.spec.formats import BINARY32, Format

__all__ = ["ColumnFoot"]


class ColumnFoot(wiring.Component):
    """The exact sum of ``products`` products, rounded once to FP32, RNE (numerics: Accumulators,
    ``fused``), one cycle later: a register stands between the sum's last carry and its rounding,
    without which the foot takes half as long again as a column. A zero is +0, NaR the canonical
    NaN; no sum of 8-bit products is subnormal or infinite.

    Ports: ``i`` in, ``exact_sum(fmt, products)``; ``o`` out, an FP32 word, not registered.
    """

    def __init__(self, fmt: Format, products: int):
        self.fmt = fmt
        self.products = products
        super().__init__({"i": In(exact_sum(fmt, products)), "o": Out(BINARY32.bits)})

    @property
    def leaf_name(self) -> str:
        return f"column_foot_{self.fmt.name}_{self.products}"

    def elaborate(self, platform):
        m = Module()
        m.submodules.round = rounder = ExactRound(self.fmt, self.products, BINARY32)
        total, nar = Signal(len(self.i.sum), reset_less=True), Signal(reset_less=True)
        m.d.sync += [total.eq(self.i.sum + self.i.carry), nar.eq(self.i.nar)]
        m.d.comb += [rounder.value.eq(Cat(total, nar)), rounder.is_lane_word.eq(0),
                     self.o.eq(rounder.result)]
        return m
