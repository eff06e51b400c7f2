"""Operations of inference on tensors in memory, each as one or a few vector commands.

Every function emits commands by ``builder`` and rounds where these store: to BF16 in the lanes, to
the encoding of ``out`` in memory. Misuse is the builder's ``ValueError``.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from compiler.lowering import lists
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from compiler.program.tensor import Tensor
from hdl.spec.commands import Destination, Operand
from hdl.spec.formats import BFLOAT16
from sim.model.rounding import largest

__all__ = ["add", "causal_mask", "column_means", "copy", "heads_as_rows", "l2_normalise", "mask",
           "multiply", "padding_mask", "rotary_halves", "rotary_products", "rotary_tables",
           "rotate", "row_means", "transpose"]


def copy(builder: ProgramBuilder, x: Tensor, out: Tensor) -> None:
    """out = x, in the encoding of ``out``."""
    builder.vector(x, out)


def transpose(builder: ProgramBuilder, x: Tensor, out: Tensor) -> None:
    """out = xᵀ."""
    builder.vector(x, out, out_transposed=True)


def add(builder: ProgramBuilder, x: Tensor, y: Tensor, out: Tensor) -> None:
    """out = x + y, as for a residual; ``y`` of x's shape, or one row for all."""
    builder.vector(x, out, Epilogue(bias=y))


def multiply(builder: ProgramBuilder, x: Tensor, y: Tensor, out: Tensor) -> None:
    """out = x ⊙ y, as for a gate; ``y`` of x's shape, or one row for all."""
    builder.vector(x, out, lists.product(y))


# Reductions

def row_means(builder: ProgramBuilder, x: Tensor, out: Tensor) -> None:
    """out = the mean of each row of x, M×1 or 1×M; a row must stay on chip."""
    builder.vector(x, out, lists.row_mean(x.columns), out_transposed=out.rows == 1 != x.rows)


def column_means(builder: ProgramBuilder, x: Tensor, out: Tensor) -> None:
    """out = the mean of the rows of x, 1×N, as of a sentence's tokens; a column must stay on chip.

    x is transposed into a BF16 tensor first.
    """
    transposed = builder.empty(x.columns, x.rows, "bf16", name=f"{x.name} transposed")
    transpose(builder, x, transposed)
    row_means(builder, transposed, out)


def l2_normalise(builder: ProgramBuilder, x: Tensor, out: Tensor, eps: float = 1e-24) -> None:
    """out = each row of x divided by √(Σx² + eps)."""
    builder.vector(x, out, lists.l2_norm(eps))


# Masks, to be added to scores before their softmax

def mask(builder: ProgramBuilder, hidden: np.ndarray) -> Tensor:
    """BF16: the most negative finite value where ``hidden``, else 0. A row that is hidden whole
    gets probabilities of 0."""
    return builder.constant(np.where(hidden, -largest(BFLOAT16), 0.0), "bf16")


def causal_mask(builder: ProgramBuilder, rows: int, columns: int) -> Tensor:
    """Row i sees the keys up to its own, the last ``rows`` of ``columns`` being the rows' own."""
    return mask(builder, np.arange(columns) > np.arange(columns - rows, columns)[:, None])


def padding_mask(builder: ProgramBuilder, valid: Sequence[bool]) -> Tensor:
    """One row for all: keys that are not ``valid`` are hidden."""
    return mask(builder, ~np.asarray(valid, bool)[None])


# Rotary embedding. With c and s of a row's position, and halves x₁ x₂ of each head:
#     t  = x ⊙ [s, −s]           one command over whole heads, BF16
#     x₁ = x₁ ⊙ c + t₂           one command per half, the product kept on chip
#     x₂ = x₂ ⊙ c + t₁

def heads_as_rows(tensor: Tensor, size: int) -> Tensor:
    """S × (heads · ``size``) as (S · heads) × ``size``: the same bytes; rows must be dense."""
    heads, rest = divmod(tensor.columns, size)
    if rest or tensor.stride != tensor.row_bytes:
        raise ValueError(f"{tensor.name} must have dense rows of heads of {size}, not "
                         f"{tensor.columns} columns with stride {tensor.stride}")
    return replace(tensor, rows=tensor.rows * heads, columns=size, stride=size * tensor.item_bytes)


def rotary_tables(positions: np.ndarray, size: int, heads: int, base: float | np.ndarray
                  ) -> tuple[np.ndarray, np.ndarray]:
    """c, (S · heads) × size/2, and [s, −s], (S · heads) × size, of each row's position.

    ``base``: of the rates of all pairs, or these themselves.
    """
    rate = base if isinstance(base, np.ndarray) else base ** (-2.0 * np.arange(size // 2) / size)
    angles = np.repeat(np.asarray(positions, np.float64)[:, None] * rate, heads, axis=0)
    return np.cos(angles), np.concatenate([np.sin(angles), -np.sin(angles)], axis=1)


def rotary_products(builder: ProgramBuilder, x: Tensor, sines: Tensor, crossed: Tensor) -> None:
    """The first command of ``rotate``: crossed = x ⊙ [s, −s], heads as rows."""
    builder.vector(x, crossed, lists.product(sines))


def rotary_halves(builder: ProgramBuilder, x: Tensor, cosines: Tensor, crossed: Tensor,
                  out: Tensor) -> None:
    """The other two: each half of out = x ⊙ c + the other half of ``crossed``."""
    half = x.columns // 2

    def columns(tensor: Tensor, first: int) -> Tensor:
        return tensor.block(0, first, tensor.rows, half)

    for own, other in ((0, half), (half, 0)):
        builder.vector(
            columns(x, own), columns(out, own), Epilogue(
                bias=cosines, y1=columns(crossed, other), instructions=(
                    Instruction(multiply=Operand.Y, destination=Destination.BUFFER),
                    Instruction(add=Operand.Y, y=1, destination=Destination.MEMORY))))


def rotate(builder: ProgramBuilder, x: Tensor, cosines: Tensor, sines: Tensor, out: Tensor
           ) -> None:
    """out = x, S × (heads · size), with each head rotated by its row's position.

    ``cosines``, ``sines``: BF16 constants of ``rotary_tables``. x ⊙ [s, −s] is kept as BF16.
    Pairs that lie interleaved in a model are brought to the halves by the order of the rows of
    Wq and Wk.
    """
    size = sines.columns
    crossed = builder.empty(x.rows, x.columns, "bf16", name=f"{x.name} crossed")
    x, out, between = (heads_as_rows(tensor, size) for tensor in (x, out, crossed))
    rotary_products(builder, x, sines, between)
    rotary_halves(builder, x, cosines, between, out)
