"""The operand loader: blocks of A or X, brought in ahead of their use."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.accumulate.accumulation_buffer import lane_to_accumulator
from hdl.lib.fifo import ShiftFifo
from hdl.lib.nest import Level, Nest
from hdl.lib.pair import one_of
from hdl.lib.transposer import Transposer
from hdl.load.gather import Gather
from hdl.ports.accumulation import FillPort, Release, arrival_layout
from hdl.ports.memory import ReadPort
from hdl.ports.plan import COUNT_BITS, plan_layout
from hdl.ports.sram import SramWrite
from hdl.ports.unit import UnitPort
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.spec.timing import INDEX_BYTES, TRANSFERS_AHEAD
from hdl.vector.fetch_port import FetchPort

__all__ = ["OperandLoader"]


class OperandLoader(wiring.Component):
    """Loads blocks of A into the input banks, or blocks of X (VECTOR) into accumulation banks.

    A block of A comes row by row, a span of K at once; where the array waits for it
    (``plan_layout``: not ``ahead``), the first comes group by group, so that the array can start on
    the first: all its rows of ``operand_depth`` K-tiles, then those of the next. A stored K×M comes
    in D×D tiles, along M first, through a transposer. Words of a bank follow one another as they
    arrive: a group after the other, in it row after row, in a row (but for A stored K×M, whose
    groups are one tile deep) K-tile after K-tile. Nothing is asked for outside of A or X. Rows of X
    may be those of a table that indices name (``Gather``).

    Members
    -------
    command: In(``UnitPort``). It is idle when no data are outstanding.
    memory: Out(``ReadPort``), beats of ``word_bytes``.
    input: Out(``SramWrite``), words of D operands into an input bank.
    loaded: Out, of each input bank: the words that it holds. released: In(``Release``), it is read
        and holds none.
    fill: Out(``FillPort``), the accumulation bank for the next block of X.
    accumulators: Out(``SramWrite``), words of D accumulators into an accumulation bank, row by row.
        arrival: Out(``arrival_layout``), the same words.
    filling: Out(1), the plan in progress is a VECTOR.
    index_failed: Out(1), an index names no row of its table; nothing goes on until reset.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        words = range(config.input_depth + 1)
        super().__init__({
            "command": In(UnitPort(config)), "memory": Out(ReadPort(config.word_bytes)),
            "input": Out(SramWrite(8 * config.word_bytes, config.input_depth, banks=2)),
            "loaded": Out(data.ArrayLayout(words, 2)), "released": In(Release()),
            "fill": Out(FillPort()),
            "accumulators": Out(SramWrite(config.dim * config.acc_bits, config.acc_depth,
                                          banks=2)),
            "arrival": Out(arrival_layout()), "filling": Out(1), "index_failed": Out(1),
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
        # Whether the rows that come next are indices, for each transfer while rows are gathered.
        m.submodules.kinds = kinds = ShiftFifo(1, TRANSFERS_AHEAD + 1)
        offered, idle = self.command.plan, self.command.idle
        running, starting, empty = Signal(), Signal(), Signal()
        m.d.comb += [
            empty.eq(~asked.o.valid & ~kinds.o.valid & ~transposer.busy),
            # Until its last data are in, a bus error has to find this command here.
            offered.ready.eq(~running & empty), idle.eq(~running & empty),
            self.filling.eq(~idle & ~plan.gemm),
            nest.start.eq(starting),
        ]
        m.d.sync += starting.eq(offered.valid & offered.ready)
        with m.If(offered.valid & offered.ready):
            m.d.sync += [plan.eq(offered.payload), running.eq(1)]
        with m.Elif(~starting & nest.idle):
            m.d.sync += running.eq(0)
        self._walk(m, plan, nest, gather)
        self._request(m, plan, nest, asked, gather, kinds)
        self._receive(m, plan, asked, transposer, gather, kinds)
        return m

    def _nest(self) -> Nest:
        """The feeder's loops over blocks, spans and groups; in a group, D rows of A stored K×M.

        A block of X takes the place of a span of A, chunk by chunk.
        """
        return Nest((
            Level("rows", COUNT_BITS), Level("passes", 4), Level("chunk", COUNT_BITS),
            Level("span", COUNT_BITS), Level("group", COUNT_BITS, "span"),
            Level("m", COUNT_BITS, "rows")))

    def _walk(self, m: Module, plan, nest: Nest, gather: Gather) -> None:
        """The loops over blocks, and the transfer that each asks for."""
        config = self.config
        dim_log2 = log2_exact(config.dim)
        flip = plan.gemm & plan.a_transposed
        block = Signal(COUNT_BITS)
        group = Signal(COUNT_BITS)
        waits = (~plan.ahead & nest.rows_first & nest.passes_first & nest.chunk_first
                 & nest.span_first)
        together = Mux(waits, config.operand_depth * config.dim, plan.k_span)
        m.d.comb += [
            block.eq(1 << plan.block_log2),
            group.eq(Mux(plan.gemm, Mux(flip, 1 << dim_log2, together), plan.chunk)),
        ]
        # A whose K is one span stays for all chunks of its block; else each chunk loads it again.
        repeats = plan.gemm & ~plan.resident
        m.d.comb += [
            nest.rows_total.eq(plan.m), nest.rows_step.eq(block),
            nest.passes_total.eq(Mux(plan.gemm & plan.resident, 1, plan.passes)),
            nest.passes_step.eq(1),
            nest.chunk_total.eq(plan.n), nest.chunk_step.eq(Mux(repeats, plan.chunk, plan.n)),
            nest.span_total.eq(Mux(plan.gemm, plan.k, plan.n)),
            nest.span_step.eq(Mux(plan.gemm, plan.k_span, plan.chunk)),
            nest.group_step.eq(group), nest.m_step.eq(Mux(flip, 1 << dim_log2, block)),
        ]
        self._address(m, plan, nest, gather, flip, block)

    def _address(self, m: Module, plan, nest: Nest, gather: Gather, flip, block) -> None:
        """The transfer of the rows that the loops have come to."""
        config = self.config
        dim_log2 = log2_exact(config.dim)
        element_log2 = log2_exact(config.format.storage_bytes)
        wide = ~plan.gemm & plan.x_wide & (element_log2 == 0)

        def to_bytes(count):
            return Mux(wide, count << 1, count << element_log2)

        # Bytes from A to the block, from there to the group, from there to the tile. A table has
        # no block: then it is the block's indices that are counted on to.
        row_base, column, tile = (Signal(64, name=name, reset_less=True)
                                  for name in ("row_base", "column", "tile"))
        along_m, along_k = Signal(64), Signal(64)
        transfer = gather.i.payload
        m.d.comb += [
            along_m.eq(Mux(flip, block << element_log2,
                           Mux(plan.x_gather, INDEX_BYTES, plan.a_stride) << plan.block_log2)),
            along_k.eq(Mux(flip, plan.a_stride << dim_log2, to_bytes(nest.group_size))),
        ]
        with m.If(nest.rows_enter):
            m.d.sync += row_base.eq(Mux(plan.x_gather, plan.b_address, plan.a_address))
        with m.Elif(nest.rows_advance):
            m.d.sync += row_base.eq(row_base + along_m)
        with m.If(nest.span_enter):
            m.d.sync += column.eq(0)
        # A span but the last is whole groups, or less than one.
        with m.Elif(nest.span_advance | nest.group_advance):
            m.d.sync += column.eq(column + along_k)
        with m.If(nest.m_enter):
            m.d.sync += tile.eq(0)
        with m.Elif(nest.m_advance):
            m.d.sync += tile.eq(tile + config.word_bytes)
        m.d.comb += [
            transfer.address.eq(Mux(plan.x_gather, plan.a_address, row_base) + column + tile),
            transfer.row_bytes.eq(to_bytes(Mux(flip, nest.m_size, nest.group_size))),
            transfer.rows.eq(Mux(flip, nest.group_size, nest.m_size)),
            transfer.stride.eq(plan.a_stride),
            gather.by_index.eq(plan.x_gather), gather.limit.eq(plan.k), gather.indices.eq(row_base),
        ]

    def _request(self, m: Module, plan, nest: Nest, asked: ShiftFifo, gather: Gather,
                 kinds: ShiftFifo) -> None:
        """Ask for rows as soon as their bank is free, whatever is still in flight."""
        transfer = self.memory.transfer
        taken, bank = Signal(2), Signal()
        opens = nest.group_first & nest.m_first
        free = Mux(plan.gemm, ~taken.bit_select(bank, 1), self.fill.free)
        to_bank = Mux(plan.gemm, bank, self.fill.bank)
        filled = Signal(reset_less=True)
        go, begins, room = Signal(), Signal(), Signal()
        request = gather.o.payload
        m.d.comb += [
            gather.i.valid.eq(nest.valid & (free | ~opens)),
            room.eq(asked.i.ready & kinds.i.ready),
            transfer.valid.eq(gather.o.valid & room),
            transfer.payload.eq(request.transfer),
            gather.o.ready.eq(transfer.ready & room),
            kinds.i.valid.eq(gather.o.valid & gather.o.ready & plan.x_gather),
            kinds.i.payload.eq(request.index),
            go.eq(gather.o.valid & gather.o.ready & ~request.index),
            begins.eq(opens & request.first),
            nest.next.eq(go & request.last),
            self.fill.claim.eq(go & begins & ~plan.gemm),
            asked.i.valid.eq(go),
            asked.i.payload.rows.eq(request.transfer.rows),
            asked.i.payload.closes.eq(request.last & nest.group_last & nest.m_last),
            asked.i.payload.bank.eq(Mux(begins, to_bank, filled)),
            self.index_failed.eq(gather.failed),
        ]
        with m.If(go & begins):
            m.d.sync += filled.eq(to_bank)
            with m.If(plan.gemm):
                m.d.sync += [bank.eq(~bank), taken.bit_select(bank, 1).eq(1)]
        with m.If(self.released.valid):
            m.d.sync += taken.bit_select(self.released.bank, 1).eq(0)

    def _receive(self, m: Module, plan, asked: ShiftFifo, transposer: Transposer, gather: Gather,
                 kinds: ShiftFifo) -> None:
        """Words of A go to an input bank as stored or transposed, those of X decoded."""
        config = self.config
        m.submodules.fetch = fetch = FetchPort(config, config.dim)
        beats = self.memory.beats
        beat = beats.payload
        row = Signal.like(asked.o.payload.rows, name="row")  # of the transfer in hand
        row_end, end, closes, is_index = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            end.eq(row_end & (row + 1 == asked.o.payload.rows)),
            closes.eq(end & asked.o.payload.closes),
            asked.o.ready.eq(end),
            is_index.eq(plan.x_gather & kinds.o.payload),
            kinds.o.ready.eq(beats.valid & beats.ready & beat.last),
            gather.words_valid.eq(beats.valid & is_index), gather.words.eq(beat.data),
            transposer.i.payload.data.eq(beat.data), transposer.i.payload.last.eq(end),
            transposer.i.payload.words.eq(
                beat.size >> log2_exact(config.format.storage_bytes)),
            transposer.i.payload.tag.eq(asked.o.payload.bank),
            transposer.o.ready.eq(1),
            fetch.storage.wide.eq(plan.x_wide), fetch.storage.e5m2.eq(plan.a_e5m2),
            fetch.i.payload.eq(beat), fetch.o.ready.eq(1),
        ]
        with m.If(row_end):
            m.d.sync += row.eq(Mux(end, 0, row + 1))
        with m.If(~plan.gemm):
            m.d.comb += [fetch.i.valid.eq(beats.valid & ~is_index),
                         beats.ready.eq(is_index | fetch.i.ready),
                         row_end.eq(fetch.o.valid & fetch.o.payload.last)]
        with m.Elif(plan.a_transposed):
            m.d.comb += [transposer.i.valid.eq(beats.valid),
                         beats.ready.eq(transposer.i.ready),
                         row_end.eq(beats.valid & transposer.i.ready)]
        with m.Else():
            m.d.comb += [beats.ready.eq(1), row_end.eq(beats.valid & beat.last)]
        self._write(m, plan, asked, transposer)
        self._fill(m, plan, asked, fetch.o, closes)

    def _fill(self, m: Module, plan, asked: ShiftFifo, words, closes) -> None:
        """An accumulation bank's words, counted."""
        config, fill, bank = self.config, self.accumulators, asked.o.payload.bank
        address = Signal.like(fill.address)
        m.d.comb += [
            fill.enable.eq(words.valid), fill.address.eq(address), fill.bank.eq(bank),
            fill.data.eq(Cat(lane_to_accumulator(config, words.payload.data[index])
                             for index in range(config.dim))),
            self.arrival.valid.eq(words.valid), self.arrival.bank.eq(bank),
            self.arrival.complete.eq(closes & ~plan.gemm),
        ]
        with m.If(words.valid):
            m.d.sync += address.eq(Mux(closes, 0, address + 1))

    def _write(self, m: Module, plan, asked: ShiftFifo, transposer: Transposer) -> None:
        """An input bank's words, counted."""
        write, transposed, beats = self.input, transposer.o, self.memory.beats
        m.d.comb += [
            write.enable.eq(Mux(plan.a_transposed, transposed.valid, plan.gemm & beats.valid)),
            write.bank.eq(Mux(plan.a_transposed, transposed.payload.tag, asked.o.payload.bank)),
            write.data.eq(Mux(plan.a_transposed, transposed.payload.data, beats.payload.data)),
            write.address.eq(one_of(self.loaded, write.bank)),
        ]
        for index in range(2):
            loaded = self.loaded[index]
            with m.If(self.released.valid & (self.released.bank == index)):
                m.d.sync += loaded.eq(0)
            with m.If(write.enable & (write.bank == index)):
                m.d.sync += loaded.eq(loaded + 1)
