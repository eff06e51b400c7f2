"""Results of a transposed C: tiles of beats between the lanes and the encoders."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.transposer import Transposer
from hdl.ports.vector import result_tag
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.vector.vector_beat import result_layout

__all__ = ["ResultTransposer"]


class ResultTransposer(wiring.Component):
    """Takes tiles of at most D × D words row by row and gives them column by column.

    Rows come in while columns of the tile before leave, each with as many beats as it has words.

    Members
    -------
    i: In(stream of ``result_layout``) with ``result_tag``: of the tag ``part`` is the place of the
        words in their row of D, and ``row_ends`` marks the end of that row; ``last`` ends a tile.
    o: Out(stream of the same), beats of columns; ``last`` ends a column. Row and tag are 0.
    idle: Out(1), nothing is inside but beats of a row that is not complete.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        beats = stream.Signature(result_layout(config, result_tag(config)))
        super().__init__({"i": In(beats), "o": Out(beats), "idle": Out(1)})

    def elaborate(self, platform):
        m = Module()
        config = self.config
        lanes, bits = config.lanes, config.word.bits
        m.submodules.transposer = transposer = Transposer(config.dim, bits)
        line, tag = transposer.i.payload, self.i.payload.tag
        words = Signal(range(lanes + 1))
        held = Signal(config.dim * bits, reset_less=True)
        row = Signal(config.dim * bits)
        with m.Switch(self.i.payload.keep):  # the low ones
            for count in range(1, lanes + 1):
                with m.Case((1 << count) - 1):
                    m.d.comb += words.eq(count)
        m.d.comb += row.eq(held)
        m.d.comb += row.word_select(tag.part, lanes * bits).eq(Cat(self.i.payload.data))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += held.eq(row)
        m.d.comb += [
            line.data.eq(row), line.last.eq(self.i.payload.last),
            line.words.eq((tag.part << log2_exact(lanes)) + words),
            transposer.i.valid.eq(self.i.valid & tag.row_ends),
            self.i.ready.eq(transposer.i.ready | ~tag.row_ends),
            self.idle.eq(~transposer.busy),
        ]
        self._leave(m, transposer)
        return m

    def _leave(self, m: Module, transposer) -> None:
        """Columns of as many words as the tile has rows, L at a time."""
        lanes, bits = self.config.lanes, self.config.word.bits
        part = Signal(range(self.config.dim // lanes))
        beat = self.o.payload
        rows = transposer.o.payload.lines
        left = Signal.like(rows, name="left")
        m.d.comb += [
            left.eq(rows - (part << log2_exact(lanes))),
            beat.keep.eq(Cat(left > lane for lane in range(lanes))),
            beat.last.eq(left <= lanes),
            Cat(beat.data).eq(transposer.o.payload.data.word_select(part, lanes * bits)),
            self.o.valid.eq(transposer.o.valid),
            transposer.o.ready.eq(self.o.ready & beat.last),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += part.eq(Mux(beat.last, 0, part + 1))
