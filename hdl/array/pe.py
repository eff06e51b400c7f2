"""One processing element of the weight-stationary array."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.mac import ExactMultiplier, Mac
from hdl.codec.operand import OperandLayout
from hdl.lib.leaf import with_latency
from hdl.spec.config import AcceleratorConfig

__all__ = ["PE", "psum_members"]


def psum_members(config: AcceleratorConfig, rows: int, columns: int) -> dict[str, object]:
    """Members of ``columns`` partial sums through or, of exact columns, of ``rows`` rows."""
    members = {"psum_o": Out(columns * config.column_bits(rows))}
    if not config.exact_columns:
        members["psum_i"] = In(columns * config.acc_bits)
    return members


class PE(wiring.Component):
    """A MAC with double-buffered weight (paper section 7: inputs left to right, psums downwards).

    The shadow weights of all PEs form shift chains, downwards for B stored K×N and rightwards for
    B stored N×K, so that loading also transposes. ``swap`` makes the shadow weight the active one.

    Members
    -------
    x_i → x_o: ``OperandLayout``, operand of this row; used in this cycle, passed on one cycle
        later.
    swap_i → swap_o: takes effect for the operand of the next cycle; moves right with x.
    down_i → down_o: shift the shadow weight in from ``w_above``; moves right.
    right_i → right_o: shift the shadow weight in from ``w_left``; moves down.
    w_above, w_left: ``OperandLayout``, neighbours' shadow weights; w_o: this one's.
    psum_i → psum_o: accumulator words, one cycle later; the operand's product joins the psum that
        enters ``latency`` − 1 cycles after the operand.

    A build of exact columns has no ``psum_i``: ``psum_o`` is the product alone, unregistered
    (``exact_sum``), since the column adds all its products at once (``Stack``). ``right_i`` then
    reaches all rows in one cycle, ``right_o`` being the same.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        operand = OperandLayout(config.format)
        super().__init__({
            "x_i": In(operand), "x_o": Out(operand),
            "swap_i": In(1), "swap_o": Out(1),
            "down_i": In(1), "down_o": Out(1),
            "right_i": In(1), "right_o": Out(1),
            "w_above": In(operand), "w_left": In(operand), "w_o": Out(operand),
            **psum_members(config, 1, 1),
        })

    @property
    def latency(self) -> int:
        """Cycles from ``x_i`` to ``psum_o``."""
        return self.config.pe_latency - self.config.exact_columns

    @property
    def leaf_name(self) -> str:
        return with_latency(f"pe_{self.config.fmt}_{self.config.acc}", self.config.pe_latency)

    def elaborate(self, platform):
        m = Module()
        fmt = self.config.format
        exact = self.config.exact_columns
        m.submodules.mac = mac = (ExactMultiplier(fmt, self.latency) if exact
                                  else Mac(fmt, self.config.acc, self.latency))

        operand = OperandLayout(fmt)
        shadow = Signal(operand, reset_less=True)
        active = Signal(operand, reset_less=True)
        x = Signal(operand, reset_less=True)
        m.d.sync += [
            x.eq(self.x_i),
            self.swap_o.eq(self.swap_i),
            self.down_o.eq(self.down_i),
        ]
        if exact:
            m.d.comb += self.right_o.eq(self.right_i)
        else:
            m.d.sync += self.right_o.eq(self.right_i)
        with m.If(self.down_i | self.right_i):
            m.d.sync += shadow.eq(Mux(self.down_i, self.w_above, self.w_left))
        with m.If(self.swap_i):
            m.d.sync += active.eq(shadow)

        m.d.comb += [mac.a.eq(self.x_i), mac.b.eq(active), self.x_o.eq(x), self.w_o.eq(shadow)]
        if exact:
            m.d.comb += self.psum_o.eq(mac.o)
        else:
            m.d.comb += [mac.psum_i.eq(self.psum_i), self.psum_o.eq(mac.psum_o)]
        return m
