"""What a memory engine is asked to move."""

from amaranth.lib import data

from hdl.spec.config import COUNT_BITS
from hdl.spec.timing import ROW_BYTES_BITS

__all__ = ["TRANSFER"]

TRANSFER = data.StructLayout({
    "address": 64, "row_bytes": ROW_BYTES_BITS, "rows": COUNT_BITS, "stride": 32})
"""``rows`` rows of ``row_bytes`` bytes, the first at ``address``, each ``stride`` bytes on.

Any byte address and stride. A transfer of no row or of no byte is accepted and moves nothing.
"""
