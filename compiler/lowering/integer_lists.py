"""Epilogues of the Integer Transformer: polynomial attention, norms by magnitudes.

A build of ``--functions scales`` reduces magnitudes and takes inverses by the table. Others compose
both of what every build of all functions has: a mean of magnitudes is twice that of what is above
the mean, and 1/t is 1/√t twice, which is as near to it in every softmax mode.
"""

from dataclasses import replace

from compiler.checkpoints.scales import LARGEST
from compiler.lowering.lists import CENTRED, means
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Fields, Instruction
from compiler.program.tensor import Tensor
from hdl.spec.commands import Destination, Operand, Post, Reduce

__all__ = ["deferred_polynomial", "deferred_polynomial_of_codes", "deferred_polynomial_of_words",
           "l1_norm", "polynomial"]

_KEPT: Fields = {"destination": Destination.BUFFER}
_STORED: Fields = {"destination": Destination.MEMORY}


def polynomial(degree: int, bias: float, delta: float, mask: Tensor | None, scales: bool
               ) -> Epilogue:
    """([ReLU(x + ``bias``)] ^ ``degree`` + ``delta``) of each row over its sum. ``mask``: 1, and 0
    where what passes is hidden; a row that is hidden whole gives zeros. ``scales``: of a build that
    has them. A row must stay on chip."""
    hide: Fields = {} if mask is None else {"scale": Operand.Y}
    total: Fields = {"reduce": Reduce.SUM,
                     "post": Post.INVERSE if scales else Post.INVERSE_SQRT}
    last: Fields = {"multiply": Operand.R0} if scales else {
        "multiply": Operand.R0, "scale": Operand.R0}
    return Epilogue(scale=bias, imm1=delta, bias=mask, inverse_n=0.0 if scales else 1.0,
                    instructions=(*_powers(degree, {}, {**hide, **total, **_KEPT}),
                                  Instruction(**last, **_STORED)))


def _powers(degree: int, before: Fields, after: Fields) -> tuple[Instruction, ...]:
    """Up to [ReLU(x + IMM0)] ^ ``degree`` + IMM1, with ``before`` in the first and ``after`` in the
    last instruction."""
    square: Fields = {"multiply": Operand.SELF}
    between = [Instruction(**square, **_KEPT)] if degree == 4 else []
    return (Instruction(**before, add=Operand.IMM0, relu=True, **_KEPT), *between,
            Instruction(**(square if degree > 1 else {}), add=Operand.IMM1, **after))


_LARGEST: Fields = {"reduce": Reduce.MAX, "post": Post.RECIPROCAL_MEAN, **_KEPT}
_DEFERRED = (
    Instruction(multiply=Operand.R0, reduce=Reduce.SUM, reduce_to=1, post=Post.INVERSE, **_STORED),
    Instruction(add=Operand.R1, rows=True, destination=Destination.SECOND))
"""Behind powers whose largest R0 has the inverse of."""


def deferred_polynomial(degree: int, bias: float, delta: float, mask: Tensor | None,
                        divisors: Tensor, largest: float = LARGEST) -> Epilogue:
    """e = ([ReLU(x + ``bias``)] ^ ``degree`` + ``delta``) × ``mask``: each row × ``largest`` over
    its largest, and 1 over the sum of that into ``divisors``, one item per row. Builds with
    scales."""
    hide: Fields = {} if mask is None else {"scale": Operand.Y}
    return Epilogue(scale=bias, imm1=delta, bias=mask, items=divisors, inverse_n=1 / largest,
                    instructions=(*_powers(degree, {}, {**hide, **_LARGEST}), *_DEFERRED))


def deferred_polynomial_of_codes(degree: int, bias: float, delta: float, rows: Tensor,
                                 columns: Tensor, divisors: Tensor, largest: float = LARGEST
                                 ) -> Epilogue:
    """``deferred_polynomial`` of x × ``rows``, an item for each row, × ``columns``, one for each
    column."""
    return Epilogue(
        scale=bias, imm1=delta, bias=rows, y0_column=True, y1=columns, items=divisors,
        inverse_n=1 / largest, instructions=(
            Instruction(multiply=Operand.Y, **_KEPT),
            *_powers(degree, {"multiply": Operand.Y, "y": 1}, _LARGEST), *_DEFERRED))


def deferred_polynomial_of_words(degree: int, bias: float, delta: float, mask: Tensor | None,
                                 unit: Tensor, divisors: Tensor, largest: float = LARGEST
                                 ) -> Epilogue:
    """``deferred_polynomial`` of x × ``unit``, one item for all, on lanes of integers. What
    ``divisors`` get is × ``largest``, so that a word holds all of it."""
    plain = deferred_polynomial(degree, bias, delta, mask, divisors, largest)
    first, *between, total, items = plain.instructions or ()
    return replace(plain, y1=unit, y1_column=True, instructions=(
        replace(first, multiply=Operand.Y, y=1), *between,
        replace(total, post=Post.RECIPROCAL_MEAN), items))


def l1_norm(gamma: Tensor, beta: Tensor, eps: float, scales: bool, factor: float | None = None,
            twice: bool = False) -> Epilogue:
    """Normalises rows: (x − μ) · gamma · r + beta, r = 1/(mean of abs(x − μ) + eps); × ``factor``
    at last. ``scales``: of a build that has them. ``twice``: as for ``lists.means``."""
    size: Fields = {"reduce": Reduce.SUM, "reduce_to": 1}
    weighed = Instruction(**CENTRED, scale=Operand.Y, **_KEPT)
    mean = means(twice)
    stored: Fields = {**_STORED, "add": Operand.Y, "y": 1,
                      "scale": Operand.NONE if factor is None else Operand.IMM1}
    if scales:
        steps = (*mean, Instruction(**CENTRED, **size, magnitude=True, post=Post.RECIPROCAL_MEAN),
                 weighed, Instruction(multiply=Operand.R1, **stored))
    else:
        steps = (*mean, Instruction(**CENTRED, scale=Operand.IMM0, relu=True, **size,
                                    post=Post.INVERSE_SQRT),
                 weighed, Instruction(multiply=Operand.R1, scale=Operand.R1, **_KEPT),
                 Instruction(**stored))
    return Epilogue(scale=None if scales else 2.0, imm1=factor, bias=gamma, y1=beta,
                    inverse_n=1 / gamma.columns, epsilon=eps, instructions=steps)
