"""One vector instruction over a block: the four stages of a lane, then the row reduction.

A block is rows × columns lane values (float64). Row registers R0 and R1 hold one lane value a
row. Immediates are BF16 values. A stage that is off passes its words on unchanged, subnormal ones
too (only NaN is made canonical); a stage that acts counts them as zero.
"""

from dataclasses import dataclass, field

import numpy as np

from hdl.spec.commands import Function, Operand, Post, Reduce
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16

from . import lanes
from .rounding import Array, largest

__all__ = ["RowState", "execute"]


@dataclass
class RowState:
    """Operands of a command's instructions: immediates, Y tensors and row registers."""

    immediates: tuple[float, float]
    y: tuple[Array | None, Array | None]
    registers: list[Array | None] = field(default_factory=lambda: [None, None])


def _operand(state: RowState, instruction: dict[str, int], operand: Operand,
             shape: tuple[int, int]) -> Array:
    """``operand`` as an array of ``shape``; a row register not yet written reads 0."""
    if operand in (Operand.IMM0, Operand.IMM1):
        return np.full(shape, state.immediates[operand - Operand.IMM0])
    if operand == Operand.Y:
        return np.broadcast_to(state.y[instruction["y"]], shape)
    register = state.registers[operand - Operand.R0]
    if register is None:
        return np.zeros(shape)
    return np.broadcast_to(register[:, None], shape)


def _exp(config: AcceleratorConfig, instruction: dict[str, int], state: RowState,
         x: Array) -> Array:
    """e^x; a row whose R0 is at most the most negative finite BF16 is fully masked: +0."""
    result = lanes.exp(config, x)
    if Operand(instruction["add"]) == Operand.R0:
        top = _operand(state, instruction, Operand.R0, x.shape)
        result = np.where(top <= -largest(BFLOAT16), 0.0, result)
    return result


def execute(config: AcceleratorConfig, instruction: dict[str, int], x: Array,
            state: RowState) -> Array:
    """Stage 4's result for the block ``x``; writes the reduction to ``state.registers``.

    ``instruction`` holds the fields of ``hdl.spec.commands.INSTRUCTION``, already checked.
    """
    lane = config.lane

    def operand(name: str) -> Array:
        return _operand(state, instruction, Operand(instruction[name]), x.shape)

    if instruction["multiply"]:
        x = lanes.multiply(lane, x, operand("multiply"))
    if instruction["add"]:
        combine = lanes.subtract if instruction["subtract"] else lanes.add
        x = combine(lane, x, operand("add"))
    if instruction["function"] == Function.EXP:
        x = _exp(config, instruction, state, x)
    elif instruction["function"] == Function.RECIPROCAL:
        x = lanes.reciprocal(config, x)
    if instruction["scale"]:
        x = lanes.multiply(lane, x, operand("scale"))
    if instruction["relu"]:
        x = lanes.relu(lane, x)
    if instruction["reduce"]:
        if instruction["reduce"] == Reduce.MAX:
            result = lanes.row_max(lane, x)
        else:
            result = lanes.row_sum(lane, config.lanes, x)
        if instruction["post"] == Post.RECIPROCAL:
            result = lanes.reciprocal(config, result)
        state.registers[instruction["reduce_to"]] = result
    return x
