"""Reading a block out of an accumulation bank, strip by strip, row by row."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.ports.accumulation import progress_layout
from hdl.ports.plan import count_tiles
from hdl.ports.sram import SramRead
from hdl.ports.vector import result_tag
from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["BlockReader", "drained_layout", "region_layout"]


def region_layout(config: AcceleratorConfig) -> data.StructLayout:
    """What a pass covers: ``rows`` × ``columns`` elements in strips of ``strip`` columns.

    ``strip`` is a multiple of D; only the last strip may be narrower. ``tiled``: strips are a
    column tile wide and are cut into tiles of D rows. ``first_column``: of each row only the first
    element; there is one strip then.
    """
    columns = range(config.acc_depth * config.dim + 1)
    return data.StructLayout({
        "rows": range(config.row_depth + 1), "columns": columns, "strip": columns, "tiled": 1,
        "first_column": 1})


def drained_layout(config: AcceleratorConfig) -> data.StructLayout:
    """Control of one beat: L accumulators of one row, named by ``tag`` (``result_tag``).

    ``keep``, ``row``, ``last``: see ``hdl.vector.vector_beat.side_layout``.
    """
    return data.StructLayout({
        "tag": result_tag(config), "keep": config.lanes, "row": range(config.row_depth),
        "last": 1})


class BlockReader(wiring.Component):
    """Offers the words of a block as beats, in the order strip, row, column.

    The bank's read port holds its word, so it is itself the stage between address and beat.

    Members
    -------
    start: In(1), pulse while not ``busy``; ``region`` and what follows are constant from then on.
    array_fills: In(1), the bank is filled by the array, column tile after column tile, else in the
        order of its addresses. follow: In(1), words are read as soon as they arrive, else from
        a complete bank only. whole_rows: In(1), no word is read before its row is complete.
    ready, progress: In, of this bank (``BankStates``).
    row_goes_on: In(1), the row continues in another bank: ``last`` marks no beat, unless it is
        tiled.
    enable: In(1), beats are offered.
    read: Out(``SramRead``), of the bank.
    beat: Out(stream of ``drained_layout``), valid with the data that the last read left on the
        port; ``last``: the beat ends its row of the strip, in a ``tiled`` region its tile.
    done: Out(1), pulse, the last beat is taken. busy: Out(1), until then.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "start": In(1), "region": In(region_layout(config)),
            "array_fills": In(1), "whole_rows": In(1), "follow": In(1), "ready": In(1),
            "progress": In(progress_layout(config)),
            "row_goes_on": In(1), "enable": In(1), "read": Out(SramRead(config.acc_depth)),
            "beat": Out(stream.Signature(drained_layout(config))),
            "done": Out(1), "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        config = self.config
        position = Signal(data.StructLayout({
            "address": range(config.acc_depth), "tile": range(config.acc_depth),
            "row": range(config.row_depth)}), reset_less=True)
        left = Signal(range(config.acc_depth * config.dim + 1), reset_less=True)
        reading, fetch, free = Signal(), Signal(), Signal()
        row_end, strip_end, final = self._walk(m, position, left, reading, fetch)

        tiles = count_tiles(config, self.region.columns)
        column_tile = Mux(self.array_fills, Mux(self.whole_rows, tiles - 1, position.tile), 0)
        word = Mux(self.array_fills, position.row, position.address)
        filled = (column_tile < self.progress.tiles) | (
            (column_tile == self.progress.tiles) & (word < self.progress.words))
        m.d.comb += [
            fetch.eq(reading & free & (self.ready | (self.follow & filled))),
            self.read.enable.eq(fetch), self.read.address.eq(position.address),
        ]
        tile_end = position.row[:log2_exact(config.dim)].all()
        last = row_end & Mux(self.region.tiled, tile_end | strip_end, ~self.row_goes_on)
        self._offer(m, position, left, fetch, free, row_end, last, final)
        with m.If(self.start):
            m.d.sync += self.busy.eq(1)
        with m.Elif(self.done):
            m.d.sync += self.busy.eq(0)
        return m

    def _walk(self, m: Module, position, left, reading, fetch):
        """Steps ``position`` word by word with ``fetch``; ``left``: columns of this row's strip.

        Returns whether the word ends its row of the strip, its strip, the block.
        """
        region = self.region
        rows = Signal(range(self.config.row_depth + 1), reset_less=True)
        columns = Signal.like(left, name="columns", reset_less=True)  # from this strip on
        below = Signal.like(left, name="below")  # after this strip
        row_address = Signal(range(self.config.acc_depth), reset_less=True)
        strip_tile = Signal.like(position.tile, name="strip_tile", reset_less=True)
        row_end, strip_end, final = Signal(), Signal(), Signal()

        def strip_of(remaining):
            whole = Mux(remaining < region.strip, remaining, region.strip)
            return Mux(region.first_column, 1, whole)

        next_row = Signal.like(row_address, name="next_row")
        m.d.comb += [
            row_end.eq(left <= self.config.dim),
            strip_end.eq(row_end & (rows == 1)),
            final.eq(strip_end & (region.first_column | (columns <= region.strip))),
            below.eq(columns - region.strip),
            next_row.eq(row_address + count_tiles(self.config, region.columns)),
        ]
        with m.If(fetch):
            m.d.sync += [position.address.eq(position.address + 1),
                         position.tile.eq(position.tile + 1), left.eq(left - self.config.dim)]
            with m.If(row_end):
                m.d.sync += [
                    position.address.eq(next_row + strip_tile), position.tile.eq(strip_tile),
                    position.row.eq(position.row + 1), row_address.eq(next_row),
                    rows.eq(rows - 1), left.eq(strip_of(columns)),
                ]
            with m.If(strip_end):
                m.d.sync += [
                    position.address.eq(position.tile + 1), position.tile.eq(position.tile + 1),
                    position.row.eq(0), row_address.eq(0), strip_tile.eq(position.tile + 1),
                    rows.eq(region.rows), left.eq(strip_of(below)), columns.eq(below),
                ]
            with m.If(final):
                m.d.sync += reading.eq(0)
        with m.If(self.start):
            m.d.sync += [
                position.eq(0), row_address.eq(0), strip_tile.eq(0), reading.eq(1),
                rows.eq(region.rows), left.eq(strip_of(region.columns)), columns.eq(region.columns),
            ]
        return row_end, strip_end, final

    def _offer(self, m: Module, position, left, fetch, free, row_end, last, final) -> None:
        """Offer the word that was read last, part by part."""
        config = self.config
        lanes, beat = config.lanes, self.beat.payload
        loaded, word_row_end, word_last, word_final = Signal(), Signal(), Signal(), Signal()
        count = Signal(range(config.dim + 1), reset_less=True)
        ends, taken = Signal(), Signal()
        m.d.comb += [
            ends.eq(count <= lanes),
            taken.eq(self.beat.valid & self.beat.ready),
            free.eq(~loaded | (taken & ends)),
            self.beat.valid.eq(loaded & self.enable),
            beat.keep.eq(Cat(count > lane for lane in range(lanes))),
            beat.tag.row_ends.eq(ends & word_row_end), beat.last.eq(ends & word_last),
            self.done.eq(taken & ends & word_final),
        ]
        with m.If(taken):
            m.d.sync += [count.eq(count - lanes), beat.tag.part.eq(beat.tag.part + 1)]
            with m.If(ends):
                m.d.sync += loaded.eq(0)
        with m.If(fetch):
            m.d.sync += [
                loaded.eq(1), word_row_end.eq(row_end), word_last.eq(last),
                word_final.eq(final), beat.tag.part.eq(0),
                beat.tag.address.eq(position.address), beat.row.eq(position.row),
                count.eq(Mux(left < config.dim, left, config.dim)),
            ]
