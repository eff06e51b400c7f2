"""Results of a transposed C: tiles of beats turn between the lanes and the encoders."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.transposer import Transposer
from hdl.spec.config import AcceleratorConfig, log2_exact
from hdl.vector.beat import result_layout

__all__ = ["Turn"]


class Turn(wiring.Component):
    """Takes tiles of at most D × D words row by row and gives them column by column.

    A tile of w columns costs D cycles at least: D rows come in while w columns of the tile before
    leave (``Transposer``, whose rule on waiting holds here).

    Ports
    -----
    i: as ``VectorUnit.o``; ``last`` ends a tile. group: of ``i``, the place of the beat's words in
        their row of D. row_last: of ``i``, the beat ends its row of the tile.
    o: beats of columns; ``last`` ends a column. row and address are 0.
    idle: nothing is inside but beats of a row that is not complete.
    """

    def __init__(self, config: AcceleratorConfig, address_bits: int):
        self.config = config
        beats = stream.Signature(result_layout(config, address_bits))
        super().__init__({
            "i": In(beats), "group": In(range(config.dim // config.lanes)), "row_last": In(1),
            "o": Out(beats), "idle": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        lanes, bits = config.lanes, config.lane.bits
        m.submodules.transposer = transposer = Transposer(config.dim, bits)
        line = transposer.i.payload
        words = Signal(range(lanes + 1))
        held = Signal(config.dim * bits, reset_less=True)
        row = Signal(config.dim * bits)
        with m.Switch(self.i.payload.keep):  # the low ones
            for count in range(1, lanes + 1):
                with m.Case((1 << count) - 1):
                    m.d.comb += words.eq(count)
        m.d.comb += row.eq(held)
        m.d.comb += row.word_select(self.group, lanes * bits).eq(Cat(self.i.payload.data))
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += held.eq(row)
        m.d.comb += [
            line.data.eq(row), line.last.eq(self.i.payload.last),
            line.words.eq((self.group << log2_exact(lanes)) + words),
            transposer.i.valid.eq(self.i.valid & self.row_last),
            self.i.ready.eq(transposer.i.ready | ~self.row_last),
            self.idle.eq(~transposer.busy),
        ]
        self._leave(m, transposer, self._rows(m, transposer))
        return m

    def _rows(self, m: Module, transposer) -> Signal:
        """Rows of the tile that leaves, counted when it came in.

        The next tile may be in, with its padding, before this one has left.
        """
        count = range(self.config.dim + 1)
        entering, entered, leaving = (Signal(count, name=name, reset_less=name != "entering")
                                      for name in ("entering", "entered", "leaving"))
        begun = Signal()
        with m.If(transposer.i.valid & transposer.i.ready):
            m.d.sync += entering.eq(entering + 1)
            with m.If(transposer.i.payload.last):
                m.d.sync += [entering.eq(0), entered.eq(entering + 1)]
        rows = Signal(count)
        m.d.comb += rows.eq(Mux(begun, leaving, entered))
        with m.If(transposer.o.valid & transposer.o.ready):
            m.d.sync += [begun.eq(~transposer.o.payload.last), leaving.eq(rows)]
        return rows

    def _leave(self, m: Module, transposer, rows) -> None:
        """Columns of ``rows`` words, L at a time."""
        lanes, bits = self.config.lanes, self.config.lane.bits
        group = Signal(range(self.config.dim // lanes))
        beat = self.o.payload
        left = Signal.like(rows, name="left")
        m.d.comb += [
            left.eq(rows - (group << log2_exact(lanes))),
            beat.keep.eq(Cat(left > lane for lane in range(lanes))),
            beat.last.eq(left <= lanes),
            Cat(beat.data).eq(transposer.o.payload.data.word_select(group, lanes * bits)),
            self.o.valid.eq(transposer.o.valid),
            transposer.o.ready.eq(self.o.ready & beat.last),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += group.eq(Mux(beat.last, 0, group + 1))
