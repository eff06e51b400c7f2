"""The read engine: four clients, one AXI channel, and its memory."""

import numpy as np

from hdl.spec.timing import (
    BURST_BEATS,
    OUTSTANDING,
    PAGE_BYTES,
    READ_ROWS,
    READ_TRANSFERS,
    READERS,
    URGENT_BURSTS,
)
from sim.cycles.compiled import compiled
from sim.cycles.fields import arrays, ints

__all__ = ["CLIENT", "READ", "TRANSFER", "ask", "client_ready", "granted_to", "read_step"]

_RING = 2 * READ_ROWS
_BURSTS = 64

TRANSFER = np.dtype(ints("address row_bytes rows stride tag"))
"""``tag``: the command that asks."""
CLIENT = np.dtype([
    ("asked", "i8"), ("pending", TRANSFER),  # pushed at the end of the cycle
    *arrays("address row_bytes rows stride tag", _RING), *ints("tail queued waiting_rows"),
    # The burst generator.
    *ints("busy row rows_left bytes stride_now tag_now beat left"),
    # The landing FIFO, and the beats of it that are not reserved.
    *ints("free stored offered"),
    # The aligner, and the chunk that it offers.
    *ints("aligning offset align_bytes align_rows align_stride align_left primed"),
    *ints("valid size last")])
READ = np.dtype([
    *ints("bus bus_log2 latency outstanding"),
    *ints("arvalid ar_ready turn passed granted"),
    *arrays("client tag beats due", _BURSTS), *ints("first accepted last done"),
    *ints("emitted r_valid r_last"), ("clients", CLIENT, len(READERS))])
"""Bursts are numbered: ``first`` is the oldest whose data are not all taken, ``emitted`` that which
the memory answers, ``accepted`` the next that it will take, ``last`` the next to be granted."""


@compiled
def client_ready(c):
    """Whether a transfer is taken."""
    return c.queued != READ_TRANSFERS and c.waiting_rows != READ_ROWS


@compiled
def ask(c, address, row_bytes, rows, stride, tag):
    """Hand over a transfer, once a cycle and only while ``client_ready``."""
    c.asked = 1
    c.pending.address, c.pending.row_bytes = address, row_bytes
    c.pending.rows, c.pending.stride, c.pending.tag = rows, stride, tag


@compiled
def _burst_beats(c, bus_log2):
    to_page = (PAGE_BYTES >> bus_log2) - (c.beat & ((PAGE_BYTES >> bus_log2) - 1))
    return min(c.left, to_page, BURST_BEATS)


@compiled
def _row_begins(c, address, row_bytes, bus_log2):
    mask = (1 << bus_log2) - 1
    c.row, c.beat = address, address >> bus_log2
    c.left = ((address & mask) + row_bytes + mask) >> bus_log2


@compiled
def _generate(c, granted, beats, bus_log2):
    """The burst generator: the next burst, row or transfer."""
    row_done = c.left == beats
    if c.busy == 0 or (granted and row_done and c.rows_left == 1):
        c.busy = 1 if c.queued else 0
        if c.queued:
            slot = (c.tail - c.queued) % _RING
            c.rows_left, c.bytes = c.rows[slot], c.row_bytes[slot]
            c.stride_now, c.tag_now = c.stride[slot], c.tag[slot]
            _row_begins(c, c.address[slot], c.bytes, bus_log2)
            c.queued -= 1
    elif granted and row_done:
        c.rows_left -= 1
        _row_begins(c, c.row + c.stride_now, c.bytes, bus_log2)
    elif granted:
        c.beat += beats
        c.left -= beats


@compiled
def _align(c, bus, ready):
    """The aligner: beats of the bus to chunks from byte 0 of each row on. Whether a beat goes."""
    last = c.align_left <= bus
    size = min(c.align_left, bus)
    spans = c.offset + size > bus
    takes = c.primed == 0 or spans
    gives = c.primed == 1 or not spans
    free = c.valid == 0 or ready
    step = c.aligning and (not takes or c.offered) and (not gives or free)
    taken = step and takes
    row_done = step and gives and last
    if free:
        c.valid = 1 if step and gives else 0
    if step and gives:
        c.size, c.last = size, 1 if last else 0
        c.align_left -= bus
    if step:
        c.primed = 1 if spans else 0
    if c.aligning == 0 or (row_done and c.align_rows == 1):
        c.aligning = 1 if c.waiting_rows else 0
        c.primed = 0
        if c.waiting_rows:
            slot = (c.tail - c.waiting_rows) % _RING
            c.offset, c.align_bytes = c.address[slot] & (bus - 1), c.row_bytes[slot]
            c.align_rows, c.align_stride = c.rows[slot], c.stride[slot]
            c.align_left = c.align_bytes
            c.waiting_rows -= 1
    elif row_done:
        c.primed, c.align_left = 0, c.align_bytes
        c.offset = (c.offset + c.align_stride) & (bus - 1)
        c.align_rows -= 1
    return taken


