"""Steps as the epilogue of one command, or not: what the lanes can do in one list."""

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

from compiler.checkpoints.description import Activation
from compiler.lowering import integer_lists, lists
from compiler.lowering.lane_ops import (
    Add,
    Apply,
    DeferredSoftmax,
    Factor,
    Hide,
    LaneOp,
    Listed,
    Mean,
    MultiplyAdd,
    MultiplyRows,
    Normalise,
    Scale,
    Softmax,
    UnitLength,
)
from compiler.lowering.polynomial_ops import DeferredPolynomial, Polynomial
from compiler.program.epilogue import STORE, Epilogue
from compiler.program.instruction import Instruction
from compiler.program.tensor import Tensor
from hdl.spec.commands import INSTRUCTIONS, Destination, Function, Operand

__all__ = ["ACTIVATIONS", "epilogue_of", "fits_one_list"]

# The tanh form of GELU differs from GELU by at most 4.8e-4, a quarter of the error of its table.
_FUNCTIONS: dict[Activation, Function] = {
    name: Function[name.upper().removesuffix("_TANH")] for name in get_args(Activation)
    if not name.startswith("relu")}
ACTIVATIONS = (*_FUNCTIONS, "relu", "relu_squared")
_FAR = 40
"""A mask of 8 bits is added to scores × 2^-40, and what that gives is × 2^40, which is exact: no
product of two numbers of a format and no sum of them is nearer to 0 than 2^-48, or beyond 2^56,
and e to the power of -2^46 is 0 in every mode."""
_IMMEDIATES = (Operand.IMM0, Operand.IMM1)
# The stages of an instruction in the order in which a word passes them.
_STAGES = ("multiply", "add", "function", "scale", "relu")


def fits_one_list(lane_ops: Sequence[LaneOp]) -> bool:
    """Whether one command can do ``lane_ops``, given operands from memory where they take some."""
    if not lane_ops:
        return True
    *before, last = lane_ops
    if any(lane_op.ends for lane_op in before):
        return type(last) is Factor and len(before) == 1 and _takes_factor(before[0])
    if isinstance(last, (Softmax, DeferredSoftmax)):
        kinds = [Add if isinstance(lane_op, Hide) else type(lane_op) for lane_op in before]
        return kinds in ([], [Scale], [Add], [Scale, Add])
    if last.ends:
        return not before
    return _instructions(lane_ops) is not None


def epilogue_of(lane_ops: Sequence[tuple[LaneOp, tuple[Tensor, ...]]], scales: bool = False
                ) -> Epilogue:
    """The epilogue that does ``lane_ops``, each with its operands, in a build with ``scales`` or
    without; ``ValueError`` where there is none."""
    if not lane_ops:
        return STORE
    last, operands = lane_ops[-1]
    kinds = [lane_op for lane_op, _ in lane_ops]
    if not fits_one_list(kinds):
        raise ValueError(f"one command cannot do {', '.join(map(str, kinds))}")
    if isinstance(kinds[0], Normalise):
        return _norm(kinds[0], lane_ops[0][1], scales,
                     last.factor if isinstance(last, Factor) else None)
    if isinstance(last, Polynomial):
        own, found = (last.degree, last.bias[0], last.delta[0]), [None, *operands]
        if isinstance(last, DeferredPolynomial) and last.unit is not None:
            return integer_lists.deferred_polynomial_of_words(*own, *found[-3:])
        if isinstance(last, DeferredPolynomial):
            return integer_lists.deferred_polynomial(*own, *found[-2:])
        return integer_lists.polynomial(*own, found[-1], scales)
    if isinstance(last, Listed):
        return last.make(operands)
    if isinstance(last, UnitLength):
        return lists.l2_norm(last.eps)
    if isinstance(last, Mean):
        return lists.row_mean(last.count, *operands)
    if isinstance(last, DeferredSoftmax):
        return lists.deferred_softmax(
            next((lane_op.factor for lane_op in kinds if isinstance(lane_op, Scale)), None),
            *operands, mask=next((own[0] for _, own in lane_ops[:-1] if own), None))
    factors = [lane_op.factor for lane_op in kinds if isinstance(lane_op, Scale)]
    addends = [tensor for _, tensors in lane_ops for tensor in tensors]
    columns = [isinstance(lane_op, MultiplyRows) for lane_op in kinds if lane_op.reads]
    first, second = [*factors, None, None][:2]
    y0, y1 = [*addends, None, None][:2]
    y0_column, y1_column = [*columns, False, False][:2]
    if any(isinstance(lane_op, Hide) and tensors[0].item_bytes == 1
           for lane_op, tensors in lane_ops):
        if len(factors) > 1 or any(not isinstance(lane_op, (Scale, Hide, Softmax))
                                  for lane_op in kinds):
            raise ValueError(f"a mask of 8 bits goes with a scale and a softmax alone, not with "
                             f"{', '.join(map(str, kinds))}")
        return Epilogue(scale=(1.0 if first is None else first) * 2.0 ** -_FAR, bias=y0,
                        imm1=2.0 ** _FAR, softmax=isinstance(last, Softmax))
    if isinstance(last, Softmax):
        return Epilogue(scale=first, bias=y0, softmax=True)
    return Epilogue(scale=first, imm1=second, bias=y0, y1=y1, y0_column=y0_column,
                    y1_column=y1_column, instructions=_instructions(kinds))


