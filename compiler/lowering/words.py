"""What lanes of integers can do: how far their words go, and the operations that they lack."""

from collections.abc import Iterator, Sequence

from compiler.checkpoints.scales import LARGEST
from compiler.lowering.lane_ops import (
    Apply,
    DeferredSoftmax,
    LaneOp,
    Normalise,
    Softmax,
    UnitLength,
)
from compiler.lowering.ops import OpList, Output
from compiler.lowering.polynomial_ops import Polynomial
from hdl.spec.formats import FIXED32

__all__ = ["check_linear", "word_shift"]

_DEGREES = (1, 2)
_FARTHEST = (LARGEST + 1) ** 2
_ROOM = FIXED32.most / 2 ** FIXED32.fraction_bits


def word_shift(items: int, degree: int, bias: Sequence[float], delta: Sequence[float]) -> int:
    """The least n for which no polynomial of a sum of ``items`` products of codes × 2^-n is beyond
    a word; ``bias`` and ``delta`` are of the sum itself."""
    reach, shift = items * _FARTHEST, 0
    while any(((reach + max(own, 0)) / 2 ** shift) ** degree + least / 2 ** (shift * degree)
              > _ROOM for own, least in zip(bias, delta, strict=True)):
        shift += 1
    return shift


def check_linear(listed: OpList) -> None:
    """``ValueError`` in one line that names what such lanes lack of an op, and where."""
    for op in listed.ops:
        for lane_op in () if isinstance(op, Output) else op.then:
            for lacking in _lacking(lane_op):
                raise ValueError(f"{op.out.value.name} takes {lacking}, which lanes of lane fixed "
                                 "do not have")


def _lacking(lane_op: LaneOp) -> Iterator[str]:
    if isinstance(lane_op, (Softmax, DeferredSoftmax)):
        yield "a softmax"
    elif isinstance(lane_op, UnitLength):
        yield "lengths of rows"
    elif isinstance(lane_op, Normalise) and not (lane_op.affine or lane_op.l1):
        yield "a norm of squares"
    elif isinstance(lane_op, Apply) and not lane_op.activation.startswith("relu"):
        yield lane_op.activation
    elif isinstance(lane_op, Polynomial) and lane_op.degree not in _DEGREES:
        yield f"a polynomial of degree {lane_op.degree}"
