"""Transposes square tiles of elements that flow through."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.leaf import shared
from hdl.lib.pair import one_of
from hdl.lib.rotate import rotate
from hdl.lib.sram import Sram1R1W
from hdl.spec.config import log2_exact

__all__ = ["Transposer", "lines_layout", "words_layout"]


def lines_layout(dim: int, width: int) -> data.StructLayout:
    """A line of a tile: up to ``dim`` elements of ``width`` bits, the first lowest.

    ``last``: the tile has no more lines. With it, ``words`` is the number of elements in each of
    its lines, from 1 to ``dim``, and ``tag`` a bit that goes with the tile.
    """
    return data.StructLayout({
        "data": dim * width, "last": 1, "words": range(dim + 1), "tag": 1})


def words_layout(dim: int, width: int) -> data.StructLayout:
    """Word j of a tile: element j of each of its lines, zero beyond the tile's last line.

    ``lines``: of the tile, from 1 to ``dim``. ``last``: it has no more words. ``tag``: the tile's.
    """
    return data.StructLayout({
        "data": dim * width, "lines": range(dim + 1), "last": 1, "tag": 1})


class Transposer(wiring.Component):
    """Takes tiles line by line and gives them word by word: word j holds element j of every line.

    ``dim`` memories of ``width`` bits hold two tiles, one that enters and one that leaves: element
    j of line i lies in memory (i + j) mod ``dim`` at address i, so that the elements of a line, and
    those of a word, all lie in different ones. Full tiles flow at one line and one word per cycle,
    in whatever order lines and words are taken; the first word of a tile can leave two cycles
    after its last line. A tile takes as many cycles as the larger of its numbers of lines and
    words.

    Ports
    -----
    i: lines (``lines_layout``). o: words (``words_layout``). ``i.ready`` does not depend on
        ``o.ready``.
    busy: a line or a word is inside.
    """

    def __init__(self, dim: int, width: int) -> None:
        log2_exact(dim)
        self._dim = dim
        self._width = width
        super().__init__({
            "i": In(stream.Signature(lines_layout(dim, width))),
            "o": Out(stream.Signature(words_layout(dim, width))),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        dim = self._dim
        counts = data.ArrayLayout(range(dim + 1), 2)
        into, out_of = Signal(), Signal()  # the tile that enters, that leaves
        line, word = Signal(range(dim)), Signal(range(dim))  # the next of them
        full, tags = Signal(2), Signal(2, reset_less=True)
        lines, words = (Signal(counts, name=name, reset_less=True) for name in ("lines", "words"))
        enters, reads, ends, waiting = Signal(), Signal(), Signal(), Signal()
        shown = Signal.like(word, reset_less=True)  # the word that waits at the memories' outputs
        i, o = self.i.payload, self.o.payload
        m.d.comb += [
            self.i.ready.eq(~full.bit_select(into, 1)),
            enters.eq(self.i.valid & self.i.ready),
            reads.eq(full.bit_select(out_of, 1) & (~waiting | self.o.ready)),
            ends.eq(word + 1 == one_of(words, out_of)),
            self.o.valid.eq(waiting),
            self.busy.eq(full.any() | (line != 0) | waiting),
        ]
        m.d.sync += waiting.eq(reads | (waiting & ~self.o.ready))
        with m.If(enters):
            m.d.sync += line.eq(Mux(i.last, 0, line + 1))
            with m.If(i.last):
                m.d.sync += [
                    into.eq(~into), full.bit_select(into, 1).eq(1), words[into].eq(i.words),
                    lines[into].eq(line + 1), tags.bit_select(into, 1).eq(i.tag),
                ]
        with m.If(reads):
            m.d.sync += [
                word.eq(Mux(ends, 0, word + 1)), shown.eq(word), o.last.eq(ends),
                o.lines.eq(one_of(lines, out_of)), o.tag.eq(tags.bit_select(out_of, 1)),
            ]
            with m.If(ends):
                m.d.sync += [out_of.eq(~out_of), full.bit_select(out_of, 1).eq(0)]
        column = self._store(m, enters, Cat(line, into), reads, word, out_of, shown)
        m.d.comb += o.data.eq(Cat(
            Mux(o.lines > index, column.word_select(index, self._width), 0)
            for index in range(dim)))
        return m

    def _store(self, m: Module, enters, place, reads, word, out_of, shown):
        """The memories: a line goes to ``place``, word ``word`` of tile ``out_of`` is read. The
        word that was read last, number ``shown``."""
        dim, width = self._dim, self._width
        skewed = rotate(m, "skewed", self.i.payload.data, place[:-1], dim, width, left=True)
        read = []
        for index in range(dim):
            sram = Sram1R1W(width, 2 * dim)
            m.submodules[f"sram{index}"] = shared(sram)
            line = Signal(range(dim), name=f"line_{index}")  # of it, what this memory has
            m.d.comb += [
                line.eq(index - word),
                sram.write.enable.eq(enters), sram.write.address.eq(place),
                sram.write.data.eq(skewed.word_select(index, width)),
                sram.read.enable.eq(reads), sram.read.address.eq(Cat(line, out_of)),
            ]
            read.append(sram.data)
        return rotate(m, "column", Cat(read), shown, dim, width, left=False)
