"""Weights on their way from memory to the array: the loader of panels and the shifter of tiles."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.control.nest import Level, Nest
from hdl.control.plan import COUNT_BITS, plan_layout
from hdl.memory.chunk import chunk_layout
from hdl.memory.transfer import TRANSFER
from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["WeightLoader", "WeightShifter"]


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


class WeightShifter(wiring.Component):
    """Reads the tiles of each panel and shifts them into the array's shadow weights.

    Ports
    -----
    half_full: one bit a half of the weight buffer; ``panel_*``: as ``WeightLoader`` describes them.
    released: pulse with ``released_half``, that half has been read.
    read_enable, read_address: the weight buffer's read port, latency 1.
    load_down, load_right, mask, e5m2: accompany the word read one cycle earlier; a word with
        ``mask`` low counts as zero.
    ready: a tile waits in the shadow registers. ``swap``: it is taken in this cycle.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self._k_bits = range(config.panel_depth * config.dim + 1)
        self._n_bits = range(config.panel_columns * config.dim + 1)
        members = {
            "half_full": In(2), "released": Out(1), "released_half": Out(1),
            "read_enable": Out(1), "read_address": Out(range(config.weight_depth)),
            "load_down": Out(1), "load_right": Out(1), "mask": Out(1), "e5m2": Out(1),
            "ready": Out(1), "swap": In(1),
        }
        for half in range(2):
            members |= {
                f"panel_k{half}": In(self._k_bits), f"panel_n{half}": In(self._n_bits),
                f"panel_transposed{half}": In(1), f"panel_e5m2{half}": In(1),
            }
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        config = self.config
        dim = config.dim
        m.submodules.nest = nest = Nest((
            Level("k", len(Signal(self._k_bits)), None, dim),
            Level("n", len(Signal(self._n_bits)), None, dim)))
        half = Signal()

        def panel(name):
            return Mux(half, getattr(self, f"panel_{name}1"), getattr(self, f"panel_{name}0"))

        k_tile = Signal(range(config.panel_depth + 1))
        n_tile = Signal(range(config.panel_columns + 1))
        m.d.comb += [nest.k_total.eq(panel("k")), nest.n_total.eq(panel("n"))]
        with m.If(nest.k_enter):
            m.d.sync += k_tile.eq(0)
        with m.Elif(nest.k_advance):
            m.d.sync += k_tile.eq(k_tile + 1)
        with m.If(nest.n_enter):
            m.d.sync += n_tile.eq(0)
        with m.Elif(nest.n_advance):
            m.d.sync += n_tile.eq(n_tile + 1)

        # The walk is one tile ahead of the shift, and ends before the last tile is read.
        walking = Signal()
        shifting = Signal()
        line = Signal(range(dim))
        begin = Signal()
        final = Signal()
        base = Signal(range(config.weight_depth), reset_less=True)
        lines = Signal(range(dim + 1), reset_less=True)
        transposed, e5m2 = Signal(reset_less=True), Signal(reset_less=True)
        m.d.comb += [
            nest.start.eq(~walking & ~shifting & self.half_full.bit_select(half, 1)),
            begin.eq(nest.valid & ~shifting & (~self.ready | self.swap)),
            nest.next.eq(begin),
        ]
        with m.If(nest.start):
            m.d.sync += walking.eq(1)

        next_base, next_lines = Signal.like(base), Signal.like(lines)
        m.d.comb += [
            next_base.eq(panel_address(config, half, k_tile, n_tile, 0)),
            next_lines.eq(Mux(panel("transposed"), nest.n_size, nest.k_size)),
        ]
        current = Signal(range(dim))
        m.d.comb += current.eq(Mux(begin, dim - 1, line))
        m.d.comb += [
            self.read_enable.eq(begin | shifting),
            self.read_address.eq(Mux(begin, next_base, base) + current),
        ]
        m.d.sync += [
            self.load_down.eq(Mux(begin, ~panel("transposed"), shifting & ~transposed)),
            self.load_right.eq(Mux(begin, panel("transposed"), shifting & transposed)),
            self.mask.eq(current < Mux(begin, next_lines, lines)),
            self.e5m2.eq(Mux(begin, panel("e5m2"), e5m2)),
        ]
        with m.If(self.swap):
            m.d.sync += self.ready.eq(0)
        with m.If(begin):
            m.d.sync += [
                shifting.eq(1), line.eq(dim - 2), base.eq(next_base), lines.eq(next_lines),
                transposed.eq(panel("transposed")), e5m2.eq(panel("e5m2")),
                final.eq(nest.k_last & nest.n_last),
            ]
        with m.Elif(shifting):
            m.d.sync += line.eq(line - 1)
            with m.If(line == 0):
                m.d.sync += [shifting.eq(0), self.ready.eq(1)]
                with m.If(final):
                    m.d.comb += self.released.eq(1)
                    m.d.sync += [half.eq(~half), walking.eq(0)]
        m.d.comb += self.released_half.eq(half)
        return m
