"""Transposes square tiles of elements that flow through."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.leaf import shared
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

    ``last``: the tile has no more words. ``tag``: the tile's.
    """
    return data.StructLayout({"data": dim * width, "last": 1, "tag": 1})


class _Rows(wiring.Component):
    """``count`` rows of ``dim`` elements, one above the other.

    With ``shift`` they move up (``up``, the lowest takes ``below``), or one to the left (row r
    takes element r of ``side``). ``o``: the uppermost row; ``column``: the first element of each.
    Two equal halves make the whole, down to one row: each size is one shared leaf, so that no
    module handles all ``dim`` × ``dim`` elements.
    """

    def __init__(self, dim: int, width: int, count: int) -> None:
        self._dim = dim
        self._width = width
        self._count = count
        super().__init__({
            "shift": In(1), "up": In(1), "below": In(dim * width), "side": In(count * width),
            "o": Out(dim * width), "column": Out(count * width),
        })

    @property
    def leaf_name(self) -> str:
        return f"transposer_rows_{self._dim}x{self._width}_{self._count}"

    def elaborate(self, platform):
        m = Module()
        if self._count == 1:
            row = Signal(self._dim * self._width, reset_less=True)
            m.d.comb += [self.o.eq(row), self.column.eq(row)]
            with m.If(self.shift):
                m.d.sync += row.eq(Mux(self.up, self.below, Cat(row[self._width:], self.side)))
            return m
        half = self._count // 2
        upper, lower = (_Rows(self._dim, self._width, half) for _ in range(2))
        m.submodules.upper = shared(upper)
        m.submodules.lower = shared(lower)
        m.d.comb += [
            lower.below.eq(self.below), upper.below.eq(lower.o), self.o.eq(upper.o),
            Cat(upper.side, lower.side).eq(self.side),
            self.column.eq(Cat(upper.column, lower.column)),
        ]
        for rows in (upper, lower):
            m.d.comb += [rows.shift.eq(self.shift), rows.up.eq(self.up)]
        return m


class Transposer(wiring.Component):
    """Takes tiles line by line and gives them word by word: word j holds element j of every line.

    ``dim`` × ``dim`` registers of ``width`` bits. A tile shifts in from one edge while the one
    before it leaves at right angles, so the direction changes with every tile and full tiles flow
    at one line and one word per cycle; the first word of a tile can leave in the cycle after its
    last line. A tile of fewer than ``dim`` lines takes the time of ``dim``; one of w elements per
    line gives w words. Once a line of a tile is in, the words of the tile before leave only as
    more of its lines arrive: whoever offers lines must not wait for those words.

    Ports
    -----
    i: lines (``lines_layout``). o: words (``words_layout``). ``i.ready`` follows ``o.ready``, and
        ``o.valid`` may follow ``i.valid``, in the same cycle.
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

    @property
    def leaf_name(self) -> str:
        return f"transposer_{self._dim}x{self._width}"

    def elaborate(self, platform):
        m = Module()
        dim = self._dim
        line, out = self.i.payload, self.o.payload
        entered = Signal(range(dim))  # lines of the tile that enters
        padding = Signal()  # its last line is in, zeros follow
        left = Signal(range(dim + 1))  # words of the tile that leaves
        up = Signal()  # the direction of both
        words, tag = Signal.like(left, name="words", reset_less=True), Signal(reset_less=True)
        out_tag = Signal(reset_less=True)
        leaves, enters, offered, complete = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            offered.eq(self.i.valid | padding),
            leaves.eq((left == 0) | self.o.ready),
            enters.eq(leaves & offered),
            complete.eq(enters & (entered == dim - 1)),
            self.i.ready.eq(leaves & ~padding),
            # No gap between the lines of a tile: a shift would move those that are in.
            self.o.valid.eq((left != 0) & (offered | (entered == 0))),
            out.last.eq(left == 1), out.tag.eq(out_tag),
            self.busy.eq((left != 0) | (entered != 0)),
        ]
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += left.eq(left - 1)
        with m.If(enters):
            m.d.sync += entered.eq(entered + 1)
        with m.If(enters & ~padding & line.last):
            m.d.sync += [padding.eq(1), words.eq(line.words), tag.eq(line.tag)]
        with m.If(complete):
            m.d.sync += [
                up.eq(~up), padding.eq(0), left.eq(Mux(padding, words, line.words)),
                out_tag.eq(Mux(padding, tag, line.tag)),
            ]

        rows = _Rows(dim, self._width, dim)
        m.submodules.rows = shared(rows)
        entering = Signal(dim * self._width)
        m.d.comb += [
            entering.eq(Mux(padding, 0, line.data)),
            rows.shift.eq(enters | (self.o.valid & self.o.ready)), rows.up.eq(up),
            rows.below.eq(entering), rows.side.eq(entering),
            out.data.eq(Mux(up, rows.o, rows.column)),
        ]
        return m
