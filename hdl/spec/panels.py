"""How operands are held on chip: words of a buffer, tiles of a weight panel, of a group of A."""

from hdl.spec.formats import format_named

__all__ = ["LEAST_TILES", "PanelSizes"]

PANEL_BEATS = 8
"""Bus beats of a row of a weight panel: enough for a memory to which a burst costs some cycles."""
LEAST_TILES = 4
"""Least tiles of a panel either way, of a buffer that holds them; and of the rows of a block, which
then hide the next tile's weights."""


class PanelSizes:
    """What follows from the sizes of a build's buffers and of its bus (``AcceleratorConfig``)."""

    fmt: str
    dim: int
    input_depth: int
    weight_depth: int
    acc_depth: int
    bus_bytes: int

    @property
    def word_bytes(self) -> int:
        """Bytes of one buffer word: D stored operands."""
        return self.dim * format_named(self.fmt).storage_bytes

    @property
    def panel_line(self) -> int:
        """Tiles along a stored row of B in a weight panel (one half of the weight buffer):
        ``PANEL_BEATS`` bus beats, where K of an input bank is as long for as many rows as hide the
        next tile's weights; ``LEAST_TILES`` in any case."""
        wanted = min(PANEL_BEATS * self.bus_bytes // self.word_bytes,
                     self.input_depth // (LEAST_TILES * self.dim))
        return min(max(LEAST_TILES, wanted), self._panel_tiles)

    @property
    def first_panel(self) -> int:
        """K-tiles of a panel of B stored N×K where the array waits for its first line: rows of two
        bus beats, ``LEAST_TILES`` at least."""
        return min(self.panel_line, max(LEAST_TILES, 2 * self.bus_bytes // self.word_bytes))

    @property
    def panel_columns(self) -> int:
        """Column tiles of a panel of B stored K×N, and of a chunk at most: ``panel_line``, but no
        more than an accumulation bank holds for as many rows as hide the next tile's weights."""
        most = self.acc_depth // (LEAST_TILES * self.dim)
        return min(self.panel_line, max(LEAST_TILES, most))

    def panel_tiles(self, transposed: bool) -> tuple[int, int]:
        """K-tiles and column tiles of a weight panel, of B stored N×K where ``transposed``."""
        line = self.panel_line if transposed else self.panel_columns
        lines = min(LEAST_TILES, self._panel_tiles // line)
        return (line, lines) if transposed else (lines, line)

    @property
    def panel_most(self) -> tuple[int, int]:
        """Most K-tiles and column tiles of a weight panel, however B is stored."""
        (k, n), (k_line, n_lines) = self.panel_tiles(False), self.panel_tiles(True)
        return max(k, k_line), max(n, n_lines)

    @property
    def operand_depth(self) -> int:
        """K-tiles of a group of A where the array waits for it: rows of two bus beats, the least
        that 16 bursts in flight need to keep a bus of 30 cycles latency busy."""
        return min(LEAST_TILES, max(1, 2 * self.bus_bytes // self.word_bytes))

    @property
    def _panel_tiles(self) -> int:
        return self.weight_depth // 2 // self.dim