def _norm(norm: Normalise, operands: Sequence[Tensor], scales: bool, factor: float | None
          ) -> Epilogue:
    """``factor``: of what the norm gives."""
    if norm.affine:
        return lists.affine(*operands)
    if norm.shift is None:
        return lists.rms_norm(operands[0], norm.eps)
    gain, shift = operands
    if norm.l1:
        return integer_lists.l1_norm(gain, shift, norm.eps, scales, factor, norm.twice)
    return lists.layer_norm(gain, shift, norm.eps, factor, norm.twice)


def _takes_factor(lane_op: LaneOp) -> bool:
    """Whether the last instruction of a list that ends has a stage to multiply by a factor."""
    return isinstance(lane_op, Normalise) and lane_op.shift is not None and not lane_op.affine


def _instructions(lane_ops: Sequence[LaneOp]) -> tuple[Instruction, ...] | None:
    """The fewest instructions that do ``lane_ops`` in order; ``None`` where one list cannot.

    A lane op takes the first of its stages that comes after all that are taken; where there is
    none, or its operand would be the instruction's second from memory, the block is kept on chip
    and the next instruction goes on. A list has two immediates and two operands from memory.
    """
    done: list[Instruction] = []
    current, taken, applied = Instruction(), -1, False
    immediates, operands = iter(_IMMEDIATES), iter((0, 1))
    for lane_op in lane_ops:
        reads = bool(lane_op.reads)
        stages = _stages(lane_op, applied)
        applied = applied or isinstance(lane_op, Apply)
        stage = next((stage for stage in stages if _STAGES.index(stage) > taken), None)
        if stage is None or (reads and current.uses(Operand.Y)):
            done.append(replace(current, destination=Destination.BUFFER))
            current, stage = Instruction(), stages[0]
        taken = _STAGES.index(stage)
        if isinstance(lane_op, Apply):
            applies = stage == "relu" or _FUNCTIONS[lane_op.activation]
            current = replace(current, **{stage: applies})
            if lane_op.activation == "relu_squared":
                done.append(replace(current, destination=Destination.BUFFER))
                current, taken = Instruction(multiply=Operand.SELF), _STAGES.index("multiply")
            continue
        number = next(operands if reads else immediates, None)
        if number is None:
            return None
        current = (replace(current, y=number, **{stage: Operand.Y}) if reads
                   else replace(current, **{stage: number}))
        if isinstance(lane_op, MultiplyAdd):
            done.append(replace(current, destination=Destination.BUFFER))
            current = Instruction(add=Operand.Y, y=number, y_second=True)
            taken = _STAGES.index("add")
    done.append(replace(current, destination=Destination.MEMORY))
    return tuple(done) if len(done) <= INSTRUCTIONS else None


def _stages(lane_op: LaneOp, applied: bool) -> tuple[str, ...]:
    """The stages that can do ``lane_op``; ``applied``: an activation has come before it."""
    if isinstance(lane_op, Apply):
        return ("relu",) if lane_op.activation.startswith("relu") else ("function",)
    if isinstance(lane_op, Add):
        return ("add",)
    # What follows a function meets its factor in the stage after the functions, in any list.
    return ("scale",) if applied else ("multiply", "scale")
