"""Loaders: bring operands from memory into the banks ahead of their use."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.control.nest import Level, Nest
from hdl.control.plan import COUNT_BITS, plan_layout
from hdl.memory.accumulation import lane_to_accumulator
from hdl.memory.chunk import chunk_layout
from hdl.memory.transfer import TRANSFER
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.vector.fetch import FetchPort

__all__ = ["OperandLoader", "WeightLoader"]


class OperandLoader(wiring.Component):
    """Loads blocks of A into the input banks, or blocks of X (VECTOR) into accumulation banks.

    Ports
    -----
    i: plans, in program order.
    transfer, chunks: a client of the read engine, chunks resized to ``word_bytes``.
    bank_free: one bit an input bank. ``write_*``: words of D operands into an input bank, row
        by row without gaps. ``filled``: pulse, ``write_bank`` is complete.
    fill_free: the accumulation bank that comes next is free. ``fill_*``: words of D accumulators,
        row by row. ``fill_claim``, ``fill_done``: pulses, the bank is taken, is complete.
    filling: the plan in progress is a VECTOR. idle: no plan in progress.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "i": In(stream.Signature(plan_layout(config))),
            "transfer": Out(stream.Signature(TRANSFER)),
            "chunks": In(stream.Signature(chunk_layout(config.word_bytes))),
            "bank_free": In(2), "write_valid": Out(1), "write_bank": Out(1),
            "write_address": Out(range(config.input_depth)),
            "write_data": Out(8 * config.word_bytes), "filled": Out(1),
            "fill_free": In(1), "fill_valid": Out(1),
            "fill_address": Out(range(config.acc_depth)),
            "fill_data": Out(config.dim * config.acc_bits),
            "fill_claim": Out(1), "fill_done": Out(1),
            "filling": Out(1), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        m.submodules.nest = nest = Nest((
            Level("rows", COUNT_BITS), Level("passes", 4), Level("chunks", COUNT_BITS),
            Level("columns", COUNT_BITS)))
        m.submodules.fetch = fetch = FetchPort(config, config.dim)
        plan = Signal(plan_layout(config), reset_less=True)
        chunk_count = Signal(COUNT_BITS, reset_less=True)
        columns = Mux(plan.gemm, plan.k, plan.n)

        # A whose K is one span stays for all chunks of its block; else each chunk loads it again.
        repeats = plan.gemm & ~plan.resident
        element_log2 = log2_exact(config.format.storage_bytes)
        wide = ~plan.gemm & plan.x_wide & (element_log2 == 0)
        span = Mux(plan.gemm, plan.k_span, plan.chunk)

        def to_bytes(count):
            return Mux(wide, count << 1, count << element_log2)

        m.d.comb += [
            nest.rows_total.eq(plan.m), nest.rows_step.eq(1 << plan.block_log2),
            nest.passes_total.eq(Mux(plan.gemm & plan.resident, 1, plan.passes)),
            nest.passes_step.eq(1),
            nest.chunks_total.eq(Mux(repeats, chunk_count, plan.n)),
            nest.chunks_step.eq(Mux(repeats, 1, plan.n)),
            nest.columns_total.eq(columns), nest.columns_step.eq(span),
        ]
        row_base = Signal(64, reset_less=True)
        offset = Signal(COUNT_BITS + 2, reset_less=True)
        with m.If(nest.rows_enter):
            m.d.sync += row_base.eq(plan.a_address)
        with m.Elif(nest.rows_advance):
            m.d.sync += row_base.eq(row_base + (plan.a_stride << plan.block_log2))
        with m.If(nest.columns_enter):
            m.d.sync += offset.eq(0)
        with m.Elif(nest.columns_advance):
            m.d.sync += offset.eq(offset + to_bytes(span))
        m.d.comb += [
            self.transfer.payload.address.eq(row_base + offset),
            self.transfer.payload.row_bytes.eq(to_bytes(nest.columns_size)),
            self.transfer.payload.rows.eq(nest.rows_size),
            self.transfer.payload.stride.eq(plan.a_stride),
        ]

        rows_left = Signal(COUNT_BITS, reset_less=True)
        address = Signal(max(len(self.write_address), len(self.fill_address)), reset_less=True)
        word_valid, row_last, done = Signal(), Signal(), Signal()
        m.d.comb += [
            fetch.wide.eq(plan.x_wide), fetch.e5m2.eq(plan.a_e5m2),
            fetch.i.payload.eq(self.chunks.payload), fetch.o.ready.eq(1),
            self.filling.eq(~self.idle & ~plan.gemm),
            self.write_address.eq(address), self.write_data.eq(self.chunks.payload.data),
            self.fill_address.eq(address),
            self.fill_data.eq(Cat(lane_to_accumulator(config, fetch.o.payload.data[index])
                                  for index in range(config.dim))),
            done.eq(word_valid & row_last & (rows_left == 1)),
        ]
        with m.If(word_valid):
            m.d.sync += address.eq(address + 1)
            with m.If(row_last):
                m.d.sync += rows_left.eq(rows_left - 1)

        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.idle.eq(1), self.i.ready.eq(1)]
                with m.If(self.i.valid):
                    m.d.sync += plan.eq(self.i.payload)
                    m.next = "START"
            with m.State("START"):
                m.d.comb += nest.start.eq(1)
                # Chunks that a load repeats for have power-of-two sizes: NC tiles or a bank.
                panel = config.panel_columns * config.dim
                bank = config.acc_depth * config.dim
                with m.If(plan.chunk == panel):
                    m.d.sync += chunk_count.eq((plan.n + (panel - 1)) >> log2_exact(panel))
                with m.Elif(plan.streamed):
                    m.d.sync += chunk_count.eq((plan.n + (bank - 1)) >> log2_exact(bank))
                with m.Else():
                    m.d.sync += chunk_count.eq(1)
                m.next = "REQUEST"
            with m.State("REQUEST"):
                free = Mux(plan.gemm, self.bank_free.bit_select(self.write_bank, 1), self.fill_free)
                m.d.comb += self.transfer.valid.eq(nest.valid & free)
                with m.If(nest.idle):
                    m.next = "IDLE"
                with m.Elif(self.transfer.valid & self.transfer.ready):
                    m.d.comb += self.fill_claim.eq(~plan.gemm)
                    m.d.sync += [rows_left.eq(nest.rows_size), address.eq(0)]
                    m.next = "RECEIVE"
            with m.State("RECEIVE"):
                with m.If(plan.gemm):
                    m.d.comb += [
                        self.chunks.ready.eq(1), self.write_valid.eq(self.chunks.valid),
                        word_valid.eq(self.chunks.valid), row_last.eq(self.chunks.payload.last),
                        self.filled.eq(done),
                    ]
                with m.Else():
                    m.d.comb += [
                        fetch.i.valid.eq(self.chunks.valid), self.chunks.ready.eq(fetch.i.ready),
                        self.fill_valid.eq(fetch.o.valid),
                        word_valid.eq(fetch.o.valid), row_last.eq(fetch.o.payload.last),
                        self.fill_done.eq(done),
                    ]
                with m.If(done):
                    m.d.comb += nest.next.eq(1)
                    with m.If(plan.gemm):
                        m.d.sync += self.write_bank.eq(~self.write_bank)
                    m.next = "REQUEST"
        return m


