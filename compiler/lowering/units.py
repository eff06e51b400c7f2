"""What attention is cut into: queries that share keys, values and a mask."""

from dataclasses import dataclass

from compiler.checkpoints.description import Attention
from compiler.checkpoints.inputs import Step
from compiler.lowering.values import View

__all__ = ["SPAN", "Span", "Unit", "spans_of"]

SPAN = 128
"""Queries of a causal model that are taken together: 4 · D at D = 32, so that a tile of keys serves
as many of them as in one piece, and a multiple of every D, so that K-tiles of the sums are cut as
in one piece."""


@dataclass(frozen=True)
class Span:
    """``rows`` queries from ``first`` on, and the positions that any of them ``seen``."""

    first: int
    rows: int
    seen: range


@dataclass(frozen=True)
class Unit:
    """Queries that share keys, values and mask, and where their sums go."""

    queries: View
    keys: View
    values: View
    sums: View
    mask: View | None

    def within(self, span: Span) -> "Unit":
        """The queries of ``span`` alone, on what they see."""
        def own(view: View) -> View:
            return view.row_block(span.first, span.rows)

        def seen(view: View) -> View:
            return view.row_block(span.seen.start, len(span.seen))

        mask = self.mask
        if mask is not None:
            mask = mask.block(0, span.seen.start, mask.rows, len(span.seen))
            mask = mask if mask.rows == 1 else own(mask)
        return Unit(own(self.queries), seen(self.keys), seen(self.values), own(self.sums), mask)


def spans_of(attention: Attention, step: Step, whole: bool = False) -> list[Span]:
    """Spans of queries by what they see: early queries of a causal model see no late keys, late
    ones none from before the window. What is left out has probabilities of 0, and adds nothing to
    the sums. ``whole``: one span all the same, as for programs of other ``past``, which take one
    form whatever they see.
    """
    if whole or not attention.causal or step.length <= SPAN or step.room is not None:
        return [Span(0, step.length, range(step.total))]
    found = []
    for first in range(0, step.length, SPAN):
        rows, start = min(SPAN, step.length - first), 0
        if attention.window is not None:
            start = max(0, step.past + first + 1 - attention.window) // SPAN * SPAN
        found.append(Span(first, rows, range(start, step.past + first + rows)))
    return found
