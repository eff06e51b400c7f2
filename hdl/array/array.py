"""The D×D weight-stationary systolic array with decoders at its edges."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hdl.arith.column_foot import ColumnFoot
from hdl.array.stack import Stack
from hdl.codec.decoder import Decoder
from hdl.codec.operand import OperandLayout, OperandVector
from hdl.lib.leaf import shared, with_latency
from hdl.lib.skew import Deskew, Skew
from hdl.spec.config import AcceleratorConfig

__all__ = ["Array"]


class Array(wiring.Component):
    """Multiplies rows of D operands by a resident D×D tile of weights, one row per cycle.

    The array never stalls: a cycle without an operand row is a bubble whose result is ignored.

    Members
    -------
    x: a row of D codes; row element k meets weight row k. ``x_e5m2``: its encoding (fp8).
    swap: the tile last loaded becomes the active one for the rows that follow from the next
        cycle on. A new load may begin in the same cycle.
    w: one line of D weight codes, the last line of the tile first. ``w_e5m2``: its encoding.
    load_down: ``w`` is a row of the tile (B stored K×N); held for D cycles without a gap.
    load_right: ``w`` is a column of the tile (B stored N×K); held for D cycles without a gap.
        ``swap`` may follow D cycles after the first line at the earliest.
    o: D accumulator words, ``latency`` cycles after their ``x``; with accumulators that nothing
        rounds D sums of D products (``exact_sum``).

    Psums of floats ripple down a column, one row per cycle, so operands enter consecutive rows one
    cycle apart. An exact column adds its products at once: then all rows work in the same cycle
    (decision 006).
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        word = 8 * config.word_bytes
        super().__init__({
            "x": In(word), "x_e5m2": In(1), "swap": In(1),
            "w": In(word), "w_e5m2": In(1), "load_down": In(1), "load_right": In(1),
            "o": Out(config.dim * config.tile_bits),
        })

    @property
    def latency(self) -> int:
        """Cycles from ``x`` to ``o``."""
        return self.config.array_latency

    @property
    def leaf_name(self) -> str:
        config = self.config
        return with_latency(f"array_{config.fmt}_{config.acc}_{config.dim}", config.pe_latency)

    def _decode(self, m: Module, name: str, codes, e5m2) -> data.View:
        """Decode D codes and register the operands."""
        fmt, dim = self.config.format, self.config.dim
        decoded = Signal(OperandVector(fmt, dim), name=f"{name}_decoded",
                         reset_less=True)
        for index in range(dim):
            decoder = Decoder(fmt)
            m.submodules[f"decoder_{name}{index}"] = shared(decoder)
            m.d.comb += decoder.code.eq(codes.word_select(index, fmt.storage_bits))
            if fmt.hybrid:
                m.d.comb += decoder.e5m2.eq(e5m2)
            m.d.sync += decoded[index].eq(decoder.o)
        return decoded

    def _enables(self, m: Module, name: str, load) -> Signal:
        """Line j of a tile shifts lines 0 … j of the chains only: what lies beyond may still
        hold the weights that a swap is about to activate."""
        dim = self.config.dim
        enables = Signal(dim, name=f"{name}_enables")
        started = Signal(dim, name=f"{name}_started")
        registered = Signal(name=f"{name}_registered")
        m.d.sync += registered.eq(load)
        m.d.comb += enables.eq(Cat(registered, started[:-1]) & registered.replicate(dim))
        # The vector refills from bit 0 with every load: D lines fill it, the last one clears it.
        with m.If(enables[-1]):
            m.d.sync += started.eq(0)
        with m.Else():
            m.d.sync += started.eq(enables)
        return enables

    def elaborate(self, platform):
        m = Module()
        dim = self.config.dim
        operand = OperandLayout(self.config.format).size
        skew_w, deskew = Skew(dim, operand), Deskew(dim, self.config.tile_bits)
        m.submodules.skew_w = shared(skew_w)
        m.submodules.deskew = shared(deskew)
        rows = Stack(self.config, dim)
        m.submodules.rows = shared(rows)
        weights = self._decode(m, "w", self.w, self.w_e5m2)
        m.d.comb += [
            skew_w.i.eq(weights),
            rows.down_i.eq(self._enables(m, "down", self.load_down)),
            rows.w_above.eq(skew_w.o),
            rows.right_i.eq(self._enables(m, "right", self.load_right)),
            self.o.eq(deskew.o),
        ]
        operands = self._decode(m, "x", self.x, self.x_e5m2)
        swap = Signal()
        m.d.sync += swap.eq(self.swap)
        if self.config.exact_columns:
            self._join_rows_at_once(m, rows, operands, swap, weights, deskew)
        else:
            self._join_rows_in_turn(m, rows, operands, swap, skew_w.o, deskew)
        return m

    def _join_rows_at_once(self, m: Module, rows, operands, swap, weights, deskew) -> None:
        sums = Signal(len(rows.psum_o), reset_less=True)
        m.d.sync += sums.eq(rows.psum_o)
        m.d.comb += [rows.x_i.eq(operands), rows.swap_i.eq(swap.replicate(self.config.dim)),
                     rows.w_left.eq(weights), deskew.i.eq(self._rounded(m, sums))]

    def _rounded(self, m: Module, sums):
        """What the columns' feet give of exact ``sums``, two cycles later; these where none rounds.

        Before the columns' delays, whose registers are as wide as a word.
        """
        if self.config.exact_sums:
            return sums
        dim = self.config.dim
        words = Signal(len(self.o), reset_less=True)
        for column in range(dim):
            foot = ColumnFoot(self.config.format, dim)
            m.submodules[f"foot{column}"] = shared(foot)
            m.d.comb += foot.i.as_value().eq(sums.word_select(column, len(sums) // dim))
            m.d.sync += words.word_select(column, len(words) // dim).eq(foot.o)
        return words

    def _join_rows_in_turn(self, m: Module, rows, operands, swap, weights, deskew) -> None:
        """Row n one cycle after row n − 1; a column of weights comes skewed the same way."""
        skew_x = Skew(self.config.dim, OperandLayout(self.config.format).size)
        m.submodules.skew_x = shared(skew_x)
        later = Signal(self.config.dim - 1)
        swaps = Cat(swap, later)
        m.d.sync += later.eq(swaps)
        m.d.comb += [skew_x.i.eq(operands), rows.x_i.eq(skew_x.o), rows.swap_i.eq(swaps),
                     rows.w_left.eq(weights), rows.psum_i.eq(0), deskew.i.eq(rows.psum_o)]
