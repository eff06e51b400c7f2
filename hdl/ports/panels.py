"""The weight buffer's two halves, between who fills and who reads them."""

from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from hdl.ports.accumulation import Release
from hdl.ports.parametric import Parametric
from hdl.spec.config import AcceleratorConfig

__all__ = ["WeightPanels", "panel_layout"]


def panel_layout(config: AcceleratorConfig) -> data.StructLayout:
    """A panel of B: ``k`` × ``n`` elements. ``transposed``: stored N×K. ``e5m2``: its encoding."""
    k, n = (range(tiles * config.dim + 1) for tiles in config.panel_most)
    return data.StructLayout({"k": k, "n": n, "transposed": 1, "e5m2": 1})


class WeightPanels(Parametric):
    """A panel in each half, seen from who fills them (``WeightLoader``).

    Members
    -------
    held: Out(2), one bit per half: it has a panel or waits for one.
    panels: Out, ``panel_layout`` of each that is held.
    lines: Out, of each half: lines of the panel that are in. A line is a row of a tile as stored,
        of B stored N×K a column.
    released: In(``Release``), a half has been read.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        lines = range(max(config.panel_tiles(False)[0], config.panel_tiles(True)[1])
                      * config.dim + 1)
        super().__init__({"config": config}, {
            "held": Out(2), "panels": Out(data.ArrayLayout(panel_layout(config), 2)),
            "lines": Out(data.ArrayLayout(lines, 2)), "released": In(Release())})
