"""Epilogues of several instructions: norms, means, products."""

from typing import Any

from compiler.checkpoints.scales import LARGEST
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Fields, Instruction
from compiler.program.tensor import Tensor
from hdl.spec.commands import Destination, Function, Operand, Post, Reduce

__all__ = ["CENTRED", "affine", "codes_by_row", "deferred_softmax", "deferred_softmax_of_codes",
           "l2_norm", "largest_magnitudes", "layer_norm", "linear_codes", "linear_magnitudes",
           "means", "product", "rms_norm", "row_mean", "sum_norm"]


CENTRED: Fields = {"add": Operand.R0, "subtract": True}
"""Behind ``means``: what the mean is taken from."""


def means(twice: bool = False, **first: Any) -> tuple[Instruction, ...]:
    """The mean of each row into R0; ``first``: other fields of that pass. ``twice``: the row
    without it is kept, and its own mean goes into R0: what rounding the mean has left in it."""
    mean: Fields = {"reduce": Reduce.SUM, "post": Post.MEAN}
    again = Instruction(**CENTRED, **mean, destination=Destination.BUFFER)
    return (Instruction(**first, **mean), *((again,) if twice else ()))


def layer_norm(gamma: Tensor, beta: Tensor, eps: float, factor: float | None = None,
               twice: bool = False) -> Epilogue:
    """Normalises rows: (x − μ) · gamma · r + beta, r = 1/√(σ² + eps); × ``factor`` at last.
    ``twice``: as for ``means``.

    Mean into R0; squares of x − R0, r into R1; (x − R0) · gamma, kept; · R1 + beta, stored. The
    block stays on chip, for one instruction takes one of gamma and beta.
    """
    last = Operand.NONE if factor is None else Operand.IMM1
    return Epilogue(bias=gamma, y1=beta, imm1=factor, inverse_n=1 / gamma.columns, epsilon=eps,
                    instructions=(
        *means(twice),
        Instruction(**CENTRED, scale=Operand.SELF, reduce=Reduce.SUM, reduce_to=1,
                    post=Post.INVERSE_SQRT),
        Instruction(**CENTRED, scale=Operand.Y, destination=Destination.BUFFER),
        Instruction(multiply=Operand.R1, add=Operand.Y, y=1, scale=last,
                    destination=Destination.MEMORY)))


def rms_norm(gamma: Tensor, eps: float) -> Epilogue:
    """Divides rows by their root mean square: x · r · gamma; any length."""
    return Epilogue(bias=gamma, inverse_n=1 / gamma.columns, epsilon=eps, instructions=(
        Instruction(multiply=Operand.SELF, reduce=Reduce.SUM, reduce_to=1, post=Post.INVERSE_SQRT),
        Instruction(multiply=Operand.R1, scale=Operand.Y, destination=Destination.MEMORY)))


def l2_norm(eps: float) -> Epilogue:
    """Divides rows by their length: x / √(Σx² + eps); any length."""
    return Epilogue(inverse_n=1.0, epsilon=eps, instructions=(
        Instruction(multiply=Operand.SELF, reduce=Reduce.SUM, post=Post.INVERSE_SQRT),
        Instruction(multiply=Operand.R0, destination=Destination.MEMORY)))


def row_mean(count: int, weights: Tensor | None = None) -> Epilogue:
    """Leaves the sum of each row over ``count``, one item per row (``row_result``): R0, taken to
    memory by x · 0 + R0. ``weights``: what each item counts, in a row for all."""
    weighed = Operand.NONE if weights is None else Operand.Y
    return Epilogue(scale=0.0, bias=weights, inverse_n=1 / count, row_result=True, instructions=(
        Instruction(multiply=weighed, reduce=Reduce.SUM, post=Post.MEAN),
        Instruction(multiply=Operand.IMM0, add=Operand.R0, destination=Destination.MEMORY)))


def affine(gain: Tensor, shift: Tensor | None = None) -> Epilogue:
    """Multiplies by ``gain`` and adds ``shift``, a row each."""
    if shift is None:
        return product(gain)
    return Epilogue(bias=gain, y1=shift, instructions=(
        Instruction(multiply=Operand.Y, destination=Destination.BUFFER),
        Instruction(add=Operand.Y, y=1, destination=Destination.MEMORY)))


def product(y: Tensor) -> Epilogue:
    """Multiplies by ``y``, item by item, or each row by the one row of it."""
    return Epilogue(bias=y, instructions=(
        Instruction(multiply=Operand.Y, destination=Destination.MEMORY),))


def sum_norm(y: Tensor, pair: Tensor, eps: float, l1: bool = False, twice: bool = False
             ) -> Epilogue:
    """``layer_norm`` of x + ``y``, or the norm by magnitudes; ``pair``: gamma and beta, rows of one
    tensor."""
    size: Fields = {"magnitude": True, "post": Post.RECIPROCAL_MEAN} if l1 else {
        "scale": Operand.SELF, "post": Post.INVERSE_SQRT}
    return Epilogue(bias=y, y1=pair, inverse_n=1 / pair.columns, epsilon=eps, instructions=(
        *means(twice, add=Operand.Y, destination=Destination.BUFFER),
        Instruction(**CENTRED, **size, reduce=Reduce.SUM, reduce_to=1),
        Instruction(**CENTRED, scale=Operand.Y, y=1, destination=Destination.BUFFER),
        Instruction(multiply=Operand.R1, add=Operand.Y, y=1, y_second=True,
                    destination=Destination.MEMORY)))


