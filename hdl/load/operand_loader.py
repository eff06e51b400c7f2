"""The operand loader: blocks of A or X, brought in ahead of their use."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.accumulate.accumulation_buffer import lane_to_accumulator
from hdl.bus.transfer import TRANSFER
from hdl.lib.chunk import chunk_layout
from hdl.lib.fifo import ShiftFifo
from hdl.lib.nest import Level, Nest
from hdl.lib.transposer import Transposer
from hdl.load.gather import Gather
from hdl.ports.plan import COUNT_BITS, plan_layout
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.spec.timing import INDEX_BYTES, TRANSFERS_AHEAD
from hdl.vector.fetch import FetchPort

__all__ = ["OperandLoader"]


class OperandLoader(wiring.Component):
    """Loads blocks of A into the input banks, or blocks of X (VECTOR) into accumulation banks.

    A block of A comes in pieces, so that the array can start on the first: all rows of a panel of
    K (``operand_depth`` tiles), then those of the next. A stored K×M comes in D×D tiles, along M
    first, through a transposer. Words of a bank follow one another as they arrive: a panel after
    the other, in it row after row, in a row (but for A stored K×M, whose panels are one tile deep)
    K-tile after K-tile. Nothing is asked for outside of A or X. Rows of X may be those of a table
    that indices name (``Gather``).

    Ports
    -----
    i: plans, in program order.
    transfer, chunks: a client of the read engine, chunks resized to ``word_bytes``.
    ``write_*``: words of D operands into an input bank. ``loaded0``, ``loaded1``: words that a
        bank holds; ``released`` with ``released_bank`` (``Feeder``): it is read and holds none.
    fill_free, fill_bank: the accumulation bank that comes next; ``fill_claim``: pulse, taken.
        ``fill_*``: words of D accumulators into bank ``fill_to``, row by row. ``fill_done``:
        pulse, that bank is complete.
    filling: the plan in progress is a VECTOR. idle: no plan in progress and no data outstanding.
    index_failed: an index names no row of its table; nothing goes on until reset.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        words = range(config.input_depth + 1)
        super().__init__({
            "i": In(stream.Signature(plan_layout(config))),
            "transfer": Out(stream.Signature(TRANSFER)),
            "chunks": In(stream.Signature(chunk_layout(config.word_bytes))),
            "released": In(1), "released_bank": In(1),
            "loaded0": Out(words), "loaded1": Out(words),
            "write_valid": Out(1), "write_bank": Out(1),
            "write_address": Out(range(config.input_depth)),
            "write_data": Out(8 * config.word_bytes),
            "fill_free": In(1), "fill_bank": In(1), "fill_claim": Out(1),
            "fill_valid": Out(1), "fill_to": Out(1),
            "fill_address": Out(range(config.acc_depth)),
            "fill_data": Out(config.dim * config.acc_bits), "fill_done": Out(1),
            "filling": Out(1), "idle": Out(1), "index_failed": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        plan = Signal(plan_layout(config), reset_less=True)
        rows_bits = range(max(config.row_depth, config.dim) + 1)
        m.submodules.asked = asked = ShiftFifo(data.StructLayout({
            "rows": rows_bits, "closes": 1, "bank": 1}), TRANSFERS_AHEAD)
        m.submodules.transposer = transposer = Transposer(config.dim,
                                                          config.format.storage_bits)
        m.submodules.nest = nest = self._nest()
        m.submodules.gather = gather = Gather(config)
        # Whether the chunks that come next are indices, for each transfer while rows are gathered.
        m.submodules.kinds = kinds = ShiftFifo(1, TRANSFERS_AHEAD + 1)
        running, starting, empty = Signal(), Signal(), Signal()
        m.d.comb += [
            empty.eq(~asked.o.valid & ~kinds.o.valid & ~transposer.busy),
            # Until its last data are in, a bus error has to find this command here.
            self.i.ready.eq(~running & empty), self.idle.eq(~running & empty),
            self.filling.eq(~self.idle & ~plan.gemm),
            nest.start.eq(starting),
        ]
        m.d.sync += starting.eq(self.i.valid & self.i.ready)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [plan.eq(self.i.payload), running.eq(1)]
        with m.Elif(~starting & nest.idle):
            m.d.sync += running.eq(0)
        self._walk(m, plan, nest, gather)
        self._request(m, plan, nest, asked, gather, kinds)
        self._receive(m, plan, asked, transposer, gather, kinds)
        return m

    def _nest(self) -> Nest:
        """Blocks and their repetitions; spans of K, panels in them; in a panel, rows of A."""
        return Nest((
            Level("rows", COUNT_BITS), Level("passes", 4), Level("chunks", COUNT_BITS),
            Level("columns", COUNT_BITS), Level("panel", COUNT_BITS, "columns"),
            Level("lines", COUNT_BITS, "rows")))

    def _walk(self, m: Module, plan, nest: Nest, gather: Gather) -> None:
        """The loops over blocks, and the transfer that each asks for."""
        config = self.config
        dim_log2 = log2_exact(config.dim)
        panel_log2 = dim_log2 + log2_exact(config.operand_depth)
        element_log2 = log2_exact(config.format.storage_bytes)
        wide = ~plan.gemm & plan.x_wide & (element_log2 == 0)
        flip = plan.gemm & plan.a_transposed
        block = Signal(COUNT_BITS)
        panel = Signal(COUNT_BITS)
        m.d.comb += [
            block.eq(1 << plan.block_log2),
            panel.eq(Mux(plan.gemm, Mux(flip, 1 << dim_log2, 1 << panel_log2), plan.chunk)),
        ]

        def to_bytes(count):
            return Mux(wide, count << 1, count << element_log2)

        # A whose K is one span stays for all chunks of its block; else each chunk loads it again.
        repeats = plan.gemm & ~plan.resident
        m.d.comb += [
            nest.rows_total.eq(plan.m), nest.rows_step.eq(block),
            nest.passes_total.eq(Mux(plan.gemm & plan.resident, 1, plan.passes)),
            nest.passes_step.eq(1),
            nest.chunks_total.eq(plan.n), nest.chunks_step.eq(Mux(repeats, plan.chunk, plan.n)),
            nest.columns_total.eq(Mux(plan.gemm, plan.k, plan.n)),
            nest.columns_step.eq(Mux(plan.gemm, plan.k_span, plan.chunk)),
            nest.panel_step.eq(panel), nest.lines_step.eq(Mux(flip, 1 << dim_log2, block)),
        ]
        # Bytes from A to the block, from there to the panel, from there to the tile. A table has
        # no block: then it is the block's indices that are counted on to.
        row_base, column, line = (Signal(64, name=name, reset_less=True)
                                  for name in ("row_base", "column", "line"))
        along_m, along_k = Signal(64), Signal(64)
        piece = gather.i.payload
        m.d.comb += [
            along_m.eq(Mux(flip, block << element_log2,
                           Mux(plan.x_gather, INDEX_BYTES, plan.a_stride) << plan.block_log2)),
            along_k.eq(Mux(flip, plan.a_stride << dim_log2, to_bytes(panel))),
        ]
        with m.If(nest.rows_enter):
            m.d.sync += row_base.eq(Mux(plan.x_gather, plan.b_address, plan.a_address))
        with m.Elif(nest.rows_advance):
            m.d.sync += row_base.eq(row_base + along_m)
        with m.If(nest.columns_enter):
            m.d.sync += column.eq(0)
        # A span but the last is whole panels.
        with m.Elif(nest.columns_advance | nest.panel_advance):
            m.d.sync += column.eq(column + along_k)
        with m.If(nest.lines_enter):
            m.d.sync += line.eq(0)
        with m.Elif(nest.lines_advance):
            m.d.sync += line.eq(line + config.word_bytes)
        m.d.comb += [
            piece.address.eq(Mux(plan.x_gather, plan.a_address, row_base) + column + line),
            piece.row_bytes.eq(to_bytes(Mux(flip, nest.lines_size, nest.panel_size))),
            piece.rows.eq(Mux(flip, nest.panel_size, nest.lines_size)),
            piece.stride.eq(plan.a_stride),
            gather.by_index.eq(plan.x_gather), gather.limit.eq(plan.k), gather.indices.eq(row_base),
        ]

    def _request(self, m: Module, plan, nest: Nest, asked: ShiftFifo, gather: Gather,
                 kinds: ShiftFifo) -> None:
        """Ask for a piece as soon as its bank is free, whatever is still on its way."""
        taken, bank = Signal(2), Signal()
        opens = nest.panel_first & nest.lines_first
        free = Mux(plan.gemm, ~taken.bit_select(bank, 1), self.fill_free)
        to_bank = Mux(plan.gemm, bank, self.fill_bank)
        filled = Signal(reset_less=True)
        go, begins, room = Signal(), Signal(), Signal()
        request = gather.o.payload
        m.d.comb += [
            gather.i.valid.eq(nest.valid & (free | ~opens)),
            room.eq(asked.i.ready & kinds.i.ready),
            self.transfer.valid.eq(gather.o.valid & room),
            self.transfer.payload.eq(request.transfer),
            gather.o.ready.eq(self.transfer.ready & room),
            kinds.i.valid.eq(gather.o.valid & gather.o.ready & plan.x_gather),
            kinds.i.payload.eq(request.index),
            go.eq(gather.o.valid & gather.o.ready & ~request.index),
            begins.eq(opens & request.first),
            nest.next.eq(go & request.last),
            self.fill_claim.eq(go & begins & ~plan.gemm),
            asked.i.valid.eq(go),
            asked.i.payload.rows.eq(request.transfer.rows),
            asked.i.payload.closes.eq(request.last & nest.panel_last & nest.lines_last),
            asked.i.payload.bank.eq(Mux(begins, to_bank, filled)),
            self.index_failed.eq(gather.failed),
        ]
        with m.If(go & begins):
            m.d.sync += filled.eq(to_bank)
            with m.If(plan.gemm):
                m.d.sync += [bank.eq(~bank), taken.bit_select(bank, 1).eq(1)]
        with m.If(self.released):
            m.d.sync += taken.bit_select(self.released_bank, 1).eq(0)

    def _receive(self, m: Module, plan, asked: ShiftFifo, transposer: Transposer, gather: Gather,
                 kinds: ShiftFifo) -> None:
        """Words of A go to an input bank as stored or transposed, those of X decoded."""
        config = self.config
        m.submodules.fetch = fetch = FetchPort(config, config.dim)
        chunk = self.chunks.payload
        row = Signal.like(asked.o.payload.rows, name="row")  # of the transfer in hand
        row_end, end, closes, is_index = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            end.eq(row_end & (row + 1 == asked.o.payload.rows)),
            closes.eq(end & asked.o.payload.closes),
            asked.o.ready.eq(end),
            is_index.eq(plan.x_gather & kinds.o.payload),
            kinds.o.ready.eq(self.chunks.valid & self.chunks.ready & chunk.last),
            gather.words_valid.eq(self.chunks.valid & is_index), gather.words.eq(chunk.data),
            transposer.i.payload.data.eq(chunk.data), transposer.i.payload.last.eq(end),
            transposer.i.payload.words.eq(
                chunk.size >> log2_exact(config.format.storage_bytes)),
            transposer.i.payload.tag.eq(asked.o.payload.bank),
            transposer.o.ready.eq(1),
            fetch.wide.eq(plan.x_wide), fetch.e5m2.eq(plan.a_e5m2),
            fetch.i.payload.eq(chunk), fetch.o.ready.eq(1),
        ]
        with m.If(row_end):
            m.d.sync += row.eq(Mux(end, 0, row + 1))
        with m.If(~plan.gemm):
            m.d.comb += [fetch.i.valid.eq(self.chunks.valid & ~is_index),
                         self.chunks.ready.eq(is_index | fetch.i.ready),
                         row_end.eq(fetch.o.valid & fetch.o.payload.last)]
        with m.Elif(plan.a_transposed):
            m.d.comb += [transposer.i.valid.eq(self.chunks.valid),
                         self.chunks.ready.eq(transposer.i.ready),
                         row_end.eq(self.chunks.valid & transposer.i.ready)]
        with m.Else():
            m.d.comb += [self.chunks.ready.eq(1), row_end.eq(self.chunks.valid & chunk.last)]
        self._write(m, plan, asked, transposer)

        address = Signal.like(self.fill_address)
        m.d.comb += [
            self.fill_valid.eq(fetch.o.valid), self.fill_address.eq(address),
            self.fill_to.eq(asked.o.payload.bank),
            self.fill_data.eq(Cat(lane_to_accumulator(config, fetch.o.payload.data[index])
                                  for index in range(config.dim))),
            self.fill_done.eq(closes & ~plan.gemm),
        ]
        with m.If(self.fill_valid):
            m.d.sync += address.eq(Mux(closes, 0, address + 1))

    def _write(self, m: Module, plan, asked: ShiftFifo, transposer: Transposer) -> None:
        """An input bank's words, counted."""
        flipped = transposer.o
        m.d.comb += [
            self.write_valid.eq(Mux(plan.a_transposed, flipped.valid,
                                    plan.gemm & self.chunks.valid)),
            self.write_bank.eq(Mux(plan.a_transposed, flipped.payload.tag,
                                   asked.o.payload.bank)),
            self.write_data.eq(Mux(plan.a_transposed, flipped.payload.data,
                                   self.chunks.payload.data)),
            self.write_address.eq(Mux(self.write_bank, self.loaded1, self.loaded0)),
        ]
        for index, loaded in enumerate((self.loaded0, self.loaded1)):
            with m.If(self.released & (self.released_bank == index)):
                m.d.sync += loaded.eq(0)
            with m.If(self.write_valid & (self.write_bank == index)):
                m.d.sync += loaded.eq(loaded + 1)
