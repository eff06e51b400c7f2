"""The weight loader: panels of B, brought in ahead of their use."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus.transfer import TRANSFER
from hdl.lib.chunk import chunk_layout
from hdl.lib.nest import Level, Nest
from hdl.ports.plan import COUNT_BITS, plan_layout
from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["WeightLoader", "panel_address"]


def panel_address(config: AcceleratorConfig, half, k_tile, n_tile, line):
    """Word of the weight buffer that holds ``line`` of a panel's tile."""
    tile = k_tile * config.panel_columns + n_tile
    return half * (config.weight_depth // 2) + (tile << log2_exact(config.dim)) + line


class WeightLoader(wiring.Component):
    """Loads panels of B into the halves of the weight buffer, in the order of their use.

    A panel is up to ``panel_depth`` K-tiles by ``panel_columns`` column tiles. Word
    {half, K-tile, column tile, line} holds line ``line`` of a tile as stored: a row of the tile,
    or a column where B is stored N×K. Lines beyond the matrix are not written.

    Ports
    -----
    i: plans, in program order.
    transfer, chunks: a client of the read engine, chunks resized to ``word_bytes``.
    ``write_*``: words of D operands. held: one bit a half, it holds a panel or waits for one, and
        ``panel_*`` of that half describe it: its size in K and in columns, whether B is stored
        N×K, and the encoding. ``rows0``, ``rows1``: rows of the panel, as stored, that are in.
    released: pulse with ``released_half`` (``WeightShifter``), that half has been read.
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
            "released": In(1), "released_half": In(1), "write_valid": Out(1),
            "write_address": Out(range(config.weight_depth)),
            "write_data": Out(8 * config.word_bytes),
            "held": Out(2), "idle": Out(1),
        }
        for half in range(2):
            members |= {
                f"rows{half}": Out(range(max(self._k_panel, self._n_panel) + 1)),
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
        n_offset, k_offset = self._offsets(m, plan, nest)

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
        # Until its last panel is in, a bus error has to find this command here.
        m.d.comb += self.i.ready.eq(~running & (pending == 0))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [plan.eq(self.i.payload), running.eq(1)]
        starting = Signal()
        m.d.sync += starting.eq(self.i.valid & self.i.ready)
        m.d.comb += [
            nest.start.eq(starting),
            self.transfer.valid.eq(nest.valid & ~self.held.bit_select(half, 1)),
            self.idle.eq(~running & (pending == 0)),
        ]
        with m.If(running & ~starting & nest.idle):
            m.d.sync += running.eq(0)
        with m.If(self.released):
            m.d.sync += self.held.bit_select(self.released_half, 1).eq(0)
        with m.If(self.transfer.valid & self.transfer.ready):
            m.d.comb += nest.next.eq(1)
            m.d.sync += half.eq(~half)
            for index in range(2):
                with m.If(half == index):
                    m.d.sync += [
                        pending[index].eq(1), self.held[index].eq(1),
                        getattr(self, f"panel_k{index}").eq(nest.panel_k_size),
                        getattr(self, f"panel_n{index}").eq(nest.panel_n_size),
                        getattr(self, f"panel_transposed{index}").eq(plan.b_transposed),
                        getattr(self, f"panel_e5m2{index}").eq(plan.b_e5m2),
                    ]

    def _offsets(self, m: Module, plan, nest: Nest) -> tuple[Signal, Signal]:
        """Bytes from B to the current panel, along its columns and along K."""
        element_log2 = log2_exact(self.config.format.storage_bytes)
        along_k = Signal(64)
        along_n = Signal(64)
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
        return n_offset, k_offset

    def elaborate(self, platform):
        m = Module()
        config = self.config
        pending = Signal(2)
        self._requests(m, pending)

        half = Signal()
        panel_columns = max(1, log2_exact(config.panel_columns))
        panel_depth = max(1, log2_exact(config.panel_depth))
        dim_log2 = log2_exact(config.dim)
        row = Signal.like(self.rows0)
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
            row.eq(Mux(half, self.rows1, self.rows0)),
        ]
        row_end = Signal()
        m.d.comb += row_end.eq(self.chunks.valid & self.chunks.payload.last)
        with m.If(self.chunks.valid):
            m.d.sync += word.eq(Mux(row_end, 0, word + 1))
        with m.If(row_end & (row + 1 == rows)):
            m.d.sync += [half.eq(~half), pending.bit_select(half, 1).eq(0)]
        for index, count in enumerate((self.rows0, self.rows1)):
            with m.If(self.released & (self.released_half == index)):
                m.d.sync += count.eq(0)
            with m.If(row_end & (half == index)):
                m.d.sync += count.eq(count + 1)
        return m
