"""Memory that tensors share which do not live at the same time."""

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Span", "share"]


@dataclass(frozen=True)
class Span:
    """``size`` bytes from op ``first`` to op ``last``, both included."""

    size: int
    first: int
    last: int

    def meets(self, other: "Span") -> bool:
        """Whether there is an op at which both are there."""
        return self.first <= other.last and other.first <= self.last


def share(spans: Sequence[Span]) -> tuple[list[int], int]:
    """Where each of ``spans`` starts in one block of memory, and the block's size.

    The largest first, each at the lowest place that is free as long as it lives: little beyond the
    most bytes that are alive at once. Places are multiples of whatever all sizes are multiples of.
    """
    starts = [0] * len(spans)
    placed: list[tuple[int, Span]] = []
    order = sorted(range(len(spans)), key=lambda index: (-spans[index].size, spans[index].first))
    for index in order:
        span, start = spans[index], 0
        for other_start, other in sorted(
                (item for item in placed if span.meets(item[1])), key=lambda item: item[0]):
            if other_start - start >= span.size:
                break
            start = max(start, other_start + other.size)
        starts[index] = start
        placed.append((start, span))
    return starts, max((start + span.size for start, span in placed), default=0)
