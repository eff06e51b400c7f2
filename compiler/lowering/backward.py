"""Operations of the backward pass on tensors in memory, each as one or a few commands.

As ``operations``: emitted by ``builder``, rounded where they store. ``factor`` brings one gradient
tensor's scale to that of the next. What is a single command with a list is in ``backward_lists``.
"""

from collections.abc import Sequence

import numpy as np

from compiler.lowering import operations
from compiler.lowering.backward_lists import pooling_backward
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Fields, Instruction
from compiler.program.tensor import Tensor
from hdl.spec.commands import Destination, Operand

__all__ = ["column_sums", "mean_pool_backward", "rotary_tables_back", "rotate_backward",
           "vocabulary_backward"]

_STORE: Fields = {"destination": Destination.MEMORY}


def rotary_tables_back(positions: np.ndarray, size: int, heads: int, base: float
                       ) -> tuple[np.ndarray, np.ndarray]:
    """``operations.rotary_tables`` of the opposite angles: c and [−s, s]."""
    cosines, sines = operations.rotary_tables(positions, size, heads, base)
    return cosines, -sines


def rotate_backward(builder: ProgramBuilder, d: Tensor, cosines: Tensor, sines_back: Tensor,
                    out: Tensor) -> None:
    """out = the gradient of what ``operations.rotate`` took, of that of its result ``d``: each
    head rotated back. ``sines_back``: [−s, s]."""
    operations.rotate(builder, d, cosines, sines_back, out)


def column_sums(builder: ProgramBuilder, d: Tensor, out: Tensor, factor: float = 1.0) -> None:
    """out = ``factor`` · the sum of the rows of ``d``, 1×N, as of a bias: a row of ones times
    ``d``, which is stored in the format."""
    ones = builder.constant(np.ones((1, d.rows)), d.encoding.name)
    builder.gemm(ones, d, out, Epilogue(factor))


def mean_pool_backward(builder: ProgramBuilder, pooled: Tensor, valid: Sequence[Sequence[bool]],
                       gamma: Tensor, out: Tensor, factor: float = 1.0) -> None:
    """out = ``factor`` · the gradient of each position, times ``gamma``, of that of its sequence's
    mean; 0 for positions that only pad.

    ``pooled``: one row per sequence, then one of zeros. ``valid``: sequences × S. ``gamma``: the
    gain of the norm before the mean, ones where there is none. Each sequence is a command, by the
    number of its positions: a gather of its row.
    """
    found = np.asarray(valid, bool)
    sequences, length = found.shape
    if pooled.rows != sequences + 1 or out.rows != sequences * length:
        raise ValueError(f"pooled must have {sequences + 1} rows, the last of zeros, and the "
                         f"result {sequences * length}, not {pooled.rows} and {out.rows}")
    for sequence, seen in enumerate(found):
        numbers = builder.indices(np.where(seen, sequence, sequences))
        builder.gather(pooled, numbers, out.block(sequence * length, 0, length, out.columns),
                       pooling_backward(gamma, factor / seen.sum()))


def vocabulary_backward(builder: ProgramBuilder, p: Tensor, table: Tensor, labels: Sequence[int],
                        out: Tensor, factor: float) -> None:
    """out = ``factor`` · (P·E − E[labels]): the gradient of what a head of the rows E of ``table``
    reads, of a cross-entropy over the vocabulary. P: rows × words, stored in the format.

    Two commands: rows of E gathered as BF16, the product less those. No tensor of rows × words is
    subtracted from, and the table gets no gradient.
    """
    wanted = builder.empty(*out.shape, "bf16", name=f"{out.name} labels")
    builder.gather(table, builder.indices(labels), wanted)
    builder.gemm(p, table, out, Epilogue(factor, wanted, instructions=(
        Instruction(add=Operand.Y, subtract=True, scale=Operand.IMM0, **_STORE),)))
