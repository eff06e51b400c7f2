"""The DRAM behind both engines (``sim.harness.dram``): when each burst has its data, in order."""

import numpy as np

from sim.cycles.compiled import compiled
from sim.cycles.fields import arrays, ints
from sim.cycles.read import BURSTS as READ_RING
from sim.cycles.write import RING as WRITE_RING
from sim.harness.dram import MOST_BANKS

__all__ = ["DRAM", "dram_step"]

DRAM = np.dtype([
    *ints("there latency burst miss banks row_beats turn gathered refresh refresh_every"),
    # Bursts that were served; when the data bus is free; refreshes so far, from the first burst on.
    *ints("reads writes free started refreshes"), *arrays("row ready", MOST_BANKS)])
"""``row``: each bank's open row, counted from 1; ``ready``: from when on it may open another."""


@compiled
def _serve(d, cycle, beat, beats, turn):
    """The cycle in which the data of a burst that came in ``cycle`` begin, after ``turn``."""
    bank, row = beat // d.row_beats % d.banks, beat // (d.row_beats * d.banks) + 1
    asked = cycle
    if d.started < 0:
        d.started = cycle
    if d.row[bank] != row:
        asked = max(cycle, d.ready[bank]) + d.miss
    begins = max(asked + d.latency, d.free + d.burst + turn)
    refreshes = (begins + beats - 1 - d.started) // d.refresh_every
    if refreshes > d.refreshes:
        d.refreshes = refreshes
        begins = max(begins, d.started + refreshes * d.refresh_every + d.refresh + d.miss)
        for other in range(d.banks):
            d.row[other] = 0
    d.row[bank] = row
    d.free = begins + beats
    d.ready[bank] = d.free - d.latency
    return begins


@compiled
def dram_step(d, read, write, cycle):
    """After both engines' cycle: serve what the memory took in it, reads first."""
    while d.reads != read.accepted:
        slot = d.reads % READ_RING
        read.due[slot] = _serve(d, cycle, read.beat[slot], read.beats[slot], 0)
        d.reads += 1
    while d.writes != write.answered + write.answers:
        slot = d.writes % WRITE_RING
        beats = write.burst_beats[slot]
        turn = d.turn if d.writes % d.gathered == 0 else 0
        write.due[slot] = _serve(d, cycle, write.burst_beat[slot], beats, turn) + beats
        d.writes += 1
