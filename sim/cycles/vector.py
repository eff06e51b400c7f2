"""The vector unit and what follows it: reductions, the transposer of C, encoders."""

import numpy as np

from sim.cycles.compiled import compiled
from sim.cycles.fields import arrays, ints
from sim.cycles.stream import TRANSPOSER, transposer_busy, transposer_ready, transposer_step

__all__ = ["VECTOR", "output_offers", "vector_idle", "vector_settled", "vector_step"]

_PIPE = 32
VECTOR = np.dtype([
    *ints("lanes lane_bytes element latency tree_cycles across_cycles scale_cycles result_cycles"),
    # Beats in the lanes, a ring; ``head`` is the one that entered last.
    *arrays("valid keep last row_last group", _PIPE), *ints("head inside"),
    # Reductions, one bit per cycle in flight through the tree; then across beats, posts, the
    # result.
    *ints("tree tree_last across scale result"),
    ("transposer", TRANSPOSER), *ints("turn_group"),
    *ints("full two words out_last stall")])


@compiled
def _reducing(v):
    return v.tree or v.across or v.result or v.scale


@compiled
def vector_idle(v):
    """Whether no beat is inside and every reduction is written."""
    return not v.inside and not _reducing(v)


@compiled
def vector_settled(v):
    """Whether nothing is in flight from the lanes to the write engine."""
    return vector_idle(v) and not transposer_busy(v.transposer) and not v.full


@compiled
def output_offers(v, wide):
    """The chunk of encoded results that is offered: valid, size, whether it ends its row."""
    size = v.words * v.element
    if v.element == 1 and wide:
        size = v.lane_bytes if v.two else 2 * v.words
    return v.full, size, 1 if v.out_last and not v.two else 0


@compiled
def _turn_offers(v):
    """The beat of a transposed tile that is offered: valid, words, whether it ends its column."""
    left = v.transposer.out_lines - v.turn_group * v.lanes
    return v.transposer.waiting, min(left, v.lanes), left <= v.lanes


@compiled
def _turn_step(v, slot, i_valid, ready):
    """Rows of a tile in, beats of its columns out. Whether the beat that comes is taken."""
    t = v.transposer
    line = i_valid and v.row_last[slot]
    offers, _, ends = _turn_offers(v)
    taken = transposer_ready(t) or not v.row_last[slot]
    words = v.group[slot] * v.lanes + v.keep[slot]
    transposer_step(t, 1 if line else 0, v.last[slot], words, 0, ready and ends)
    if offers and ready:
        v.turn_group = 0 if ends else v.turn_group + 1
    return taken


@compiled
def _encode(v, i_valid, words, last, wide, o_ready):
    """The output register: a beat becomes a chunk, a wide one of more than half its words two."""
    wide = wide and v.element == 1
    if v.full == 0 or (o_ready and not v.two):
        v.full = 1 if i_valid else 0
        if i_valid:
            v.out_last, v.words = 1 if last else 0, words
            v.two = 1 if wide and words > v.lanes // 2 else 0
    elif v.two and o_ready:
        v.two = 0
        v.words -= v.lanes // 2


@compiled
def _shifted(bits, enters, cycles):
    """What is in flight for as many cycles, a cycle later."""
    return (bits << 1 | enters) & (1 << cycles) - 1


@compiled
def _reduce(v, enters, last, averages):
    """The tree, then across beats, a mean's product and sum, the result."""
    ended = v.across >> v.across_cycles - 1 & 1
    scaled = v.scale >> v.scale_cycles - 1 & 1
    ends = v.tree >> v.tree_cycles - 1 & v.tree_last >> v.tree_cycles - 1 & 1
    v.result = _shifted(v.result, scaled if averages else ended, v.result_cycles)
    v.scale = _shifted(v.scale, ended if averages else 0, v.scale_cycles)
    v.across = _shifted(v.across, ends, v.across_cycles)
    v.tree = _shifted(v.tree, enters, v.tree_cycles)
    v.tree_last = _shifted(v.tree_last, enters & last, v.tree_cycles)


@compiled
def _encoder_ready(v, o_ready):
    return v.full == 0 or (o_ready and not v.two)


@compiled
def _leave(v, plan, to_memory, items, o_ready):
    """The beat at the pipeline's end goes to memory, as it is or transposed. Whether it is
    taken."""
    wide = plan.c_wide or items
    slot = (v.head - v.latency + 1) % _PIPE
    i_valid = v.valid[slot] and to_memory
    ready = _encoder_ready(v, o_ready)
    if not plan.c_transposed and not items:
        _encode(v, i_valid, v.keep[slot], v.last[slot], wide, o_ready)
        return ready
    offers, words, ends = _turn_offers(v)
    taken = _turn_step(v, slot, i_valid, ready)
    _encode(v, offers, words, ends, wide, o_ready)
    return taken


@compiled
def vector_step(v, plan, current, reader, offered, o_ready):
    """One cycle; ``current``: the instruction of the lanes, ``offered``: a beat is there, with its
    Y, ``o_ready``: the chunk of results is taken. Whether the beat enters."""
    slot = (v.head - v.latency + 1) % _PIPE
    to_memory = plan.to_memory[current]
    leaves = v.valid[slot]
    stored = leaves and (to_memory or plan.to_buffer[current])
    taken = _leave(v, plan, to_memory, plan.items[current], o_ready)
    moves = not stored or not to_memory or taken
    v.stall = 0 if moves else 1
    reduces = 1 if leaves and moves and plan.reduces[current] else 0
    ends = v.last[slot] or plan.items[current]
    _reduce(v, reduces, ends if plan.of_rows[current] else 0, plan.averages[current])
    if not moves:
        return False
    v.head += 1
    slot = v.head % _PIPE
    v.valid[slot] = 1 if offered else 0
    v.inside += (1 if offered else 0) - leaves
    if offered:
        ends = reader.count <= v.lanes
        v.keep[slot], v.group[slot] = min(reader.count, v.lanes), reader.group
        v.last[slot] = 1 if ends and reader.word_last else 0
        v.row_last[slot] = 1 if ends and reader.word_row_end else 0
    return offered
