"""The read engine: four clients, one AXI channel, and its memory."""

import numpy as np

from hdl.spec.timing import READ_BEFORE, READERS, URGENT_BURSTS
from sim.cycles.client import CLIENT, burst_beats, client_step
from sim.cycles.compiled import compiled
from sim.cycles.fields import arrays, ints

__all__ = ["BURSTS", "READ", "granted_to", "read_step"]

BURSTS = 64
_BEFORE = tuple(READERS.index(name) for name in READ_BEFORE)
_REST = tuple(index for index, name in enumerate(READERS) if name not in READ_BEFORE)

READ = np.dtype([
    *ints("bus bus_log2 latency outstanding most"),
    *ints("arvalid ar_ready turn passed granted"),
    *arrays("client tag beat beats due ends each offset row_tail", BURSTS),
    *ints("first accepted last done emitted r_valid r_last r_beat"),
    ("clients", CLIENT, len(READERS))])
"""Bursts are numbered: ``first`` is the oldest whose data are not all taken, ``emitted`` that which
the memory answers, ``accepted`` the next that it will take, ``last`` the next to be granted."""


@compiled
def _grant(read, urgent):
    """The client whose burst is requested in this cycle, or -1: urgent ones first, then those
    before others, then round-robin."""
    wanted = pressing = 0
    for index in range(len(READERS)):
        c = read.clients[index]
        if c.busy and c.free >= burst_beats(c, read.bus_log2):
            wanted |= 1 << index
    pressing = wanted & urgent
    if wanted == 0 or (read.arvalid and not read.ar_ready) \
            or read.last - read.first == read.most:
        return -1
    if pressing and read.passed != URGENT_BURSTS:
        pool = pressing
    else:
        pool = wanted if pressing == wanted else wanted & ~pressing
    for place in range(len(READERS)):
        index = _BEFORE[place] if place < len(_BEFORE) else _REST[
            (read.turn + 1 + place - len(_BEFORE)) % len(_REST)]
        if pool >> index & 1:
            read.passed = read.passed + 1 if pool & pressing and pool != wanted else 0
            for other in range(len(_REST)):
                if index == _REST[other]:
                    read.turn = other
            return index
    return -1


@compiled
def _memory(read, cycle):
    """The memory of the channel: a burst's first beat comes ``latency`` cycles after its
    address."""
    if read.arvalid and read.ar_ready:
        read.due[read.accepted % BURSTS] = cycle + read.latency
        read.accepted += 1
    read.r_valid = 0
    slot = read.emitted % BURSTS
    if read.emitted != read.accepted and cycle + 1 >= read.due[slot]:
        read.r_beat = read.done
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
    slot = read.first % BURSTS
    client = read.client[slot] if read.r_valid else -1
    command = read.tag[slot] if read.r_valid else -1
    burst = slot
    granted = _grant(read, urgent)
    beats = 0
    if granted >= 0:
        c = read.clients[granted]
        beats = burst_beats(c, read.bus_log2)
        slot = read.last % BURSTS
        read.client[slot], read.tag[slot], read.beats[slot] = granted, c.tag_now, beats
        read.beat[slot] = c.beat
        read.each[slot] = c.each
        # Bytes from where the row begins, of a beat where it begins, or from where rows that are
        # one do to the burst.
        read.offset[slot] = c.row & (read.bus - 1)
        if c.each:
            read.offset[slot] = (c.beat << read.bus_log2) - c.row
        read.row_tail[slot] = (c.row + c.bytes - 1) & (read.bus - 1)
        read.ends[slot] = 1 if c.left == beats else 0
    read.granted = granted
    for index in range(len(READERS)):
        client_step(read.clients[index], read, index == granted, beats,
                     burst if index == client else -1, taken >> index & 1)
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
    return read.tag[(read.last - 1) % BURSTS]