@compiled
def _client_step(c, read, granted, beats, arrives, ready):
    """``arrives``: a beat of this client is on the bus. ``ready``: its chunk is taken."""
    taken = _align(c, read.bus, ready)
    # An SRAM with its output register: two cycles from beat to aligner.
    fetched = c.stored != 0 and (c.offered == 0 or taken)
    c.offered = 1 if fetched or (c.offered and not taken) else 0
    c.stored += arrives - (1 if fetched else 0)
    c.free += (1 if taken else 0) - (beats if granted else 0)
    _generate(c, granted, beats, read.bus_log2)
    if c.asked:
        c.asked = 0
        slot = c.tail % _RING
        c.address[slot], c.row_bytes[slot] = c.pending.address, c.pending.row_bytes
        c.rows[slot], c.stride[slot] = c.pending.rows, c.pending.stride
        c.tag[slot] = c.pending.tag
        c.tail += 1
        c.queued += 1
        c.waiting_rows += 1


@compiled
def _grant(read, urgent):
    """The client whose burst is requested in this cycle, or -1: round-robin, urgent ones first."""
    wanted = pressing = 0
    for index in range(len(READERS)):
        c = read.clients[index]
        if c.busy and c.free >= _burst_beats(c, read.bus_log2):
            wanted |= 1 << index
    pressing = wanted & urgent
    if wanted == 0 or (read.arvalid and not read.ar_ready) \
            or read.last - read.first == OUTSTANDING:
        return -1
    if pressing and read.passed != URGENT_BURSTS:
        pool = pressing
    else:
        pool = wanted if pressing == wanted else wanted & ~pressing
    for distance in range(1, len(READERS) + 1):
        index = (read.turn + distance) % len(READERS)
        if pool >> index & 1:
            read.passed = read.passed + 1 if pool & pressing and pool != wanted else 0
            read.turn = index
            return index
    return -1


@compiled
def _memory(read, cycle):
    """The memory of the channel: a burst's first beat comes ``latency`` cycles after its
    address."""
    if read.arvalid and read.ar_ready:
        read.due[read.accepted % _BURSTS] = cycle + read.latency
        read.accepted += 1
    read.r_valid = 0
    slot = read.emitted % _BURSTS
    if read.emitted != read.accepted and cycle + 1 >= read.due[slot]:
        read.done += 1
        read.r_valid = 1
        read.r_last = 1 if read.done == read.beats[slot] else 0
        if read.r_last:
            read.emitted += 1
            read.done = 0
    under_way = read.accepted - read.emitted + (1 if read.r_valid and read.r_last else 0)
    read.ar_ready = 1 if under_way < read.outstanding else 0


@compiled
def read_step(read, cycle, urgent, taken):
    """One cycle; ``urgent``, ``taken``: masks of clients: go first, their chunk is taken.

    ``granted`` becomes the client whose burst is requested or -1. Returns the command that the
    beat on the bus is for, or -1.
    """
    slot = read.first % _BURSTS
    client = read.client[slot] if read.r_valid else -1
    command = read.tag[slot] if read.r_valid else -1
    granted = _grant(read, urgent)
    beats = 0
    if granted >= 0:
        c = read.clients[granted]
        beats = _burst_beats(c, read.bus_log2)
        slot = read.last % _BURSTS
        read.client[slot], read.tag[slot], read.beats[slot] = granted, c.tag_now, beats
    read.granted = granted
    for index in range(len(READERS)):
        _client_step(read.clients[index], read, index == granted, beats,
                     1 if index == client else 0, taken >> index & 1)
    if read.r_valid and read.r_last:
        read.first += 1
    accepted = read.arvalid and read.ar_ready
    _memory(read, cycle)
    if accepted:
        read.arvalid = 0
    if granted >= 0:
        read.arvalid = 1
        read.last += 1
    return command


@compiled
def granted_to(read):
    """The command whose burst ``read_step`` requested."""
    return read.tag[(read.last - 1) % _BURSTS]
