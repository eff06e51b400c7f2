"""The arithmetic of a cell: that of its build, or one that no build has."""

from compiler.lowering.scaling import default_scales
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.accuracy.cells import Cell
from sim.model import lanes
from sim.verify.arithmetic import Arithmetic, Array
from sim.verify.by_row import ByRow

__all__ = ["arithmetic_of"]


class MixedSoftmax(Arithmetic):
    """With the reciprocal of another softmax mode."""

    def __init__(self, config: AcceleratorConfig, mode: str) -> None:
        super().__init__(config)
        self._other = AcceleratorConfig(config.fmt, acc=config.acc, softmax=mode)

    def reciprocal(self, x: Array) -> Array:
        return lanes.reciprocal(self._other, x)


def arithmetic_of(cell: Cell) -> Arithmetic:
    """What computes a cell that rounds; ``ValueError``."""
    if cell.reciprocal is not None:
        return MixedSoftmax(cell.config, cell.reciprocal)
    if default_scales(cell.config, cell.level) == "row":
        return ByRow(cell.config)
    return Arithmetic(cell.config)
