"""Rows of a table that indices in memory name: one transfer per row.

A row's address costs a cycle for each bit of its index. Indices are data, which the model does not
look at: every one counts as the table's last row.
"""

import numpy as np

from hdl.spec.timing import INDEX_BYTES
from sim.cycles.compiled import compiled
from sim.cycles.fields import ints

__all__ = ["GATHER", "gather_offers", "gather_step", "index_bytes"]

TAKE, MULTIPLY, ROW = range(3)

GATHER = np.dtype(ints(
    "room busy first left unasked awaited arrived count requested address state bits"))
"""``left``, ``unasked``: rows of the piece, and their indices, still to be asked for. ``arrived``,
``count``: indices that came, and those not yet used. ``bits``: left of the one that is
multiplied."""


@compiled
def _asks(g):
    """Whether the next word of indices is to be asked for."""
    return g.busy and g.unasked != 0 and not g.awaited and g.state != ROW and g.arrived == 0


@compiled
def gather_offers(g):
    """The transfer that is offered: 0 none, 1 of indices, 2 of a row."""
    if _asks(g):
        return 1
    return 2 if g.state == ROW else 0


@compiled
def index_bytes(g):
    """Bytes of the indices that are asked for."""
    return min(g.unasked, g.room) * INDEX_BYTES


@compiled
def gather_step(g, begins, rows, indices, table_rows, word_bytes, taken, words):
    """One cycle. ``begins``: a piece of ``rows`` rows is there, its ``indices`` at that address;
    ``taken``: what is offered is; ``words``: indices come in."""
    asks, row = _asks(g), g.state == ROW
    takes = g.state == TAKE and g.count != 0
    starts = begins and not g.busy
    fills = g.count == 0 and g.arrived != 0
    if asks and taken:
        g.awaited, g.requested = 1, min(g.unasked, g.room)
        g.unasked -= g.requested
        g.address += word_bytes
    if fills:
        g.count, g.arrived = g.arrived, 0
    elif takes:
        g.count -= 1
    if words:
        g.awaited, g.arrived = 0, g.requested
    if takes:
        g.state, g.bits = MULTIPLY, 0
        while table_rows - 1 >> g.bits:
            g.bits += 1
    elif g.state == MULTIPLY:
        if g.bits == 0 and not asks:
            g.state = ROW
        g.bits = max(0, g.bits - 1)
    elif row and taken:
        g.state = TAKE
        g.first = 0
        g.left -= 1
        if g.left == 0:
            g.busy = 0
    if starts:
        g.busy = g.first = 1
        g.left = g.unasked = rows
        g.address = indices
