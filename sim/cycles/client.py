"""A client of the read engine: its bursts, its landing space, its rows out of what they bring."""

import numpy as np

from hdl.spec.timing import (
    BURST_BEATS,
    LANDING_BEATS,
    MERGED_LOG2,
    PAGE_BYTES,
    TRANSFERS_HELD,
)
from sim.cycles.compiled import compiled
from sim.cycles.fields import arrays, ints

__all__ = ["CLIENT", "ask", "burst_beats", "client_ready", "client_step"]

TRANSFER = np.dtype(ints("address row_bytes rows stride tag"))
"""``tag``: the command that asks."""
CLIENT = np.dtype([
    ("asked", "i8"), ("pending", TRANSFER),  # taken at the end of the cycle
    # The burst generator.
    *ints("busy row rows_left bytes stride_now tag_now beat left each"),
    # The landing FIFO, its beats with what alignment needs of their rows, and how many of it are
    # not reserved.
    *arrays("row_ends offset row_tail", LANDING_BEATS + 1),
    *ints("tail head out depth free offered"),
    # Its rows: whether a row that repeats stays there until its last time; transfers whose rows
    # are not all out, as their rows and whether these are one; the row at the output.
    *ints("repeats_rows base"), *arrays("laps", TRANSFERS_HELD), *ints("held first_held lap"),
    # The aligner, and the chunk that it offers.
    *ints("primed rest valid size last")])


@compiled
def client_ready(c):
    """Whether a transfer is taken."""
    return c.busy == 0 and c.held != TRANSFERS_HELD


@compiled
def _hold(c):
    """Of a transfer that is taken: its rows are counted as they leave. One that repeats is asked
    for once, if landing space holds all of it."""
    if not c.repeats_rows:
        return
    repeats = c.stride_now == 0 and c.rows_left > 1 and c.left <= c.depth
    c.laps[(c.first_held + c.held) % TRANSFERS_HELD] = c.rows_left if repeats else -c.rows_left
    c.held += 1
    if repeats:
        c.rows_left = 1


@compiled
def ask(c, address, row_bytes, rows, stride, tag):
    """Hand over a transfer, once a cycle and only while ``client_ready``."""
    c.asked = 1
    c.pending.address, c.pending.row_bytes = address, row_bytes
    c.pending.rows, c.pending.stride, c.pending.tag = rows, stride, tag


@compiled
def burst_beats(c, bus_log2):
    """Beats of the burst that the generator offers."""
    to_page = (PAGE_BYTES >> bus_log2) - (c.beat & ((PAGE_BYTES >> bus_log2) - 1))
    return min(c.left, to_page, BURST_BEATS)


@compiled
def _row_begins(c, address, row_bytes, bus_log2):
    mask = (1 << bus_log2) - 1
    c.row, c.beat = address, address >> bus_log2
    c.left = ((address & mask) + row_bytes + mask) >> bus_log2
    c.each = 0


@compiled
def _merge(c, bus_log2):
    """Rows of few whole beats that follow one another are one to the generator; ``each``: beats of
    such a row."""
    if c.stride_now != c.bytes or (c.row | c.bytes) & ((1 << bus_log2) - 1):
        return
    for log2 in range(MERGED_LOG2 + 1):
        if c.left == 1 << log2:
            c.each = c.left
            c.left *= c.rows_left
            c.rows_left = 1
            return


@compiled
def _generate(c, granted, beats, bus_log2):
    """The burst generator: the next burst, row or transfer."""
    row_done = c.left == beats
    if granted and row_done:
        c.rows_left -= 1
        c.busy = 1 if c.rows_left else 0
        _row_begins(c, c.row + c.stride_now, c.bytes, bus_log2)
    elif granted:
        c.beat += beats
        c.left -= beats
    if c.asked:
        c.asked, c.busy = 0, 1
        asked = c.pending
        c.rows_left, c.bytes, c.stride_now, c.tag_now = \
            asked.rows, asked.row_bytes, asked.stride, asked.tag
        _row_begins(c, asked.address, asked.row_bytes, bus_log2)
        _hold(c)
        _merge(c, bus_log2)


@compiled
def _offer(c, bus):
    """The aligner's chunk: from the beat that it holds and that at the landing FIFO's output."""
    slot = c.out % (LANDING_BEATS + 1)
    offset, row_tail, row_ends = c.offset[slot], c.row_tail[slot], c.row_ends[slot]
    if c.rest:
        c.valid, c.size, c.last = 1, c.rest, 1
        return
    c.last = 1 if row_ends and (not c.primed or row_tail < offset) else 0
    c.valid = 1 if c.offered and (c.primed or row_ends or offset == 0) else 0
    c.size = (row_tail - offset) % bus + 1 if c.last else bus


@compiled
def _align(c, bus, ready):
    """Beats of the bus to chunks from byte 0 of each row on. Whether one leaves the landing FIFO:
    with the chunk that it ends, or to be held as a row's first."""
    slot = c.out % (LANDING_BEATS + 1)
    opens = c.offered and not c.row_ends[slot] and c.offset[slot] != 0
    if c.rest:
        goes = ready and opens
        if ready:
            c.rest, c.primed = 0, 1 if opens else 0
        return goes
    goes = c.offered and (not c.valid or ready)
    if goes:
        if c.primed and not c.last and c.row_ends[slot]:
            c.rest = (c.row_tail[slot] - c.offset[slot]) % bus + 1
        c.primed = 1 if opens else 0
    return goes


@compiled
def _leave(c, taken):
    """A beat leaves the landing FIFO; after a row that repeats its first comes again. Whether its
    place is free."""
    if not taken or not c.repeats_rows:
        return taken
    lap = c.laps[c.first_held]
    final = lap < 0 or c.lap + 1 == lap
    if c.row_ends[c.out % (LANDING_BEATS + 1)]:
        c.lap += 1
        if final:
            c.base = c.head
        else:
            c.head = c.base
        if c.lap == abs(lap):
            c.lap = 0
            c.held -= 1
            c.first_held = (c.first_held + 1) % TRANSFERS_HELD
    return final


@compiled
def client_step(c, read, granted, beats, arrives, ready):
    """``arrives``: the burst of which a beat of this client is on the bus, or -1. ``ready``: its
    chunk is taken."""
    taken = _align(c, read.bus, ready)
    freed = _leave(c, taken)
    # An SRAM with its output register: two cycles from beat to aligner.
    fetched = c.head != c.tail and (c.offered == 0 or taken)
    c.offered = 1 if fetched or (c.offered and not taken) else 0
    if fetched:
        c.out = c.head
        c.head += 1
    if arrives >= 0:
        slot = c.tail % (LANDING_BEATS + 1)
        ends = read.r_last and read.ends[arrives]
        if read.each[arrives]:
            row = (read.offset[arrives] >> read.bus_log2) + read.r_beat + 1
            ends = row & (read.each[arrives] - 1) == 0
        c.row_ends[slot] = 1 if ends else 0
        c.offset[slot] = read.offset[arrives] & (read.bus - 1)
        c.row_tail[slot] = read.row_tail[arrives]
        c.tail += 1
    c.free += (1 if freed else 0) - (beats if granted else 0)
    _generate(c, granted, beats, read.bus_log2)
    _offer(c, read.bus)
