"""One vector instruction over a block: the four stages of a lane, then the row reduction.

A block is rows × columns lane values (float64). Row registers R0 and R1 hold one lane value per
row. Immediates are BF16 values. A stage that is off passes its words on unchanged, subnormal ones
too (only NaN is made canonical); a stage that acts counts them as zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hdl.spec.commands import Destination, Function, Operand, Post, Reduce
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16, BINARY32
from sim.model import fixed, lanes
from sim.model.rounding import Array, largest, round_to

__all__ = ["RowState", "execute"]


@dataclass
class RowState:
    """Operands of a command's instructions: immediates, Y tensors by number and whether that which
    follows is meant, row registers, what scales reductions; whether one item of each row is stored;
    register A ``before`` the command and as it leaves it (``largest``); of fixed lanes, how many
    words saturated."""

    immediates: Sequence[float]
    y: Mapping[tuple[int, int], Array]
    registers: list[Array | None] = field(default_factory=lambda: [None, None])
    inverse_n: float = 0.0
    epsilon: float = 0.0
    row_result: bool = False
    before: float = 0.0
    largest: float = 0.0
    saturations: int = 0


def _operand(state: RowState, instruction: dict[str, int], operand: Operand,
             shape: tuple[int, int]) -> Array:
    """``operand`` as an array of ``shape``; a row register not yet written reads 0."""
    if operand in (Operand.IMM0, Operand.IMM1):
        return np.full(shape, state.immediates[operand - Operand.IMM0])
    if operand == Operand.Y:
        y = state.y[instruction["y"], instruction["y_second"]]
        return np.broadcast_to(y[:, :1] if instruction["rows"] else y, shape)
    if operand == Operand.A:
        state.largest = 0.0
        return np.full(shape, state.before)
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


def _post(config: AcceleratorConfig, post: Post, total: Array, state: RowState) -> Array:
    """What the row registers take of the FP32 reductions ``total``."""
    if "inverse_n" in post.meaning.reads:
        total = lanes.multiply(BINARY32, total, np.full_like(total, state.inverse_n))
    if "epsilon" in post.meaning.reads:
        total = lanes.add(BINARY32, total, np.full_like(total, state.epsilon))
    if post == Post.INVERSE_SQRT:
        return lanes.inverse_root(config.lane, total)
    result = round_to(config.lane, total)
    if post in (Post.INVERSE, Post.RECIPROCAL_MEAN):
        return lanes.reciprocal_by_table(config.lane, result)
    if post == Post.POWER:
        return lanes.power(result)
    return lanes.reciprocal(config, result) if post == Post.RECIPROCAL else result


def execute(config: AcceleratorConfig, instruction: dict[str, int], x: Array,
            state: RowState) -> Array:
    """Stage 4's result for the block ``x``; writes the reduction to ``state``.

    ``instruction`` holds the fields of ``hdl.spec.commands.INSTRUCTION``, already checked.
    """
    if instruction["rows"]:
        x = np.zeros((len(x), 1))
    if config.fixed:
        return _execute_fixed(instruction, x, state)
    lane = config.lane

    def operand(name: str, own: Array) -> Array:
        kind = Operand(instruction[name])
        return own if kind == Operand.SELF else _operand(state, instruction, kind, own.shape)

    if instruction["multiply"]:
        x = lanes.multiply(lane, x, operand("multiply", x))
    if instruction["add"]:
        combine = lanes.subtract if instruction["subtract"] else lanes.add
        x = combine(lane, x, operand("add", x))
    if instruction["function"] == Function.EXP:
        x = _exp(config, instruction, state, x)
    else:
        x = lanes.apply(config, Function(instruction["function"]), x)
    if instruction["scale"]:
        x = lanes.multiply(lane, x, operand("scale", x))
    if instruction["relu"]:
        x = lanes.relu(lane, x)
    if instruction["reduce"] == Reduce.AMAX:
        one = state.row_result and instruction["destination"] == Destination.MEMORY
        state.largest = lanes.largest_magnitude(lane, state.largest, x[:, :1] if one else x)
    elif instruction["reduce"]:
        taken = np.abs(x) if instruction["magnitude"] else x
        if instruction["reduce"] == Reduce.MAX:
            total = lanes.row_max(lane, taken)
        else:
            total = lanes.row_total(lane, config.lanes, config.sum_ways, taken)
        state.registers[instruction["reduce_to"]] = _post(
            config, Post(instruction["post"]), total, state)
    return x


def _execute_fixed(instruction: dict[str, int], x: Array, state: RowState) -> Array:
    """``execute`` on lanes of integers; of a GEMM's first pass ``x`` are accumulators."""
    over = np.zeros(x.shape, bool)

    def word(exact: Array) -> Array:
        nonlocal over
        over |= fixed.beyond(exact)
        return fixed.enter(exact)

    def operand(name: str, own: Array) -> Array:
        kind = Operand(instruction[name])
        return own if kind == Operand.SELF else _operand(state, instruction, kind, own.shape)

    x = word(fixed.multiply(x, operand("multiply", x)) if instruction["multiply"] else x)
    if instruction["add"]:
        x = word(fixed.add(x, operand("add", x), bool(instruction["subtract"])))
    if instruction["scale"]:
        x = word(fixed.multiply(x, operand("scale", x)))
    if instruction["relu"]:
        x = np.maximum(x, 0.0)
    one = state.row_result and instruction["destination"] == Destination.MEMORY
    state.saturations += int(np.count_nonzero(over[:, :1] if one else over))
    if instruction["reduce"]:
        taken = np.abs(x) if instruction["magnitude"] else x
        found = [fixed.post(Post(instruction["post"]), total, state.inverse_n, state.epsilon)
                 for total in fixed.reduced(taken, instruction["reduce"] == Reduce.MAX)]
        state.registers[instruction["reduce_to"]] = np.array([value for value, _ in found])
        state.saturations += sum(saturated for _, saturated in found)
    return x
