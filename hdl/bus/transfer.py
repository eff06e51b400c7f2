"""What a memory engine is asked to move."""

from amaranth.lib import data

__all__ = ["TRANSFER", "PAGE_BYTES", "BURST_BEATS", "OUTSTANDING"]

TRANSFER = data.StructLayout({"address": 64, "row_bytes": 26, "rows": 24, "stride": 32})
"""``rows`` rows of ``row_bytes`` bytes, the first at ``address``, each ``stride`` bytes on.

Any byte address and stride. A transfer of no row or of no byte is accepted and moves nothing.
"""

PAGE_BYTES = 4096  # AXI4: no burst crosses a boundary of this many bytes
BURST_BEATS = 16
OUTSTANDING = 16
