"""Ops that wait for nothing of one another, in turns by blocks of rows.

A norm's gradient keeps the lanes busy over several passes of each block, and the array idle;
products of few columns keep the array busy, and the lanes idle. Commands go in order, and there are
two accumulation banks: one takes the next command's words while the lanes are on the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hdl.spec.config import AcceleratorConfig
from hdl.spec.timing import cut, row_columns

__all__ = ["Part", "in_turns", "product_part", "rows_part", "worth"]

Trace = Callable[[int, int], None]
_LEAST = 4  # blocks: of fewer, most begin or end alone


@dataclass(frozen=True)
class Part:
    """``trace(first, count)`` lists an op over ``count`` of ``rows`` rows; ``block``: rows that are
    in a bank at once."""

    rows: int
    block: int
    trace: Trace

    @property
    def blocks(self) -> int:
        return -(-self.rows // self.block)

    def whole(self) -> None:
        self.trace(0, self.rows)

    def pieces(self, most: int) -> list[tuple[int, int]]:
        """First row and number of rows of pieces of whole blocks, ``most`` at most."""
        size = self.block * -(-self.blocks // most)
        return [(first, min(size, self.rows - first)) for first in range(0, self.rows, size)]


def rows_part(config: AcceleratorConfig, rows: int, columns: int, stored: bool, trace: Trace
              ) -> Part:
    """Of vector commands; ``stored``: their rows stay on chip."""
    own = cut(config, gemm=False, rowwise=stored, stored=stored, m=rows, k=1, n=columns)
    return Part(rows, 1 << own.block_log2, trace)


def product_part(config: AcceleratorConfig, rows: int, k: int, columns: int, trace: Trace) -> Part:
    """Of products of ``rows`` × ``k`` and ``k`` × ``columns``."""
    own = cut(config, gemm=True, rowwise=False, stored=False, m=rows, k=k, n=columns)
    return Part(rows, 1 << own.block_log2, trace)


def worth(config: AcceleratorConfig, rows: int, columns: int) -> bool:
    """Whether others gain anything in turns with vector commands whose rows stay on chip: there are
    a few blocks, each most of a bank, so that a pass takes longer than a command's start."""
    own = rows_part(config, rows, columns, True, lambda *_: None)
    return own.blocks >= _LEAST and 2 * own.block * columns > row_columns(config)


def in_turns(main: Part, others: Sequence[Part]) -> None:
    """All of ``main``, cut into at most as many pieces as the ``others`` are, and after each its
    share of those."""
    most = max(main.blocks // max(len(others), 1), 1)
    pieces = [(part, *piece) for part in others for piece in part.pieces(most)]
    turns, done = main.pieces(max(len(pieces), 1)), 0
    for index, piece in enumerate(turns, 1):
        main.trace(*piece)
        last = len(pieces) * index // len(turns)
        for part, *rows in pieces[done:last]:
            part.trace(*rows)
        done = last