def largest_magnitudes(inverses: Tensor | None = None) -> Epilogue:
    """Leaves the largest magnitude of each row, one item per row (``row_result``); ``inverses``
    takes 1 over them."""
    largest: Fields = {"reduce": Reduce.MAX, "magnitude": True}
    left = Instruction(multiply=Operand.IMM0, add=Operand.R0, destination=Destination.MEMORY)
    if inverses is None:
        return Epilogue(scale=0.0, row_result=True, instructions=(Instruction(**largest), left))
    return Epilogue(scale=0.0, row_result=True, items=inverses, instructions=(
        Instruction(**largest), Instruction(**largest, reduce_to=1, post=Post.INVERSE), left,
        Instruction(add=Operand.R1, rows=True, destination=Destination.SECOND)))


def codes_by_row(largest: float, magnitudes: Tensor | None = None) -> Epilogue:
    """Divides rows by their largest magnitude, × ``largest``; a row of zeros stays one.
    ``magnitudes`` takes these, one item per row; rows then stay on chip."""
    inverse: Fields = {"reduce": Reduce.MAX, "reduce_to": 1, "post": Post.INVERSE}
    store = Instruction(multiply=Operand.R1, scale=Operand.IMM1, destination=Destination.MEMORY)
    if magnitudes is None:
        return Epilogue(imm1=largest, instructions=(Instruction(**inverse, magnitude=True), store))
    return Epilogue(imm1=largest, items=magnitudes, instructions=(
        Instruction(reduce=Reduce.MAX, magnitude=True),
        Instruction(add=Operand.R0, rows=True, **inverse, destination=Destination.SECOND), store))


# x × an item for each row, × the first row of a pair; then + the second, and the row's magnitude.
_SCALED = (Instruction(multiply=Operand.Y, destination=Destination.BUFFER),
           Instruction(multiply=Operand.Y, y=1, destination=Destination.BUFFER))
_SHIFTED: Fields = {"add": Operand.Y, "y": 1, "y_second": True, "reduce": Reduce.MAX,
                    "magnitude": True}


def linear_codes(largest: float, rows: Tensor, pair: Tensor, magnitudes: Tensor) -> Epilogue:
    """x × ``rows``, an item for each row, × the first row of ``pair``, + the second, as
    ``codes_by_row``."""
    return Epilogue(bias=rows, y0_column=True, y1=pair, imm1=largest, items=magnitudes,
                    instructions=(
        *_SCALED, Instruction(**_SHIFTED, destination=Destination.BUFFER),
        Instruction(add=Operand.R0, rows=True, reduce=Reduce.MAX, reduce_to=1, post=Post.INVERSE,
                    destination=Destination.SECOND),
        Instruction(multiply=Operand.R1, scale=Operand.IMM1, destination=Destination.MEMORY)))


def linear_magnitudes(rows: Tensor, pair: Tensor, magnitudes: Tensor) -> Epilogue:
    """x × ``rows`` × and + ``pair`` as ``linear_codes``, stored as it is; ``magnitudes`` takes the
    largest magnitude of each row."""
    return Epilogue(bias=rows, y0_column=True, y1=pair, items=magnitudes, instructions=(
        *_SCALED, Instruction(**_SHIFTED, destination=Destination.MEMORY),
        Instruction(add=Operand.R0, rows=True, destination=Destination.SECOND)))


def deferred_softmax(scale: float | None, divisors: Tensor, *, mask: Tensor | None = None,
                     largest: float = LARGEST) -> Epilogue:
    """e^(z − max z) × ``largest`` of each row of z = x · ``scale`` + ``mask``, and 1 over the sum
    of that into ``divisors``, one item per row: what a product with it is still to be multiplied
    by. A GEMM without mask finds the largest z as it drains. A row that is masked whole gives
    zeros."""
    return Epilogue(scale=scale, imm1=largest, bias=mask, items=divisors, softmax=True)


def deferred_softmax_of_codes(scale: float, rows: Tensor, columns: Tensor, divisors: Tensor,
                              largest: float = LARGEST) -> Epilogue:
    """``deferred_softmax`` of z = x × ``rows``, an item for each row, × ``columns``, one for each
    column, × ``scale``."""
    return Epilogue(
        scale=scale, imm1=largest, bias=rows, y0_column=True, y1=columns, items=divisors,
        instructions=(
            Instruction(multiply=Operand.Y, destination=Destination.BUFFER),
            Instruction(multiply=Operand.Y, y=1, scale=Operand.IMM0, reduce=Reduce.MAX,
                        destination=Destination.BUFFER),
            Instruction(add=Operand.R0, subtract=True, function=Function.EXP,
                        scale=Operand.IMM1, reduce=Reduce.SUM, reduce_to=1,
                        post=Post.RECIPROCAL, destination=Destination.MEMORY),
            Instruction(add=Operand.R1, rows=True, destination=Destination.SECOND)))
