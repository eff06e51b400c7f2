"""From a command to the plan that every unit of the accelerator follows.

A command is cut into blocks of rows; a block's columns into chunks, each of which fills one
accumulation bank; K into spans that fit an input bank; columns and K into weight panels. All
spans but the last are powers of two, so that planning needs shifts only.
"""

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.ports.plan import copied, count_tiles, plan_layout
from hdl.spec.commands import COMMAND, INSTRUCTIONS, Opcode
from hdl.spec.config import COUNT_BITS, AcceleratorConfig, log2_exact
from hdl.spec.panels import LEAST_TILES
from hdl.spec.timing import BLOCK_TILES, PLAN_LATENCY

__all__ = ["Planner"]


class Planner(wiring.Component):
    """Combinational: command fields and what its instruction list needs → plan.

    Ports
    -----
    record: the command's 1,024 bits.
    rowwise, stored: see ``CommandCheck``.
    count: instructions in the list.
    plan: valid ``LATENCY`` cycles after the inputs are stable.
    oversize: a row has to stay on chip and does not fit, valid with ``plan``.
    """

    LATENCY = PLAN_LATENCY

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "record": In(8 * 128), "rowwise": In(1), "stored": In(1),
            "count": In(range(INSTRUCTIONS + 1)),
            "plan": Out(plan_layout(config)), "oversize": Out(1),
        })

    def _field(self, name: str):
        field = COMMAND[name]
        return self.record[field.offset : field.offset + field.bits]

    @staticmethod
    def _ceil_log2(m: Module, name: str, value) -> Signal:
        """⌈log2 value⌉, registered; value ≥ 1."""
        below = Signal(len(value), name=f"{name}_below")
        result = Signal(range(len(value) + 1), name=f"{name}_log2", reset_less=True)
        m.d.comb += below.eq(value - 1)
        with m.If(below == 0):
            m.d.sync += result.eq(0)
        for bit in range(len(value)):
            with m.If((below >> bit) == 1):
                m.d.sync += result.eq(bit + 1)
        return result

    def elaborate(self, platform):
        m = Module()
        config, plan = self.config, self.plan
        dim_log2 = log2_exact(config.dim)
        for name in copied(config):
            m.d.comb += plan[name].eq(self._field(name))

        m_log2 = self._ceil_log2(m, "rows", self._field("m")[:COUNT_BITS])
        k_log2 = self._ceil_log2(m, "k_tiles", count_tiles(config, self._field("k")[:COUNT_BITS]))
        n_log2 = self._ceil_log2(m, "n_tiles", count_tiles(config, self._field("n")[:COUNT_BITS]))

        input_log2 = log2_exact(config.input_depth)
        acc_log2 = log2_exact(config.acc_depth)
        fits = n_log2 <= acc_log2
        whole_rows = (self.rowwise | ~plan.gemm) & fits
        panel_log2 = log2_exact(config.panel_columns)
        least_log2 = log2_exact(LEAST_TILES)
        # A quarter of N's tiles, see ``chunk_tiles_log2``.
        tiles_log2 = Signal(range(panel_log2 + 1))
        m.d.comb += tiles_log2.eq(min(panel_log2, least_log2))
        for log2 in range(least_log2 + 1, panel_log2 + 1):
            with m.If(n_log2 >= log2 + 2):
                m.d.comb += tiles_log2.eq(log2)

        chunk_log2 = Signal.like(n_log2)
        rows = Signal(range(acc_log2 + 1))
        span_log2 = Signal(range(input_log2 + 1))
        row_log2 = log2_exact(config.row_depth)
        tile_rows_log2 = min(row_log2, input_log2, dim_log2 + log2_exact(BLOCK_TILES))
        most = Mux(plan.gemm & ~self.rowwise, tile_rows_log2, min(row_log2, input_log2))
        limit = Mux(m_log2 < most, m_log2, most)
        m.d.comb += [
            plan.gemm.eq(self._field("opcode") == Opcode.GEMM),
            plan.streamed.eq(self.rowwise & ~self.stored & ~fits),
            self.oversize.eq(self.stored & ~fits),
            plan.passes.eq(Mux(plan.streamed, self.count, 1)),
            plan.single.eq(self.count == 1),
            chunk_log2.eq(Mux(whole_rows, n_log2, Mux(plan.streamed, acc_log2, tiles_log2))),
            plan.rowwise.eq(self.rowwise),
            plan.chunk_log2.eq(chunk_log2 + dim_log2),
            plan.chunk.eq(Const(1) << plan.chunk_log2),
            rows.eq(acc_log2 - chunk_log2),
            plan.block_log2.eq(Mux(plan.streamed, 0, Mux(rows < limit, rows, limit))),
            # Rows that share weights come first: K is cut to what fits together with them.
            span_log2.eq(input_log2 - plan.block_log2),
            plan.resident.eq(k_log2 <= span_log2),
            # Cut to what log2 of a count needs: every further bit would double the shifter.
            plan.k_span.eq(Const(config.dim) << Mux(
                plan.resident, k_log2, span_log2)[:COUNT_BITS.bit_length()]),
        ]
        return m