class WeightLoader(wiring.Component):
    """Loads panels of B into the halves of the weight buffer, in the order of their use.

    A panel is up to ``panel_depth`` K-tiles by ``panel_columns`` column tiles. Word
    {half, K-tile, column tile, line} holds line ``line`` of a tile as stored: a row of the tile,
    or a column where B is stored N×K. Lines beyond the matrix are not written.

    Ports
    -----
    i: plans, in program order.
    transfer, chunks: a client of the read engine, chunks resized to ``word_bytes``.
    half_free: one bit a half. ``write_*``: words of D operands. ``filled``: pulse with
        ``filled_half``, the half is complete and ``panel_*`` of that half describe it: its size in
        K and in columns, whether B is stored N×K, and the encoding.
    idle: no plan in progress and no data outstanding.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self._k_panel = config.panel_depth * config.dim
        self._n_panel = config.panel_columns * config.dim
        members = {
            "i": In(stream.Signature(plan_layout(config))),
            "transfer": Out(stream.Signature(TRANSFER)),
            "chunks": In(stream.Signature(chunk_layout(config.word_bytes))),
            "half_free": In(2), "write_valid": Out(1),
            "write_address": Out(range(config.weight_depth)),
            "write_data": Out(8 * config.word_bytes),
            "filled": Out(1), "filled_half": Out(1), "idle": Out(1),
        }
        for half in range(2):
            members |= {
                f"panel_k{half}": Out(range(self._k_panel + 1)),
                f"panel_n{half}": Out(range(self._n_panel + 1)),
                f"panel_transposed{half}": Out(1), f"panel_e5m2{half}": Out(1),
            }
        super().__init__(members)

    def _requests(self, m: Module, pending) -> None:
        """Walk the panels and ask for each as soon as its half is free."""
        config = self.config
        chunk_bits = range(config.acc_depth * config.dim + 1)
        span_bits = range(config.input_depth * config.dim + 1)
        m.submodules.nest = nest = Nest((
            Level("rows", COUNT_BITS), Level("passes", 4), Level("chunk", COUNT_BITS),
            Level("span", COUNT_BITS),
            Level("panel_n", len(Signal(chunk_bits)), "chunk", self._n_panel),
            Level("panel_k", len(Signal(span_bits)), "span", self._k_panel)))
        plan = Signal(plan_layout(config), reset_less=True)
        m.d.comb += [
            nest.rows_total.eq(plan.m), nest.rows_step.eq(1 << plan.block_log2),
            nest.passes_total.eq(plan.passes), nest.passes_step.eq(1),
            nest.chunk_total.eq(plan.n), nest.chunk_step.eq(plan.chunk),
            nest.span_total.eq(plan.k), nest.span_step.eq(plan.k_span),
        ]
        element_log2 = log2_exact(config.format.storage_bytes)
        along_k = Signal(40)
        along_n = Signal(40)
        m.d.comb += [
            along_k.eq(Mux(plan.b_transposed, self._k_panel << element_log2,
                           plan.b_stride << log2_exact(self._k_panel))),
            along_n.eq(Mux(plan.b_transposed, plan.b_stride << log2_exact(self._n_panel),
                           self._n_panel << element_log2)),
        ]
        # Offsets of the current panel, and of where its chunk and its span began.
        n_offset, n_chunk, k_offset, k_span = (
            Signal(64, name=name, reset_less=True)
            for name in ("n_offset", "n_chunk", "k_offset", "k_span"))
        with m.If(nest.chunk_enter):
            m.d.sync += n_chunk.eq(0)
        with m.Elif(nest.chunk_advance):
            m.d.sync += n_chunk.eq(n_offset + along_n)
        with m.If(nest.panel_n_enter):
            m.d.sync += n_offset.eq(n_chunk)
        with m.Elif(nest.panel_n_advance):
            m.d.sync += n_offset.eq(n_offset + along_n)
        with m.If(nest.span_enter):
            m.d.sync += k_span.eq(0)
        with m.Elif(nest.span_advance):
            m.d.sync += k_span.eq(k_offset + along_k)
        with m.If(nest.panel_k_enter):
            m.d.sync += k_offset.eq(k_span)
        with m.Elif(nest.panel_k_advance):
            m.d.sync += k_offset.eq(k_offset + along_k)

        rows = Mux(plan.b_transposed, nest.panel_n_size, nest.panel_k_size)
        line = Mux(plan.b_transposed, nest.panel_k_size, nest.panel_n_size)
        m.d.comb += [
            self.transfer.payload.address.eq(plan.b_address + n_offset + k_offset),
            self.transfer.payload.row_bytes.eq(line << element_log2),
            self.transfer.payload.rows.eq(rows),
            self.transfer.payload.stride.eq(plan.b_stride),
        ]
        half = Signal()
        running = Signal()
        m.d.comb += self.i.ready.eq(~running)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [plan.eq(self.i.payload), running.eq(1)]
        starting = Signal()
        m.d.sync += starting.eq(self.i.valid & self.i.ready)
        m.d.comb += [
            nest.start.eq(starting),
            self.transfer.valid.eq(
                nest.valid & self.half_free.bit_select(half, 1) & ~pending.bit_select(half, 1)),
            self.idle.eq(~running & (pending == 0)),
        ]
        with m.If(running & ~starting & nest.idle):
            m.d.sync += running.eq(0)
        with m.If(self.transfer.valid & self.transfer.ready):
            m.d.comb += nest.next.eq(1)
            m.d.sync += half.eq(~half)
            for index in range(2):
                with m.If(half == index):
                    m.d.sync += [
                        pending[index].eq(1),
                        getattr(self, f"panel_k{index}").eq(nest.panel_k_size),
                        getattr(self, f"panel_n{index}").eq(nest.panel_n_size),
                        getattr(self, f"panel_transposed{index}").eq(plan.b_transposed),
                        getattr(self, f"panel_e5m2{index}").eq(plan.b_e5m2),
                    ]

    def elaborate(self, platform):
        m = Module()
        config = self.config
        pending = Signal(2)
        self._requests(m, pending)

        half = Signal()
        panel_columns = max(1, log2_exact(config.panel_columns))
        panel_depth = max(1, log2_exact(config.panel_depth))
        dim_log2 = log2_exact(config.dim)
        row = Signal(max(len(self.panel_k0), len(self.panel_n0)))
        word = Signal(max(panel_columns, panel_depth))
        transposed = Mux(half, self.panel_transposed1, self.panel_transposed0)
        rows = Mux(transposed, Mux(half, self.panel_n1, self.panel_n0),
                   Mux(half, self.panel_k1, self.panel_k0))
        row_tile = row >> dim_log2
        k_tile = Mux(transposed, word, row_tile)
        n_tile = Mux(transposed, row_tile, word)
        m.d.comb += [
            self.chunks.ready.eq(1),
            self.write_valid.eq(self.chunks.valid),
            self.write_data.eq(self.chunks.payload.data),
            self.write_address.eq(panel_address(config, half, k_tile, n_tile, row[:dim_log2])),
            self.filled_half.eq(half),
        ]
        with m.If(self.chunks.valid):
            m.d.sync += word.eq(word + 1)
            with m.If(self.chunks.payload.last):
                m.d.sync += [word.eq(0), row.eq(row + 1)]
                with m.If(row + 1 == rows):
                    m.d.comb += self.filled.eq(1)
                    m.d.sync += [row.eq(0), half.eq(~half), pending.bit_select(half, 1).eq(0)]
        return m


def panel_address(config: AcceleratorConfig, half, k_tile, n_tile, line):
    """Word of the weight buffer that holds ``line`` of a panel's tile."""
    tile = k_tile * config.panel_columns + n_tile
    return half * (config.weight_depth // 2) + (tile << log2_exact(config.dim)) + line
