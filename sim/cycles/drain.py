"""The drain: every instruction of a command is a pass over the block in an accumulation bank."""

import numpy as np

from sim.cycles.client import ask, client_ready
from sim.cycles.compiled import compiled
from sim.cycles.fields import arrays, ints
from sim.cycles.nest import NEST, TOP, advanced, last, move, set_loop, size, valid
from sim.cycles.write import order

__all__ = ["DRAIN", "IDLE", "drain_step"]

IDLE, START, BLOCK, FETCH, BEGIN, RUN, STORE = range(7)
_ROWS, _PASSES, _CHUNK = range(3)

_READER = ints(
    "reading loaded address tile row row_address strip_tile left rows columns count group "
    "word_row_end word_last word_final busy span_rows span_columns strip tiled tiles array_fills "
    "whole_rows follow row_goes_on first_column")
_TRANSFERS = ints("busy rows columns y_wanted c_wanted y_asked c_asked y_stride c_stride y_wide "
                  "c_wide c_transposed row_columns y_column")
DRAIN = np.dtype([
    *ints("dim lanes element strip_columns plan state index pass_index coming bank switched fresh "
          "current"),
    ("nest", NEST), ("reader", _READER), ("transfers", _TRANSFERS),
    # Addresses of the block's rows and of the chunk in them, of Y0, Y1, C and D.
    *arrays("row column", 4), *arrays("base strip_base", 2)])
"""``coming``: the instruction that is read and asked for; ``current``: that of the lanes."""


@compiled
def _bytes(u, count, wide):
    return count * (2 if wide and u.element == 1 else u.element)


@compiled
def _walk(u, plan, start, go):
    """The nest moves, and with it the addresses of Y0, Y1, C and D."""
    nest = u.nest
    event = move(nest, start, go)
    if event < 0:
        return
    if event == _PASSES:
        u.pass_index = 0
    elif advanced(nest, event, _PASSES):
        u.pass_index += 1
    for index in range(4):
        transposed = index == 2 and plan.c_transposed
        stride, wide = plan.c_stride, plan.c_wide
        address = plan.c_address
        column = 0  # one item a row
        if index == 0:
            stride, wide, address = plan.y0_stride, plan.y0_wide, plan.y0_address
            column = plan.y0_column
        elif index == 1:
            stride, wide, address = plan.y1_stride, plan.y1_wide, plan.y1_address
            column = plan.y1_column
        elif index == 3:
            stride, address, column = 2, plan.c_address + plan.d_offset, 1
            address -= (plan.d_offset >> 31) << 32
        if event == _ROWS:
            u.row[index] = address
        elif advanced(nest, event, _ROWS):
            block = 1 << plan.block_log2
            u.row[index] += _bytes(u, block, wide) if transposed else stride * block
        elif event == _CHUNK:
            u.column[index] = 0
        elif advanced(nest, event, _CHUNK) and not column:
            u.column[index] += stride * plan.chunk if transposed else _bytes(u, plan.chunk, wide)


