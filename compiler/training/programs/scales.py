"""Scales of the next step, in commands: from the largest magnitudes of the last ten steps.

    H, one row per site:   shifted by one item, the newest magnitude last
    s = 2^k · POWER(max H),  1/s = 2 · POWER(s)
    table[n] = constant[n] · word[up[n]] · word[down[n]],  words 1, s, 1/s
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from compiler.program.scalar import Scalar
from compiler.program.tensor import Tensor
from compiler.training.gradients.scaling import HISTORY, target_log2
from compiler.training.programs.factors import Factor, Factors, Share
from hdl.spec.commands import Destination, Operand, Post, Reduce

__all__ = ["CLIP", "DECAY", "RATE", "SHARES", "ScaleTables", "emit_scales", "emit_shares",
           "place_scales"]

# Words after the factors that the host writes or an update computes; then one per sequence.
RATE, DECAY, CLIP, SHARES = 0, 1, 2, 3


@dataclass(frozen=True)
class ScaleTables:
    """``table``: words that commands read: those of ``factors``, RATE, DECAY and CLIP, and from
    SHARES on ``factors.Share`` of each sequence. ``lengths``: 1 over its number of positions.

    ``history``: sites × HISTORY, the oldest first; ``words``: 1, scales, their inverses;
    ``target``: k.
    """

    factors: Factors
    table: Tensor
    history: Tensor
    shifted: Tensor
    words: Tensor
    up: Tensor
    down: Tensor
    constants: Tensor
    products: Tensor
    lengths: Tensor
    target: int

    def number(self, factor: Factor | Share) -> int:
        """The place of a factor in the table."""
        if isinstance(factor, Share):
            return self.word(SHARES) + factor.sequence
        return self.factors.number(factor)

    def word(self, which: int) -> int:
        """The number in the table of RATE, DECAY, CLIP or the first of SHARES."""
        return len(self.factors.numbers) + which


def place_scales(builder: ProgramBuilder, factors: Factors, lengths: Sequence[int],
                 target: int | None = None) -> ScaleTables:
    """Memory for all of it; without scales the table holds what the host and updates write.
    ``lengths``: of the sequences of a micro-batch at first; ``target``: as for ``Scaling``."""
    numbers, sites = list(factors.numbers), factors.sites
    count, rows = max(len(numbers), 1), max(len(sites), 1)

    def index(name: str, first: int) -> int:
        return first + sites[name] if name else 0

    def empty(name: str, *shape: int) -> Tensor:
        return builder.constant(np.zeros(shape), "bf16", name=name)

    words = builder.constant(np.ones((1 + 2 * len(sites), 1)), "bf16", name="scales")
    return ScaleTables(
        factors, empty("scalars", len(numbers) + SHARES + len(lengths), 1),
        empty("history of magnitudes", rows, HISTORY), empty("history shifted", rows, HISTORY - 1),
        words,
        builder.indices(np.array([index(up, 1) for _, up, _ in numbers] or [0])),
        builder.indices(np.array([index(down, 1 + len(sites)) for _, _, down in numbers] or [0])),
        builder.constant(np.array([[c] for c, _, _ in numbers] or [[1.0]]), "bf16",
                         name="constants of factors"), empty("products of factors", count, 1),
        builder.constant(1 / np.array([lengths]).T, "bf16", name="inverse lengths"),
        target_log2(builder.config.format) if target is None else target)


def emit_scales(builder: ProgramBuilder, tables: ScaleTables, largest: Tensor | None) -> None:
    """The table of the next step; ``largest`` magnitudes of this one enter the history first."""
    sites, count = len(tables.factors.sites), len(tables.factors.numbers)
    if not sites:
        return
    history, earlier = tables.history, tables.history.block(0, 1, sites, HISTORY - 1)
    if largest is not None:
        builder.vector(earlier, tables.shifted)
        builder.vector(tables.shifted, history.block(0, 0, sites, HISTORY - 1))
        builder.vector(largest.block(0, 0, sites, 1), history.block(0, HISTORY - 1, sites, 1))
    scales = tables.words.block(1, 0, sites, 1)
    builder.vector(history, scales, _power(2.0 ** tables.target))
    builder.vector(scales, tables.words.block(1 + sites, 0, sites, 1), _power(2.0))
    builder.gather(tables.words, tables.up, tables.products)
    builder.gather(tables.words, tables.down, tables.table.block(0, 0, count, 1), Epilogue(
        bias=tables.products, y1=tables.constants, instructions=(
            Instruction(multiply=Operand.Y, destination=Destination.BUFFER),
            Instruction(multiply=Operand.Y, y=1, destination=Destination.MEMORY))))


def emit_shares(builder: ProgramBuilder, tables: ScaleTables, factor: float | Scalar) -> None:
    """The words from SHARES on: ``factor`` over the lengths."""
    first = tables.word(SHARES)
    builder.vector(tables.lengths, tables.table.block(first, 0, tables.lengths.rows, 1),
                   Epilogue(factor))


def _power(factor: float) -> Epilogue:
    """``factor`` · POWER of each row's maximum, one item per row."""
    return Epilogue(0.0, imm1=factor, row_result=True, instructions=(
        Instruction(reduce=Reduce.MAX, post=Post.POWER),
        Instruction(multiply=Operand.IMM0, add=Operand.R0, scale=Operand.IMM1,
                    destination=Destination.MEMORY)))
