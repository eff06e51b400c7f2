"""The weight shifter: tiles of B from the weight buffer into the array."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.nest import Level, Nest
from hdl.load.weight_loader import panel_address
from hdl.ports.panels import WeightPanels, panel_layout
from hdl.ports.sram import SramRead
from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["WeightShifter"]


class WeightShifter(wiring.Component):
    """Reads the tiles of each panel and shifts them into the array's shadow weights.

    Members
    -------
    halves: In(``WeightPanels``). A tile is taken as soon as its lines are in.
    read: Out(``SramRead``), of the weight buffer, latency 1.
    load_down, load_right, mask, e5m2: Out(1), accompany the word read one cycle earlier; a word
        with ``mask`` low counts as zero.
    ready: Out(1), a tile waits in the shadow registers. swap: In(1), it is taken in this cycle.
    starved: Out(1), the shadow registers are free and the next tile's lines are not in.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "halves": In(WeightPanels(config)), "read": Out(SramRead(config.weight_depth)),
            "load_down": Out(1), "load_right": Out(1), "mask": Out(1), "e5m2": Out(1),
            "ready": Out(1), "swap": In(1), "starved": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        half = Signal()  # of the tile that the walk has reached
        first, second = self.halves.panels
        panel = {name: Mux(half, second[name], first[name])
                 for name in ("k", "n", "transposed", "e5m2")}
        # The walk is one tile ahead of the shift, and in the next panel before the last is read.
        shifting, begin = Signal(), Signal()
        nest, k_tile, n_tile = self._walk(m, half, panel, shifting, begin)
        with m.If(begin & nest.k_last & nest.n_last):
            m.d.sync += half.eq(~half)
        final = nest.k_last & nest.n_last
        base = panel_address(self.config, half, panel["transposed"], k_tile, n_tile, 0)
        lines = Mux(panel["transposed"], nest.n_size, nest.k_size)
        self._shift(m, panel, shifting, begin, final, base, lines)
        return m

    def _walk(self, m: Module, half, panel, shifting, begin) -> tuple[Nest, Signal, Signal]:
        """The loops over a panel's tiles, and the place of the current one; ``begin``: it goes."""
        config, halves = self.config, self.halves
        dim_log2 = log2_exact(config.dim)
        layout = panel_layout(config)
        m.submodules.nest = nest = Nest(tuple(
            Level(name, layout[name].width, None, config.dim) for name in ("k", "n")))
        k_tile, n_tile = (Signal(range(most + 1), name=f"{name}_tile")
                          for name, most in zip("kn", config.panel_most, strict=True))
        m.d.comb += [nest.k_total.eq(panel["k"]), nest.n_total.eq(panel["n"])]
        with m.If(nest.k_enter):
            m.d.sync += k_tile.eq(0)
        with m.Elif(nest.k_advance):
            m.d.sync += k_tile.eq(k_tile + 1)
        with m.If(nest.n_enter):
            m.d.sync += n_tile.eq(0)
        with m.Elif(nest.n_advance):
            m.d.sync += n_tile.eq(n_tile + 1)

        needed = Signal(halves.lines.shape().elem_shape)
        has_lines, wanted = Signal(), Signal()
        m.d.comb += [
            nest.start.eq(nest.idle & halves.held.bit_select(half, 1)),
            needed.eq(Mux(panel["transposed"], (n_tile << dim_log2) + nest.n_size,
                          (k_tile << dim_log2) + nest.k_size)),
            has_lines.eq(Mux(half, halves.lines[1], halves.lines[0]) >= needed),
            wanted.eq(~shifting & (~self.ready | self.swap)),
            begin.eq(nest.valid & wanted & has_lines),
            self.starved.eq(wanted & ~begin),
            nest.next.eq(begin),
        ]
        return nest, k_tile, n_tile

    def _shift(self, m: Module, panel, shifting, begin, final, base, lines) -> None:
        """Read a tile's lines, the last first, from the cycle in which it begins.

        ``begin`` reads the first of them itself; what it was asked with is held for the others.
        """
        dim = self.config.dim
        line = Signal(range(dim))
        current = Signal(range(dim))
        next_base, next_lines = Signal(range(self.config.weight_depth)), Signal(range(dim + 1))
        held = Signal(data.StructLayout({
            "base": range(self.config.weight_depth), "lines": range(dim + 1), "transposed": 1,
            "e5m2": 1}), reset_less=True)
        closes = Signal()  # the tile is its panel's last
        m.d.comb += [
            next_base.eq(base), next_lines.eq(lines),
            current.eq(Mux(begin, dim - 1, line)),
            self.read.enable.eq(begin | shifting),
            self.read.address.eq(Mux(begin, next_base, held.base) + current),
        ]
        m.d.sync += [
            self.load_down.eq(Mux(begin, ~panel["transposed"], shifting & ~held.transposed)),
            self.load_right.eq(Mux(begin, panel["transposed"], shifting & held.transposed)),
            # A tile at B's edge has fewer lines than the array: the others are zeros.
            self.mask.eq(current < Mux(begin, next_lines, held.lines)),
            self.e5m2.eq(Mux(begin, panel["e5m2"], held.e5m2)),
        ]
        released = self.halves.released
        # Halves are read alternately.
        with m.If(released.valid):
            m.d.sync += released.bank.eq(~released.bank)
        with m.If(self.swap):
            m.d.sync += self.ready.eq(0)
        with m.If(begin):
            m.d.sync += [
                shifting.eq(1), line.eq(dim - 2), held.base.eq(next_base),
                held.lines.eq(next_lines), held.transposed.eq(panel["transposed"]),
                held.e5m2.eq(panel["e5m2"]), closes.eq(final),
            ]
        with m.Elif(shifting):
            m.d.sync += line.eq(line - 1)
            with m.If(line == 0):
                m.d.sync += [shifting.eq(0), self.ready.eq(1)]
                m.d.comb += released.valid.eq(closes)
