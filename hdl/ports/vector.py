"""What controls the vector unit, and what goes with a beat through it."""

from amaranth.lib import data
from amaranth.lib.wiring import Out

from hdl.ports.parametric import Parametric
from hdl.ports.plan import constants
from hdl.spec.commands import COMMAND
from hdl.spec.config import AcceleratorConfig

__all__ = ["PassControl", "Storage", "result_tag"]


def result_tag(config: AcceleratorConfig) -> data.StructLayout:
    """Where a beat of the vector unit comes from in its accumulation bank, and where it goes back.

    ``part``: which L of a word's D accumulators, of the word at ``address``. ``row_ends``: the
    beat is the last of its row in a strip.
    """
    return data.StructLayout({
        "part": range(config.dim // config.lanes), "address": range(config.acc_depth),
        "row_ends": 1})


class PassControl(Parametric):
    """A pass over a block, seen from who runs it (``Drain``); stable while it lasts.

    Members
    -------
    instruction: Out(32), fields of ``INSTRUCTION``.
    imm0, imm1: Out(16), BF16 words, widened for FP32 lanes.
    inverse_n, epsilon: Out(32), in a build of all functions: FP32 words.
    row_maxima: Out(1), R0 is the maximum that the array's drain found (``RowMaximum``).
    begins: Out(1), in a build that trains: pulse, the passes to come are another command's.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        super().__init__({"config": config}, {
            "instruction": Out(32),
            **{name: Out(COMMAND[name].bits) for name in constants(config)},
            "row_maxima": Out(1), **({"begins": Out(1)} if config.trains else {})})


class Storage(Parametric):
    """How the elements of a tensor are stored, seen from who knows its command.

    Members
    -------
    wide: Out(1), as BF16 though the format has 8 bits; without effect for a 16-bit format.
    e5m2: Out(1), of hybrid formats: in the second encoding.
    """

    def __init__(self) -> None:
        super().__init__({}, {"wide": Out(1), "e5m2": Out(1)})
