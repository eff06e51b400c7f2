"""A nest of counted loops, as the units of the accelerator walk them: at most one step a cycle.

A nest of depth d enters its loops one per cycle, the outermost first, and is then ``valid``; the
step to the next iteration costs one cycle and one more for every loop that is entered anew.
"""

import numpy as np

from sim.cycles.compiled import compiled

__all__ = ["NEST", "advanced", "group", "last", "move", "set_loop", "set_panels", "size",
           "take_command", "valid"]

_DEPTH = 9
TOP = -1
"""``within`` of a loop over a total of its own."""

NEST = np.dtype([
    ("idle", "i8"), ("entering", "i8"), ("depth", "i8"),
    ("total", "i8", _DEPTH), ("step", "i8", _DEPTH), ("within", "i8", _DEPTH),
    ("remaining", "i8", _DEPTH), ("first", "i8", _DEPTH)])


@compiled
def set_loop(nest, index, within, total, step):
    """Loop ``index`` covers ``total``, or the span of loop ``within``, in spans of ``step``."""
    nest.within[index] = within
    nest.total[index] = total
    nest.step[index] = step


@compiled
def set_panels(nest, plan):
    """Loops 0 to 4 of feeder and weight loader: blocks of rows, passes, chunks of columns, spans
    of K, panels of columns in a chunk."""
    set_loop(nest, 0, TOP, plan.m, 1 << plan.block_log2)
    set_loop(nest, 1, TOP, plan.passes, 1)
    set_loop(nest, 2, TOP, plan.n, plan.chunk)
    set_loop(nest, 3, TOP, plan.k, plan.k_span)
    set_loop(nest, 4, 2, 0, plan.n_panel)


@compiled
def group(u, plan):
    """Elements of K in a group of A, of a unit whose loops 0 to 3 are those over blocks, passes,
    chunks and spans: few in a command's first bank where the array waits for it, else all that the
    bank holds."""
    first = u.nest.first
    waits = not u.ahead and first[0] and first[3] and (plan.resident or (first[1] and first[2]))
    return u.dim * u.operand_depth if waits else plan.k_span


@compiled
def take_command(u, accept, done):
    """A unit that walks a nest takes the command ``accept`` (-1: none), or is free once its last is
    ``done``. Its nest starts in the cycle that follows. Whether it takes one."""
    takes = accept >= 0
    if takes:
        u.plan, u.running = accept, 1
    elif done and not u.starting:
        u.running = 0
    u.starting = 1 if takes else 0
    return takes


@compiled
def valid(nest):
    """Whether the counters describe an iteration."""
    return nest.idle == 0 and nest.entering == nest.depth


@compiled
def last(nest, index):
    """Whether loop ``index`` is in its last span."""
    return nest.remaining[index] <= nest.step[index]


@compiled
def size(nest, index):
    """Elements in the span of loop ``index``."""
    return min(nest.remaining[index], nest.step[index])


@compiled
def advanced(nest, event, index):
    """Whether ``event``, which ``move`` returned, is that loop ``index`` went one span on."""
    return event == nest.depth + index


@compiled
def move(nest, start, go):
    """One cycle; ``go`` leaves the iteration. The loop that is entered, ``depth`` + the loop that
    advances, or -1."""
    if start:
        nest.idle, nest.entering = 0, 0
        return -1
    if nest.idle:
        return -1
    if nest.entering != nest.depth:
        index = nest.entering
        within = nest.within[index]
        nest.remaining[index] = size(nest, within) if within >= 0 else nest.total[index]
        nest.first[index] = 1
        nest.entering += 1
        return index
    if not go:
        return -1
    for index in range(nest.depth - 1, -1, -1):
        if not last(nest, index):
            nest.remaining[index] -= nest.step[index]
            nest.first[index] = 0
            nest.entering = index + 1
            return nest.depth + index
    nest.idle = 1
    return -1
