"""The feeder: operand rows through the array, tile after tile."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.nest import Level, Nest
from hdl.lib.pair import one_of
from hdl.ports.accumulation import FillPort, Release, maximum_layout, row_token
from hdl.ports.plan import COUNT_BITS, count_tiles, plan_layout
from hdl.ports.sram import SramRead
from hdl.ports.unit import UnitPort
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.spec.timing import REPEAT_CYCLES

__all__ = ["Feeder"]


class Feeder(wiring.Component):
    """Walks the tiles of a GEMM and streams each block of A through the array, one row per cycle.

    Members
    -------
    command: In(``UnitPort``), GEMMs.
    loaded: In, of each input bank: the words that it holds (``OperandLoader``); a row is fed as
        soon as it has arrived. released: Out(``Release``), a bank has been read.
    fill: Out(``FillPort``), the accumulation bank for the results.
    maximum: Out(``maximum_layout``), of the plan in progress (``RowMaximum``).
    ready: In(1), swap: Out(1), the shadow weights (``WeightShifter``).
    read: Out(``SramRead``), of the input banks, latency 1.
    e5m2: Out(1), encoding of A, constant while rows flow.
    token: Out(``row_token``), accompanies the row whose read is issued in this cycle.
    row, tile, stall_input, stall_weight, stall_accumulator: Out(1), pulses for the counters.
    hungry: Out(1), the current tile waits or has waited for its rows. lacking: Out(1), there is
        no current tile, and the next one lacks rows.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "command": In(UnitPort(config)),
            "loaded": In(data.ArrayLayout(range(config.input_depth + 1), 2)),
            "released": Out(Release()), "fill": Out(FillPort()),
            "maximum": Out(maximum_layout(config)),
            "ready": In(1), "swap": Out(1), "read": Out(SramRead(config.input_depth, banks=2)),
            "e5m2": Out(1), "token": Out(row_token(config)),
            "row": Out(1), "tile": Out(1), "stall_input": Out(1), "stall_weight": Out(1),
            "stall_accumulator": Out(1), "hungry": Out(1), "lacking": Out(1),
        })

    def _walk(self, m: Module, plan) -> Nest:
        """The loops over tiles, and the addresses that follow them."""
        config = self.config
        dim = config.dim
        _, lines = config.panel_tiles(True)

        def bits(tiles):
            return (tiles * dim).bit_length()

        m.submodules.nest = nest = Nest((
            Level("rows", COUNT_BITS), Level("passes", 4), Level("chunk", COUNT_BITS),
            Level("span", COUNT_BITS),
            Level("panel_n", bits(config.acc_depth), "chunk"),
            Level("group", bits(config.input_depth), "span"),
            Level("k", bits(config.input_depth), "group", dim),
            Level("n", bits(max(lines, config.panel_columns)), "panel_n", dim)))
        # As the operand loader has it.
        waits = (~plan.ahead & nest.rows_first & nest.span_first
                 & (plan.resident | (nest.passes_first & nest.chunk_first)))
        m.d.comb += [
            nest.rows_total.eq(plan.m), nest.rows_step.eq(1 << plan.block_log2),
            nest.passes_total.eq(plan.passes), nest.passes_step.eq(1),
            nest.chunk_total.eq(plan.n), nest.chunk_step.eq(plan.chunk),
            nest.span_total.eq(plan.k), nest.span_step.eq(plan.k_span),
            nest.panel_n_step.eq(Mux(plan.b_transposed, lines * dim, config.panel_columns * dim)),
            nest.group_step.eq(Mux(waits, config.operand_depth * dim, plan.k_span)),
        ]
        return nest

    def _indices(self, m: Module, plan, nest: Nest) -> tuple[Signal, Signal]:
        """Input word of the tile's first row, column tile within the chunk."""
        config = self.config
        x_base = Signal(range(config.input_depth), reset_less=True)
        x_index = Signal.like(x_base, name="x_index")
        n_base = Signal(range(config.acc_depth + config.panel_columns), reset_less=True)
        n_index = Signal.like(n_base, name="n_index")
        with m.If(nest.group_enter):
            m.d.sync += x_base.eq(0)
        # Where a bank has several groups, they are those that the array waits for.
        with m.Elif(nest.group_advance):
            m.d.sync += x_base.eq(x_base + (nest.rows_size << log2_exact(config.operand_depth)))
        with m.If(nest.k_enter):
            m.d.sync += x_index.eq(x_base)
        with m.Elif(nest.k_advance):
            m.d.sync += x_index.eq(x_index + Mux(plan.a_transposed, nest.rows_size, 1))
        with m.If(nest.panel_n_enter):
            m.d.sync += n_base.eq(0)
        with m.Elif(nest.panel_n_advance):
            m.d.sync += n_base.eq(n_base + Mux(plan.b_transposed, config.panel_tiles(True)[1],
                                               config.panel_columns))
        with m.If(nest.n_enter):
            m.d.sync += n_index.eq(n_base)
        with m.Elif(nest.n_advance):
            m.d.sync += n_index.eq(n_index + 1)
        return x_index, n_index

    def elaborate(self, platform):
        m = Module()
        config = self.config
        plan = Signal(plan_layout(config), reset_less=True)
        running, starting = Signal(), Signal()
        tile = data.StructLayout({
            "x": range(config.input_depth), "x_pitch": range(config.input_depth + 1),
            "acc": range(config.acc_depth), "acc_pitch": range(config.acc_depth + 1),
            "rows": range(config.row_depth + 1), "bank": 1, "first": 1, "column": 1, "last": 1,
            "short": 1, "release": 1, "x_bank": 1,
        })
        head, head_valid = Signal(tile, reset_less=True), Signal()
        body, body_valid = Signal(tile, reset_less=True), Signal()
        nest = self._walk(m, plan)
        m.d.comb += nest.start.eq(starting)
        self._tiles(m, plan, nest, head, head_valid, running & ~body_valid)
        self._rows(m, plan, head, head_valid, body, body_valid)

        m.d.comb += [
            self.command.plan.ready.eq(~running), self.command.idle.eq(~running),
            self.stall_weight.eq(running & ~body_valid & head_valid & ~self.ready),
        ]
        offered = self.command.plan
        m.d.sync += starting.eq(offered.valid & offered.ready)
        with m.If(offered.valid & offered.ready):
            m.d.sync += [plan.eq(offered.payload), running.eq(1)]
        with m.Elif(~starting & nest.idle & ~head_valid & ~body_valid):
            m.d.sync += running.eq(0)
        return m

    def _tiles(self, m: Module, plan, nest: Nest, head, head_valid, waiting) -> None:
        """Plan → tile: the first of a chunk waits for an accumulation bank."""
        config = self.config
        x_index, n_index = self._indices(m, plan, nest)
        bank, x_bank = Signal(), Signal()
        first_k, last_k = Signal(), Signal()
        opens = first_k & nest.panel_n_first & nest.n_first
        closes_span = nest.panel_n_last & nest.group_last & nest.k_last & nest.n_last
        closes_chunk, closes_block = Signal(), Signal()
        has_bank, take = Signal(), Signal()
        m.d.comb += [
            first_k.eq(nest.span_first & nest.group_first & nest.k_first),
            last_k.eq(nest.span_last & nest.group_last & nest.k_last),
            closes_chunk.eq(closes_span & nest.span_last),
            closes_block.eq(Mux(plan.resident,
                                closes_chunk & nest.chunk_last & nest.passes_last, closes_span)),
            has_bank.eq(~opens | self.fill.free),
            take.eq(nest.valid & has_bank & (~head_valid | self.swap)),
            nest.next.eq(take),
            self.fill.claim.eq(take & opens),
            self.stall_accumulator.eq(waiting & ~head_valid & nest.valid & ~has_bank),
        ]
        with m.If(self.swap):
            m.d.sync += head_valid.eq(0)
        with m.If(take):
            m.d.sync += [
                head_valid.eq(1),
                head.x.eq(x_index),
                head.x_pitch.eq(Mux(plan.a_transposed, 1,
                                    count_tiles(config, nest.group_size))),
                head.acc.eq(n_index), head.acc_pitch.eq(count_tiles(config, nest.chunk_size)),
                head.rows.eq(nest.rows_size), head.short.eq(nest.rows_size < REPEAT_CYCLES),
                head.bank.eq(Mux(opens, self.fill.bank, bank)), head.x_bank.eq(x_bank),
                head.first.eq(first_k), head.column.eq(last_k),
                head.last.eq(closes_chunk), head.release.eq(closes_block),
            ]
            with m.If(opens):
                m.d.sync += bank.eq(self.fill.bank)
            with m.If(closes_block):
                m.d.sync += x_bank.eq(~x_bank)

    def _rows(self, m: Module, plan, head, head_valid, body, body_valid) -> None:
        """Tile → rows: the swap coincides with the last row of the tile before."""
        ending, feeding = Signal(), Signal()
        # A tile of few rows that was late must not be followed at once: their sums would meet.
        ended = Signal(REPEAT_CYCLES - 1)
        early = Signal()
        m.d.sync += ended.eq(Cat(ending, ended[:-1]))
        m.d.comb += [
            early.eq(body.short & ended.any()),
            ending.eq(feeding & (body.rows == 1)),
            # A row goes as soon as its words are in, whether or not the bank is complete.
            feeding.eq(body_valid & ~early
                       & (body.x < one_of(self.loaded, body.x_bank))),
            self.swap.eq(head_valid & self.ready & (~body_valid | ending)),
            self.read.enable.eq(feeding),
            self.read.bank.eq(body.x_bank), self.read.address.eq(body.x),
            self.token.valid.eq(feeding), self.token.bank.eq(body.bank),
            self.token.address.eq(body.acc), self.token.first.eq(body.first),
            self.token.mark.final.eq(body.column), self.token.mark.closing.eq(body.last),
            self.token.mark.ends.eq(body.rows == 1),
            self.released.valid.eq(ending & body.release),
            self.released.bank.eq(body.x_bank),
            self.e5m2.eq(plan.a_e5m2),
            self.maximum.edge.eq(plan.n), self.maximum.scale.eq(plan.imm0),
            self.row.eq(feeding), self.tile.eq(self.swap),
            self.stall_input.eq(body_valid & ~feeding & ~early),
        ]
        waited = Signal()
        m.d.comb += [
            self.hungry.eq(waited | self.stall_input),
            self.lacking.eq(head_valid & ~body_valid
                            & (one_of(self.loaded, head.x_bank) < head.rows)),
        ]
        m.d.sync += waited.eq(self.hungry & ~self.swap)
        with m.If(feeding):
            m.d.sync += [body.x.eq(body.x + body.x_pitch), body.acc.eq(body.acc + body.acc_pitch),
                         body.rows.eq(body.rows - 1), body_valid.eq(~ending)]
        with m.If(self.swap):
            m.d.sync += [body.eq(head), body_valid.eq(1)]
