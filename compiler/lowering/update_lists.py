"""Epilogues of an optimiser's update of one array, and the commands that make one of them.

Gradient g, moments m and v, masters hi + lo, all BF16; ``room`` is memory for one more such tensor.
Every arrow of these lists is one rounding to BF16, in the order of ``compiler.training.update``.
Results that take the place of an operand are written in place.
"""

from dataclasses import dataclass

from compiler.lowering.backward_lists import clip_factor, row_squares
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Fields, Instruction
from compiler.program.scalar import Scalar
from compiler.program.tensor import Tensor
from hdl.spec.commands import Destination, Function, Operand

__all__ = ["State", "adamw", "add_to_pair", "clip", "decay", "momentum", "sgd"]

Factor = float | Scalar
_KEEP: Fields = {"destination": Destination.BUFFER}
_STORE: Fields = {"destination": Destination.MEMORY}


@dataclass(frozen=True)
class State:
    """The tensors of one array's update, all of one shape. ``moved``: where hi goes; until the
    next update both are there. ``second`` is AdamW's alone, ``first`` momentum's too."""

    gradient: Tensor
    high: Tensor
    low: Tensor
    moved: Tensor
    room: Tensor
    first: Tensor | None = None
    second: Tensor | None = None


def clip(builder: ProgramBuilder, gradient: Tensor, squares: Tensor, limit: float) -> None:
    """gradient ← gradient · min(1, ``limit`` / its norm).

    ``squares``: 1 × rows of the gradient, BF16, room for the rows' squares and then for the factor
    in each item. The gradient must not have more columns than rows, and the row must stay on chip.
    """
    if gradient.columns > gradient.rows or squares.shape != (1, gradient.rows):
        raise ValueError(f"a gradient that is clipped must have at least as many rows as columns, "
                         f"and squares 1×{gradient.rows}, not {gradient.rows}×{gradient.columns} "
                         f"and {squares.rows}×{squares.columns}")
    builder.vector(gradient, squares, row_squares(), out_transposed=True)
    builder.vector(squares, squares, clip_factor(limit))
    factor = squares.block(0, 0, 1, gradient.columns)
    builder.vector(gradient, gradient, Epilogue(bias=factor, instructions=(
        Instruction(multiply=Operand.Y, **_STORE),)))


def sgd(builder: ProgramBuilder, state: State, step: Factor) -> None:
    """room ← g · ``step`` + lo. ``step``: −η, as in all rules here."""
    builder.vector(state.gradient, state.room, Epilogue(step, state.low))


def momentum(builder: ProgramBuilder, state: State, step: Factor, share: float) -> None:
    """m ← m · ``share`` + g; room ← m · ``step`` + lo."""
    builder.vector(state.first, state.first, Epilogue(share, state.gradient))
    builder.vector(state.first, state.room, Epilogue(step, state.low))


def adamw(builder: ProgramBuilder, state: State, step: Factor, beta1: float, beta2: float,
          eps: float, clip: Factor | None = None) -> None:
    """g times ``clip`` where it is given, then m ← (g − m) · (1 − β₁) + m; v ← (g² − v) ·
    (1 − β₂) + v; room ← (1/√(v + ε²) · m) · ``step`` + lo. ``step`` has the corrections of the
    start in it."""
    less: Fields = {"add": Operand.Y, "subtract": True, "scale": Operand.IMM0, **_KEEP}
    more = Instruction(add=Operand.Y, **_STORE)
    clipped: Fields = {} if clip is None else {"multiply": Operand.IMM1}
    first = () if clip is None else (Instruction(**clipped, **_KEEP),)
    builder.vector(state.gradient, state.first, Epilogue(
        1 - beta1, state.first, imm1=clip, instructions=(Instruction(**clipped, **less), more)))
    builder.vector(state.gradient, state.second, Epilogue(
        1 - beta2, state.second, imm1=clip, instructions=(
            *first, Instruction(multiply=Operand.SELF, **less), more)))
    builder.vector(state.second, state.room, Epilogue(
        eps ** 2, state.first, imm1=step, y1=state.low, instructions=(
            Instruction(add=Operand.IMM0, function=Function.INVERSE_SQRT, scale=Operand.Y, **_KEEP),
            Instruction(multiply=Operand.IMM1, add=Operand.Y, y=1, **_STORE))))


def decay(builder: ProgramBuilder, state: State, step: Factor) -> None:
    """room ← hi · ``step`` + room: weights decay apart from the gradient; ``step`` is −η · λ."""
    builder.vector(state.high, state.room, Epilogue(step, state.room))


def add_to_pair(builder: ProgramBuilder, state: State) -> None:
    """moved ← hi + room; lo ← room − (moved − hi), what hi could not take."""
    builder.vector(state.room, state.moved, Epilogue(bias=state.high))
    builder.vector(state.moved, state.low, Epilogue(
        -1.0, state.high, y1=state.room, instructions=(
            Instruction(add=Operand.Y, subtract=True, **_KEEP),
            Instruction(add=Operand.Y, y=1, subtract=True, scale=Operand.IMM0, **_STORE))))
