"""Small parts between the units: change of width, decoding, transposing.

A chunk is (valid, size in bytes, whether it ends its row). The owner of each record calls
``*_step`` once per cycle, after its consumer has reported whether it takes what is offered.
"""

import numpy as np

from sim.cycles.compiled import compiled
from sim.cycles.fields import arrays, ints

__all__ = ["FETCH", "RESIZER", "TRANSPOSER", "fetch_step", "resizer_output", "resizer_ready",
           "resizer_step", "transposer_busy", "transposer_ready", "transposer_step"]

RESIZER = np.dtype(ints("i_bytes o_bytes full index size last"))
FETCH = np.dtype(ints("full last second"))
TRANSPOSER = np.dtype([
    # The tile that enters, that leaves, and of each of both: whether it is complete, its size.
    *ints("into out_of line word"), *arrays("full lines words tag", 2),
    # The word that is offered.
    *ints("waiting out_last out_lines out_tag")])


@compiled
def resizer_output(r, i_valid, i_size, i_last):
    """What is offered; where both widths are equal, what comes in."""
    if r.i_bytes == r.o_bytes:
        return i_valid, i_size, i_last
    if r.i_bytes < r.o_bytes:
        return r.full, r.size, r.last
    final = r.size <= r.o_bytes
    return r.full, min(r.size, r.o_bytes), 1 if r.last and final else 0


@compiled
def resizer_ready(r, o_ready):
    """Whether a chunk is taken in this cycle."""
    if r.i_bytes == r.o_bytes:
        return o_ready
    if r.i_bytes < r.o_bytes:
        return r.full == 0 or o_ready
    return r.full == 0 or (o_ready and r.size <= r.o_bytes)


@compiled
def resizer_step(r, i_valid, i_size, i_last, o_ready):
    if r.i_bytes == r.o_bytes:
        return
    ready = resizer_ready(r, o_ready)
    if r.i_bytes > r.o_bytes:
        if ready:
            r.full, r.size, r.last = i_valid, i_size, i_last
        elif o_ready:
            r.size -= r.o_bytes
        return
    if o_ready:
        r.full = 0
    if i_valid and ready:
        whole = i_last or r.index == r.o_bytes // r.i_bytes - 1
        r.full = 1 if whole else 0
        r.size, r.last = r.index * r.i_bytes + i_size, i_last
        r.index = 0 if whole else r.index + 1


@compiled
def fetch_step(f, i_valid, i_last, o_ready, wide):
    """Stored operands to lane words: BF16 rows (``wide``) take two chunks per beat. Whether the
    chunk that is offered is taken."""
    ready = f.full == 0 or o_ready
    if o_ready:
        f.full = 0
    if i_valid and ready:
        whole = not wide or f.second or i_last
        f.full, f.last, f.second = 1 if whole else 0, i_last, 0 if whole else 1
    return ready


@compiled
def transposer_busy(t):
    return t.full[0] or t.full[1] or t.line or t.waiting


@compiled
def transposer_ready(t):
    """Whether a line is taken."""
    return t.full[t.into] == 0


@compiled
def transposer_step(t, i_valid, i_last, i_words, i_tag, o_ready):
    """A line in, a word out; ``o_ready``: that which is ``waiting`` is taken."""
    ready = transposer_ready(t)
    reads = t.full[t.out_of] and (t.waiting == 0 or o_ready)
    if o_ready:
        t.waiting = 0
    if reads:
        tile = t.out_of
        t.waiting, t.out_lines, t.out_tag = 1, t.lines[tile], t.tag[tile]
        t.word += 1
        t.out_last = 1 if t.word == t.words[tile] else 0
        if t.out_last:
            t.word, t.full[tile], t.out_of = 0, 0, 1 - tile
    if i_valid and ready:
        tile = t.into
        t.line += 1
        if i_last:
            t.full[tile], t.lines[tile], t.words[tile], t.tag[tile] = 1, t.line, i_words, i_tag
            t.line, t.into = 0, 1 - tile
