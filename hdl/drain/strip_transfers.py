"""Asking for the memory that a pass over a block reads and writes."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.bus.transfer import TRANSFER
from hdl.drain.block_reader import span_layout
from hdl.ports.plan import COUNT_BITS
from hdl.spec.config import AcceleratorConfig, log2_exact

__all__ = ["StripTransfers", "matrix_layout"]


def matrix_layout() -> data.StructLayout:
    """A block of a matrix in memory.

    ``wanted``: it is used. ``address``: of its first element. ``turned``: stored column by column.
    ``wide``: elements of two bytes.
    """
    return data.StructLayout({
        "wanted": 1, "address": 64, "stride": 32, "wide": 1, "turned": 1})


class StripTransfers(wiring.Component):
    """Asks for Y and C of a block, a transfer a strip, or a tile where the span is ``tiled``.

    Ports
    -----
    start: pulse while not ``busy``; the inputs are constant from then on. span: what the pass
        covers. row_columns: columns of a transfer where they are more than the strip's.
    y, c: the matrices; a ``turned`` one needs a ``tiled`` span.
    y_transfer, c_transfer: requests, in the order in which ``BlockReader`` offers the block.
    busy: transfers are still to be asked for.
    """

    def __init__(self, config: AcceleratorConfig):
        self.config = config
        super().__init__({
            "start": In(1), "span": In(span_layout(config)),
            "row_columns": In(COUNT_BITS),
            "y": In(matrix_layout()), "c": In(matrix_layout()),
            "y_transfer": Out(stream.Signature(TRANSFER)),
            "c_transfer": Out(stream.Signature(TRANSFER)),
            "busy": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        span, dim = self.span, self.config.dim
        rows = Signal(range(self.config.row_depth + 1), reset_less=True)
        columns = Signal.like(span.columns, reset_less=True)
        strip = Signal.like(span.columns)
        tile_rows = Signal.like(rows)
        strip_end, step = Signal(), Signal()
        asked = Signal(2)
        met = []
        m.d.comb += [
            strip.eq(Mux(span.first_column, 1,
                         Mux(columns < span.strip, columns, span.strip))),
            tile_rows.eq(Mux(span.tiled & (rows > dim), dim, rows)),
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
                m.d.sync += [rows.eq(span.rows), columns.eq(columns - span.strip),
                             self.busy.eq(~span.first_column & (columns > span.strip))]
        with m.If(self.start):
            m.d.sync += [self.busy.eq(1), rows.eq(span.rows), columns.eq(span.columns)]
        return m

    def _matrix(self, m: Module, matrix, port, strip, tile_rows, step, strip_end) -> None:
        """The transfer of the current tile, and the address of the next."""
        span, dim_log2 = self.span, log2_exact(self.config.dim)
        element_log2 = log2_exact(self.config.format.storage_bytes)

        def to_bytes(count):
            return Mux(matrix.wide & (element_log2 == 0), count << 1, count << element_log2)

        strip_base, base = Signal(64, reset_less=True), Signal(64, reset_less=True)
        lines = matrix.stride << dim_log2
        along, across = Signal(64), Signal(64)
        row_columns = Mux(self.row_columns > strip, self.row_columns, strip)
        m.d.comb += [
            along.eq(Mux(matrix.turned, lines, to_bytes(span.strip))),
            across.eq(Mux(matrix.turned, to_bytes(1 << dim_log2), lines)),
            port.payload.address.eq(base), port.payload.stride.eq(matrix.stride),
            port.payload.row_bytes.eq(to_bytes(Mux(matrix.turned, tile_rows, row_columns))),
            port.payload.rows.eq(Mux(matrix.turned, strip, tile_rows)),
        ]
        with m.If(step):
            m.d.sync += base.eq(base + across)
            with m.If(strip_end):
                m.d.sync += [base.eq(strip_base + along), strip_base.eq(strip_base + along)]
        with m.If(self.start):
            m.d.sync += [base.eq(matrix.address), strip_base.eq(matrix.address)]
