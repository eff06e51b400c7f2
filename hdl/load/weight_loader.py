"""The weight loader: panels of B, brought in ahead of their use."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.nest import Level, Nest
from hdl.lib.pair import one_of
from hdl.ports.memory import ReadPort
from hdl.ports.panels import WeightPanels
from hdl.ports.plan import COUNT_BITS, plan_layout
from hdl.ports.sram import SramWrite
from hdl.ports.unit import UnitPort
from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["WeightLoader", "panel_address"]


def panel_address(config: AcceleratorConfig, half, transposed, k_tile, n_tile, line):
    """Word of the weight buffer that holds ``line`` of a panel's tile, of B stored N×K where
    ``transposed``: a row of tiles as stored, then the next."""
    tile = Mux(transposed, n_tile * config.panel_line + k_tile,
               k_tile * config.panel_columns + n_tile)
    return half * (config.weight_depth // 2) + (tile << log2_exact(config.dim)) + line


class WeightLoader(wiring.Component):
    """Loads panels of B into the halves of the weight buffer, in the order of their use.

    A panel is up to ``panel_tiles`` K-tiles by column tiles: long where B's stored rows run, so
    that they are read in long bursts. A word holds a line of a tile as stored: a row of the tile,
    or a column where B is stored N×K (``panel_address``). Lines beyond the matrix are not written.

    Members
    -------
    command: In(``UnitPort``).
    memory: Out(``ReadPort``), beats of ``word_bytes``.
    write: Out(``SramWrite``), words of D operands.
    halves: Out(``WeightPanels``).
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "command": In(UnitPort(config)), "memory": Out(ReadPort(config.word_bytes)),
            "write": Out(SramWrite(8 * config.word_bytes, config.weight_depth)),
            "halves": Out(WeightPanels(config)),
        })

    def _nest(self, m: Module, plan) -> Nest:
        """The feeder's loops down to the columns of a panel; in each, panels of K."""
        config = self.config
        chunk_bits = range(config.acc_depth * config.dim + 1)
        span_bits = range(config.input_depth * config.dim + 1)
        m.submodules.nest = nest = Nest((
            Level("rows", COUNT_BITS), Level("passes", 4), Level("chunk", COUNT_BITS),
            Level("span", COUNT_BITS),
            Level("panel_n", len(Signal(chunk_bits)), "chunk"),
            Level("panel_k", len(Signal(span_bits)), "span")))
        m.d.comb += [
            nest.rows_total.eq(plan.m), nest.rows_step.eq(1 << plan.block_log2),
            nest.passes_total.eq(plan.passes), nest.passes_step.eq(1),
            nest.chunk_total.eq(plan.n), nest.chunk_step.eq(plan.chunk),
            nest.span_total.eq(plan.k), nest.span_step.eq(plan.k_span),
        ]
        waits = (~plan.ahead & nest.rows_first & nest.passes_first & nest.chunk_first
                 & nest.span_first)
        m.d.comb += [
            nest.panel_n_step.eq(Mux(plan.b_transposed, *(
                config.panel_tiles(stored)[1] * config.dim for stored in (True, False)))),
            nest.panel_k_step.eq(Mux(plan.b_transposed, Mux(waits, config.first_panel * config.dim,
                                                            config.panel_line * config.dim),
                                     config.panel_tiles(False)[0] * config.dim)),
        ]
        return nest

    def _requests(self, m: Module, pending) -> None:
        """Walk the panels and ask for each as soon as its half is free."""
        plan = Signal(plan_layout(self.config), reset_less=True)
        nest = self._nest(m, plan)
        element_log2 = log2_exact(self.config.format.storage_bytes)
        n_offset, k_offset = self._offsets(m, plan, nest)

        rows = Mux(plan.b_transposed, nest.panel_n_size, nest.panel_k_size)
        line = Mux(plan.b_transposed, nest.panel_k_size, nest.panel_n_size)
        transfer, offered, halves = self.memory.transfer, self.command.plan, self.halves
        m.d.comb += [
            transfer.payload.address.eq(plan.b_address + n_offset + k_offset),
            transfer.payload.row_bytes.eq(line << element_log2),
            transfer.payload.rows.eq(rows),
            transfer.payload.stride.eq(plan.b_stride),
        ]
        half = Signal()
        running = Signal()
        # Until its last panel is in, a bus error has to find this command here.
        m.d.comb += offered.ready.eq(~running & (pending == 0))
        with m.If(offered.valid & offered.ready):
            m.d.sync += [plan.eq(offered.payload), running.eq(1)]
        starting = Signal()
        m.d.sync += starting.eq(offered.valid & offered.ready)
        m.d.comb += [
            nest.start.eq(starting),
            transfer.valid.eq(nest.valid & ~halves.held.bit_select(half, 1)),
            self.command.idle.eq(~running & (pending == 0)),
        ]
        with m.If(running & ~starting & nest.idle):
            m.d.sync += running.eq(0)
        with m.If(halves.released.valid):
            m.d.sync += halves.held.bit_select(halves.released.bank, 1).eq(0)
        with m.If(transfer.valid & transfer.ready):
            m.d.comb += nest.next.eq(1)
            m.d.sync += half.eq(~half)
            for index, panel in enumerate(halves.panels):
                with m.If(half == index):
                    m.d.sync += [
                        pending[index].eq(1), halves.held[index].eq(1),
                        panel.k.eq(nest.panel_k_size), panel.n.eq(nest.panel_n_size),
                        panel.transposed.eq(plan.b_transposed), panel.e5m2.eq(plan.b_e5m2),
                    ]

    def _offsets(self, m: Module, plan, nest: Nest) -> tuple[Signal, Signal]:
        """Bytes from B to the current panel, along its columns and along K."""
        config = self.config
        element_log2 = log2_exact(config.format.storage_bytes)
        along_k = Signal(64)
        along_n = Signal(64)
        # A span may be shallower than a panel; both are powers of two.
        lines = Signal(64)
        most = config.panel_tiles(False)[0] * config.dim
        m.d.comb += lines.eq(plan.b_stride << log2_exact(most))
        for log2 in range(log2_exact(config.dim), log2_exact(most)):
            with m.If(plan.k_span[log2]):
                m.d.comb += lines.eq(plan.b_stride << log2)
        m.d.comb += [
            along_k.eq(Mux(plan.b_transposed, nest.panel_k_size << element_log2, lines)),
            along_n.eq(Mux(plan.b_transposed,
                           plan.b_stride << log2_exact(config.panel_tiles(True)[1] * config.dim),
                           # A chunk may be narrower than a panel.
                           nest.panel_n_size << element_log2)),
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
        config, halves = self.config, self.halves
        pending = Signal(2)
        self._requests(m, pending)

        beats = self.memory.beats
        half = Signal()
        dim_log2 = log2_exact(config.dim)
        line = Signal(halves.lines.shape().elem_shape)  # that comes in, of its panel
        word = Signal(range(max(2, config.panel_line)))
        first, second = halves.panels
        transposed = Mux(half, second.transposed, first.transposed)
        lines = Mux(transposed, Mux(half, second.n, first.n), Mux(half, second.k, first.k))
        line_tile = line >> dim_log2
        k_tile = Mux(transposed, word, line_tile)
        n_tile = Mux(transposed, line_tile, word)
        m.d.comb += [
            beats.ready.eq(1),
            self.write.enable.eq(beats.valid),
            self.write.data.eq(beats.payload.data),
            self.write.address.eq(panel_address(config, half, transposed, k_tile, n_tile,
                                                line[:dim_log2])),
            line.eq(one_of(halves.lines, half)),
        ]
        line_end = Signal()
        m.d.comb += line_end.eq(beats.valid & beats.payload.last)
        with m.If(beats.valid):
            m.d.sync += word.eq(Mux(line_end, 0, word + 1))
        with m.If(line_end & (line + 1 == lines)):
            m.d.sync += [half.eq(~half), pending.bit_select(half, 1).eq(0)]
        for index in range(2):
            with m.If(halves.released.valid & (halves.released.bank == index)):
                m.d.sync += halves.lines[index].eq(0)
            with m.If(line_end & (half == index)):
                m.d.sync += halves.lines[index].eq(halves.lines[index] + 1)
        return m
