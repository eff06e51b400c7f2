"""Small parts between the units: change of width, decoding, transposing. All are one register deep.

A chunk is (valid, size in bytes, whether it ends its row). The owner of each record calls
``*_step`` once per cycle, after its consumer has reported whether it takes what is offered.
"""

import numpy as np

from sim.cycles.compiled import compiled
from sim.cycles.fields import ints

__all__ = ["FETCH", "RESIZER", "TRANSPOSER", "fetch_step", "resizer_output", "resizer_ready",
           "resizer_step", "transposer_offers", "transposer_step"]

RESIZER = np.dtype(ints("i_bytes o_bytes full index size last"))
FETCH = np.dtype(ints("full last second"))
TRANSPOSER = np.dtype(ints("entered padding left words tag out_tag"))


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
def transposer_offers(t, i_valid):
    """Whether a word of the tile that leaves is offered: while the next enters, only with it."""
    return t.left != 0 and (i_valid or t.padding or t.entered == 0)


@compiled
def transposer_step(t, dim, i_valid, i_last, i_words, i_tag, o_ready):
    """A line in, a word out. Whether the line that is offered is taken."""
    leaves = t.left == 0 or o_ready
    enters = leaves and (i_valid or t.padding)
    ready = leaves and not t.padding
    offers = transposer_offers(t, i_valid)
    complete = enters and t.entered == dim - 1
    padding, words, tag = t.padding, t.words, t.tag
    if offers and o_ready:
        t.left -= 1
    if enters:
        t.entered = 0 if complete else t.entered + 1
        if not padding and i_last:
            t.padding, t.words, t.tag = 1, i_words, i_tag
    if complete:
        t.padding = 0
        t.left = words if padding else i_words
        t.out_tag = tag if padding else i_tag
    return ready
