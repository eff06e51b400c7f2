"""The arithmetic of a cell: that of its build, or one that no build has."""

from compiler.calibration import calibrate
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.scales import Scales
from compiler.examples import Example
from compiler.lowering.scaling import STATIC, check_scales, default_scales
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.accuracy.cells import Cell
from sim.campaigns.accuracy.tasks import task_of
from sim.model import lanes
from sim.verify.arithmetic import Arithmetic, Array
from sim.verify.expected import arithmetic

__all__ = ["arithmetic_of"]


class MixedSoftmax(Arithmetic):
    """With the reciprocal of another softmax mode."""

    def __init__(self, config: AcceleratorConfig, mode: str) -> None:
        super().__init__(config)
        self._other = AcceleratorConfig(config.fmt, acc=config.acc, softmax=mode)

    def reciprocal(self, x: Array) -> Array:
        return lanes.reciprocal(self._other, x)


def arithmetic_of(cell: Cell, model: Transformer) -> Arithmetic:
    """What computes a cell that rounds, of ``model``; ``ValueError``."""
    if cell.reciprocal is not None:
        return MixedSoftmax(cell.config, cell.reciprocal)
    scales: str | Scales = cell.scales or default_scales(cell.config, cell.level)
    if scales == STATIC:
        scales = calibrate(model, [Example(cell.task, values) for values in
                                   task_of(cell.task).calibration])
    check_scales(scales, cell.config, cell.level)
    return arithmetic(cell.config, model, range(len(model.blocks)), scales=scales)
