"""What lanes without functions have in place of an attention head: a small model of their own."""

from functools import cache

from compiler.calibration import calibrate, calibration_examples
from compiler.checkpoints import registry
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.samples import inputs_for
from compiler.checkpoints.scales import Scales
from compiler.lowering.lower import lower
from compiler.program.lowered import LoweredProgram
from hdl.spec.config import AcceleratorConfig

__all__ = ["MODEL", "integer_program"]

MODEL = "digits-integer"


@cache
def _scaled() -> tuple[Transformer, Scales]:
    model = registry.load(MODEL)
    return model, calibrate(model, calibration_examples(MODEL, model))


def integer_program(config: AcceleratorConfig, seed: int = 0) -> LoweredProgram:
    """``MODEL`` on random images with static scales, polynomial attention and L1 norms; every
    tensor that it writes is a result."""
    model, scales = _scaled()
    return lower(config, model, inputs_for(model, 16, seed=seed), scales=scales, seed=seed,
                 keep=True)
