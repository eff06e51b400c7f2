"""Asking for the memory that a pass over a block reads and writes."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.drain.block_reader import region_layout
from hdl.ports.plan import COUNT_BITS
from hdl.ports.transfer import TRANSFER
from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["StripTransfers", "matrix_layout"]


def matrix_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A block of a matrix in memory.

    ``wanted``: it is used. ``address``: of its first element. ``transposed``: stored column by
    column. ``wide``: elements of two bytes. ``column``, in a build of scales: it has one column,
    which is asked for with every strip.
    """
    return data.StructLayout({
        "wanted": 1, "address": 64, "stride": 32, "wide": 1, "transposed": 1,
        **({"column": 1} if config.scales else {})})


class StripTransfers(wiring.Component):
    """Asks for Y and C of a block, one transfer per strip, or per tile where the region is
    ``tiled``.

    Members
    -------
    start: In(1), pulse while not ``busy``; the inputs are constant from then on.
    region: In(``region_layout``), what the pass covers.
    row_columns: In, columns of a transfer where they are more than the strip's.
    y, c: In(``matrix_layout``); a ``transposed`` one needs a ``tiled`` region.
    y_transfer, c_transfer: Out(stream of ``TRANSFER``), in the order in which ``BlockReader``
        offers the block.
    busy: Out(1), requests are outstanding.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "start": In(1), "region": In(region_layout(config)),
            "row_columns": In(COUNT_BITS),
            "y": In(matrix_layout(config)), "c": In(matrix_layout(config)),
            "y_transfer": Out(stream.Signature(TRANSFER)),
            "c_transfer": Out(stream.Signature(TRANSFER)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        region, dim = self.region, self.config.dim
        rows = Signal(range(self.config.row_depth + 1), reset_less=True)
        columns = Signal.like(region.columns, reset_less=True)
        strip = Signal.like(region.columns)
        tile_rows = Signal.like(rows)
        strip_end, step = Signal(), Signal()
        asked = Signal(2)
        met = []
        m.d.comb += [
            strip.eq(Mux(region.first_column, 1,
                         Mux(columns < region.strip, columns, region.strip))),
            tile_rows.eq(Mux(region.tiled & (rows > dim), dim, rows)),
            strip_end.eq(tile_rows == rows),
        ]
        for index, (matrix, port) in enumerate(((self.y, self.y_transfer),
                                                (self.c, self.c_transfer))):
            self._matrix(m, matrix, port, strip, tile_rows, step, strip_end)
            m.d.comb += port.valid.eq(self.busy & matrix.wanted & ~asked[index])
            met.append(~matrix.wanted | asked[index] | port.ready)
            with m.If(port.valid & port.ready):
                m.d.sync += asked[index].eq(1)
        m.d.comb += step.eq(self.busy & met[0] & met[1])
        with m.If(step):
            m.d.sync += [asked.eq(0), rows.eq(rows - dim)]
            with m.If(strip_end):
                m.d.sync += [rows.eq(region.rows), columns.eq(columns - region.strip),
                             self.busy.eq(~region.first_column & (columns > region.strip))]
        with m.If(self.start):
            m.d.sync += [self.busy.eq(1), rows.eq(region.rows), columns.eq(region.columns)]
        return m

    def _matrix(self, m: Module, matrix, port, strip, tile_rows, step, strip_end) -> None:
        """The transfer of the current tile, and the address of the next."""
        region, dim_log2 = self.region, log2_exact(self.config.dim)
        element_log2 = log2_exact(self.config.format.storage_bytes)

        def to_bytes(count):
            return Mux(matrix.wide & (element_log2 == 0), count << 1, count << element_log2)

        strip_base, base = Signal(64, reset_less=True), Signal(64, reset_less=True)
        lines = matrix.stride << dim_log2
        along, across = Signal(64), Signal(64)
        row_columns = Mux(self.row_columns > strip, self.row_columns, strip)
        step_along = to_bytes(region.strip)
        if self.config.scales:
            row_columns = Mux(matrix.column, 1, row_columns)
            step_along = Mux(matrix.column, 0, step_along)
        m.d.comb += [
            along.eq(Mux(matrix.transposed, lines, step_along)),
            across.eq(Mux(matrix.transposed, to_bytes(1 << dim_log2), lines)),
            port.payload.address.eq(base), port.payload.stride.eq(matrix.stride),
            port.payload.row_bytes.eq(to_bytes(Mux(matrix.transposed, tile_rows, row_columns))),
            port.payload.rows.eq(Mux(matrix.transposed, strip, tile_rows)),
        ]
        with m.If(step):
            m.d.sync += base.eq(base + across)
            with m.If(strip_end):
                m.d.sync += [base.eq(strip_base + along), strip_base.eq(strip_base + along)]
        with m.If(self.start):
            m.d.sync += [base.eq(matrix.address), strip_base.eq(matrix.address)]
