"""The weight shifter: tiles of B from the weight buffer into the array."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.nest import Level, Nest
from hdl.load.weight_loader import panel_address
from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["WeightShifter"]


class WeightShifter(wiring.Component):
    """Reads the tiles of each panel and shifts them into the array's shadow weights.

    Ports
    -----
    held, ``panel_*``, ``rows0``, ``rows1``: of the weight buffer's halves, see ``WeightLoader``. A
        tile is taken as soon as its lines are in.
    released: pulse with ``released_half``, that half has been read.
    read_enable, read_address: the weight buffer's read port, latency 1.
    load_down, load_right, mask, e5m2: accompany the word read one cycle earlier; a word with
        ``mask`` low counts as zero.
    ready: a tile waits in the shadow registers. ``swap``: it is taken in this cycle.
    starved: the shadow registers are free and the next tile's lines are not in.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        self._k_bits = range(config.panel_depth * config.dim + 1)
        self._n_bits = range(config.panel_columns * config.dim + 1)
        row_bits = range(max(config.panel_depth, config.panel_columns) * config.dim + 1)
        members = {
            "held": In(2), "rows0": In(row_bits), "rows1": In(row_bits),
            "released": Out(1), "released_half": Out(1),
            "read_enable": Out(1), "read_address": Out(range(config.weight_depth)),
            "load_down": Out(1), "load_right": Out(1), "mask": Out(1), "e5m2": Out(1),
            "ready": Out(1), "swap": In(1), "starved": Out(1),
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
        half = Signal()  # of the tile that the walk has reached

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

        # The walk is one tile ahead of the shift, and in the next panel before the last is read.
        shifting = Signal()
        line = Signal(range(dim))
        begin = Signal()
        final = Signal()
        base = Signal(range(config.weight_depth), reset_less=True)
        lines = Signal(range(dim + 1), reset_less=True)
        transposed, e5m2 = Signal(reset_less=True), Signal(reset_less=True)
        needed, has_lines, wanted = Signal.like(self.rows0), Signal(), Signal()
        m.d.comb += [
            nest.start.eq(nest.idle & self.held.bit_select(half, 1)),
            needed.eq(Mux(panel("transposed"), (n_tile << log2_exact(dim)) + nest.n_size,
                          (k_tile << log2_exact(dim)) + nest.k_size)),
            has_lines.eq(Mux(half, self.rows1, self.rows0) >= needed),
            wanted.eq(~shifting & (~self.ready | self.swap)),
            begin.eq(nest.valid & wanted & has_lines),
            self.starved.eq(wanted & ~begin),
            nest.next.eq(begin),
        ]
        with m.If(begin & nest.k_last & nest.n_last):
            m.d.sync += half.eq(~half)

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
        # Halves are read in turn.
        with m.If(self.released):
            m.d.sync += self.released_half.eq(~self.released_half)
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
                m.d.comb += self.released.eq(final)
        return m
