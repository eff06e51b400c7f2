"""The write engine: rows placed into beats, bursts whose data are there, the memory's answers."""

import numpy as np

from hdl.spec.timing import (
    BURST_BEATS,
    PAGE_BYTES,
    WRITE_BEATS,
    WRITE_BURSTS,
)
from sim.cycles.compiled import compiled
from sim.cycles.fields import arrays, ints

__all__ = ["RING", "WRITE", "command_ready", "order", "packer_ready", "write_step", "writer_idle"]

BUFFERED = 64
"""Beats that the memory takes ahead of their addresses."""
RING = 256

WRITE = np.dtype([
    *ints("bus bus_log2 latency outstanding most"),
    # The packer.
    *ints("busy row rows_left bytes stride_now tag_now beat end count whole"),
    # Beats in line, in an SRAM and at its output, and complete bursts.
    *arrays("beat_last beat_tag", RING), *ints("beat_tail beats offered"),
    *arrays("burst_beat burst_beats burst_tag", RING), *ints("burst_tail bursts"),
    # Channels AW, W and B; a burst's number is its place in the ring.
    *ints("awvalid under_way unanswered aw_ready w_ready b_valid b_tag"),
    *ints("addresses buffered answers answered"), *arrays("due", RING)])
"""``addresses``, ``answers``: bursts that the memory has the address of, that it took whole.
``answered``: the number of the oldest burst without an answer."""


@compiled
def command_ready(w):
    """Whether a transfer is taken, after ``write_step``: also in the cycle that ends another."""
    return w.busy == 0


@compiled
def _row_begins(w, address, row_bytes):
    w.row, w.beat = address, address >> w.bus_log2
    w.end = (address & (w.bus - 1)) + row_bytes


@compiled
def order(w, address, row_bytes, rows, stride, tag):
    """Hand over a transfer, once a cycle and only while ``command_ready``."""
    w.busy, w.rows_left, w.bytes, w.stride_now, w.tag_now = 1, rows, row_bytes, stride, tag
    # Rows that follow one another beat by beat share bursts.
    w.whole = 1 if stride == row_bytes and (address | row_bytes) & (w.bus - 1) == 0 else 0
    _row_begins(w, address, row_bytes)


@compiled
def writer_idle(w):
    """Whether no transfer, datum or answer is in flight."""
    return w.unanswered == 0 and w.busy == 0 and w.bursts == 0


@compiled
def packer_ready(w):
    """Whether a chunk would be taken in this cycle."""
    return (w.busy and w.end > (w.row & (w.bus - 1)) and w.beats != WRITE_BEATS
            and w.bursts != WRITE_BURSTS)


@compiled
def _pack(w, i_valid, room):
    """The packer: a chunk to its beat; a row's last beat may hold nothing new."""
    takes = w.end > (w.row & (w.bus - 1))
    step = w.busy and room and (i_valid or not takes)
    row_done = w.end <= w.bus
    if step:
        page = (PAGE_BYTES >> w.bus_log2) - 1
        goes_on = w.whole and w.rows_left != 1
        ends = (row_done and not goes_on) or w.count == BURST_BEATS - 1 or (w.beat & page) == page
        slot = w.beat_tail % RING
        w.beat_last[slot], w.beat_tag[slot] = 1 if ends else 0, w.tag_now
        w.beat_tail += 1
        w.beats += 1
        w.count += 1
        if ends:
            slot = w.burst_tail % RING
            w.burst_beats[slot], w.burst_tag[slot] = w.count, w.tag_now
            w.burst_beat[slot] = w.beat - w.count + 1
            w.burst_tail += 1
            w.bursts += 1
            w.count = 0
    if step and row_done:
        w.rows_left -= 1
        w.busy = 1 if w.rows_left else 0
        _row_begins(w, w.row + w.stride_now, w.bytes)
    elif step:
        w.beat += 1
        w.end -= w.bus


@compiled
def _memory(w, cycle, address, beat):
    """The memory: takes addresses and data apart, answers ``latency`` cycles after both."""
    w.addresses += address
    w.buffered += beat
    w.b_valid = 0
    while w.addresses:
        slot = (w.answered + w.answers) % RING
        if w.buffered < w.burst_beats[slot]:
            break
        w.buffered -= w.burst_beats[slot]
        w.due[slot] = cycle + w.latency
        w.addresses -= 1
        w.answers += 1
    slot = w.answered % RING
    if w.answers and cycle + 1 >= w.due[slot]:
        w.b_valid, w.b_tag = 1, w.burst_tag[slot]
        w.answers -= 1
        w.answered += 1
    w.aw_ready = 1 if w.addresses + w.answers + w.b_valid < w.outstanding else 0
    w.w_ready = 1 if w.buffered < BUFFERED else 0


@compiled
def write_step(w, cycle, i_valid):
    """One cycle; ``i_valid``: a chunk is offered. The command that a beat was sent for, or -1."""
    room = w.beats != WRITE_BEATS and w.bursts != WRITE_BURSTS
    answer = w.b_valid
    request = w.bursts != 0 and (w.awvalid == 0 or w.aw_ready) and w.unanswered != w.most
    address = 1 if w.awvalid and w.aw_ready else 0
    open_ = w.under_way != 0
    beat = 1 if w.offered and open_ and w.w_ready else 0
    sent, command = 0, -1
    waiting = w.beats + w.offered
    if beat:
        slot = (w.beat_tail - waiting) % RING
        sent, command = w.beat_last[slot], w.beat_tag[slot]
    fetched = w.beats != 0 and (w.offered == 0 or beat)
    w.offered = 1 if fetched or (w.offered and not beat) else 0
    w.beats -= 1 if fetched else 0
    if w.aw_ready:
        w.awvalid = 0
    if request:
        w.awvalid = 1
        w.bursts -= 1
    w.under_way += (1 if request else 0) - sent
    w.unanswered += (1 if request else 0) - answer
    _pack(w, i_valid, room)
    _memory(w, cycle, address, beat)
    return command