@compiled
def _begin_pass(u, plan):
    """What the reader walks over, and what is asked for: one transfer per strip, or per tile where
    C is transposed; a streamed row is one transfer of all its chunks."""
    r, t, coming = u.reader, u.transfers, u.coming
    stored = plan.to_memory[coming]
    items = plan.items[coming]
    transposed = items or (plan.c_transposed and stored)
    # With more K-tiles than one the array needs the bank's read port to its last word.
    follows = plan.gemm == 0 or plan.k <= u.dim
    by_strips = plan.gemm and follows and not plan.rowwise
    r.span_rows, r.span_columns = size(u.nest, _ROWS), size(u.nest, _CHUNK)
    r.tiled = 1 if transposed else 0
    r.strip = u.dim if transposed else u.strip_columns if by_strips else plan.chunk
    r.tiles = -(-r.span_columns // u.dim)
    r.array_fills, r.whole_rows = plan.gemm, plan.row_max
    # One result per row is its first column, read when the bank is full.
    r.first_column = 1 if items or (plan.row_result and stored) else 0
    r.follow = 1 if follows and not r.first_column and not plan.to_buffer[coming] else 0
    r.row_goes_on = 1 if plan.streamed and not last(u.nest, _CHUNK) else 0
    r.address = r.tile = r.row = r.row_address = r.strip_tile = 0
    r.reading = r.busy = 1
    r.rows, r.columns = r.span_rows, r.span_columns
    r.left = 1 if r.first_column else min(r.columns, r.strip)

    row_wise = plan.streamed and not transposed
    asks = u.nest.first[_CHUNK] or not row_wise
    second = plan.second_y[coming]
    t.busy, t.rows, t.columns = 1, r.span_rows, r.span_columns
    t.y_asked = t.c_asked = 0
    t.y_wanted = 1 if plan.uses_y[coming] and asks else 0
    t.c_wanted = 1 if stored and asks else 0
    t.y_stride = plan.y1_stride if second else plan.y0_stride
    t.y_wide = plan.y1_wide if second else plan.y0_wide
    t.y_column = plan.y1_column if second else plan.y0_column
    t.c_stride, t.c_transposed = plan.c_stride, r.tiled
    t.c_wide = 1 if items else plan.c_wide
    t.row_columns = plan.n if row_wise else 0
    u.base[0] = u.strip_base[0] = u.row[second] + u.column[second]
    if plan.following_y[coming]:
        u.base[0] += _bytes(u, 1 if t.y_column else plan.n, t.y_wide)
        u.strip_base[0] = u.base[0]
    kind = 3 if items else 2
    u.base[1] = u.strip_base[1] = u.row[kind] + u.column[kind]


@compiled
def _advance(u, index, wide, stride, transposed, strip_end, column):
    """The address of the next tile of matrix ``index``; of one ``column`` strips share it."""
    lines = stride * u.dim
    if strip_end:
        if not column:
            u.strip_base[index] += lines if transposed else _bytes(u, u.reader.strip, wide)
        u.base[index] = u.strip_base[index]
    else:
        u.base[index] += _bytes(u, u.dim, wide) if transposed else lines


@compiled
def _ask(u, y, write, write_ready):
    """Ask for Y and C of the next strip or tile."""
    t, r = u.transfers, u.reader
    if not t.busy:
        return
    strip = 1 if r.first_column else min(t.columns, r.strip)
    tile_rows = min(t.rows, u.dim) if r.tiled else t.rows
    columns = max(t.row_columns, strip)
    if t.y_wanted and not t.y_asked and client_ready(y):
        own = 1 if t.y_column else columns
        ask(y, u.base[0], _bytes(u, own, t.y_wide), tile_rows, t.y_stride, u.plan)
        t.y_asked = 1
    if t.c_wanted and not t.c_asked and write_ready:
        if t.c_transposed:
            order(write, u.base[1], _bytes(u, tile_rows, t.c_wide), strip, t.c_stride, u.plan)
        else:
            order(write, u.base[1], _bytes(u, columns, t.c_wide), tile_rows, t.c_stride, u.plan)
        t.c_asked = 1
    if (t.y_wanted and not t.y_asked) or (t.c_wanted and not t.c_asked):
        return
    t.y_asked = t.c_asked = 0
    strip_end = tile_rows == t.rows
    t.rows -= u.dim
    _advance(u, 0, t.y_wide, t.y_stride, 0, strip_end, t.y_column)
    _advance(u, 1, t.c_wide, t.c_stride, t.c_transposed, strip_end, 0)
    if strip_end:
        t.rows = r.span_rows
        t.busy = 1 if t.columns > r.strip and not r.first_column else 0
        t.columns -= r.strip


@compiled
def _begin(u, plan):
    u.nest.depth = 3
    set_loop(u.nest, _ROWS, TOP, plan.m, 1 << plan.block_log2)
    set_loop(u.nest, _PASSES, TOP, plan.passes, 1)
    set_loop(u.nest, _CHUNK, TOP, plan.n, plan.chunk)


@compiled
def _pass_ends(u, plan, pulses):
    """To the next instruction, or out of the bank. Whether the latter."""
    if plan.streamed or u.coming == plan.scans - 1:
        pulses.released, pulses.released_bank = 1, u.bank
        u.bank ^= 1
        u.state = BLOCK
        return True
    u.index += 1
    u.state = FETCH
    return False


@compiled
def _next_pass(u, plans, accept):
    """To the next command, block and instruction: one state per cycle."""
    if u.state == IDLE:
        u.fresh = 1
        if accept >= 0:
            u.plan, u.state = accept, START
            _begin(u, plans[accept])
        return
    if u.state == START:
        u.state = BLOCK
        return
    if u.state == FETCH:
        u.coming, u.state = u.index, BEGIN
        return
    u.index = u.pass_index if plans[u.plan].streamed else 0
    if u.nest.idle:
        u.state = IDLE
    elif valid(u.nest):
        u.state = FETCH


@compiled
def _open_pass(u, plan):
    _begin_pass(u, plan)
    # The lanes take the coming instruction when they hold nothing of another.
    same = plan.single or (plan.streamed and not u.nest.first[_CHUNK])
    u.switched = 1 if same and not u.fresh else 0
    u.fresh, u.state = 0, RUN


@compiled
def _run_pass(u, plan, asking, unit_idle, settled, pulses):
    """Until all is read, and where it goes back to the bank, until that is there. Whether the
    bank is left."""
    if u.state == STORE:
        return unit_idle and _pass_ends(u, plan, pulses)
    # What is stored otherwise than before begins when nothing of that is left.
    free = settled if plan.items[u.current] or plan.items[u.coming] else unit_idle
    if not u.switched and free:
        u.switched, u.current = 1, u.coming
    if u.reader.busy or asking:
        return False
    if plan.to_buffer[u.coming]:
        u.state = STORE
        return False
    return _pass_ends(u, plan, pulses)


@compiled
def drain_step(u, plans, accept, unit_idle, settled, y, write, write_ready, pulses):
    """One cycle, after ``read_block``; ``unit_idle``: the lanes hold nothing, ``settled``: nor does
    anything after them, before this cycle."""
    plan = plans[u.plan]
    asking, go, starts = u.transfers.busy, False, u.state == START
    _ask(u, y, write, write_ready)
    if u.state < BEGIN:
        _next_pass(u, plans, accept)
    elif u.state == BEGIN:
        _open_pass(u, plan)
    else:
        go = _run_pass(u, plan, asking, unit_idle, settled, pulses)
    _walk(u, plan, starts, go)
