"""Weights: the loader of panels of B, and the shifter that takes their tiles into the array."""

import numpy as np

from sim.cycles.client import ask, client_ready
from sim.cycles.compiled import compiled
from sim.cycles.fields import arrays, ints
from sim.cycles.nest import (
    NEST,
    TOP,
    advanced,
    last,
    move,
    set_loop,
    set_panels,
    size,
    take_command,
    valid,
)
from sim.cycles.stream import RESIZER, resizer_output, resizer_ready, resizer_step

__all__ = ["SHIFTER", "WEIGHTS", "shifter_step", "weights_idle", "weights_step"]

_ROWS, _PASSES, _CHUNK, _SPAN, _PANEL_N, _PANEL_K = range(6)

WEIGHTS = np.dtype([
    *ints("first_panel element ahead plan running starting"), ("nest", NEST),
    *ints("n_offset n_chunk k_offset k_span half to_half"),
    # Of each half: it holds a panel or waits for one, its data are awaited, rows that are in.
    *arrays("held pending rows k n transposed", 2), ("resizer", RESIZER)])
SHIFTER = np.dtype([
    *ints("dim half k_tile n_tile shifting line ready final released_half starved asked"),
    ("nest", NEST)])


@compiled
def weights_idle(u):
    return u.running == 0 and u.pending[0] == 0 and u.pending[1] == 0


@compiled
def _begin(u, plan):
    nest = u.nest
    nest.depth = 6
    set_panels(nest, plan)
    set_loop(nest, _PANEL_K, _SPAN, 0, 0)


@compiled
def _offset(nest, event, outer, inner, offset, base, step):
    """Bytes to the current panel along one side, and to the first of its span, after ``event``:
    ``outer`` is the loop over spans, ``inner`` that over the panels of one."""
    if event == outer:
        return offset, 0
    if advanced(nest, event, outer):
        return offset, offset + step
    if event == inner:
        return base, base
    return offset + step if advanced(nest, event, inner) else offset, base


@compiled
def _depth(u, plan):
    """Elements of K in the panel: few where the array waits for the first of a line of B stored
    N×K."""
    first = u.nest.first
    waits = not u.ahead and plan.b_transposed and first[_ROWS] and first[_PASSES] \
        and first[_CHUNK] and first[_SPAN]
    return u.first_panel if waits else plan.k_panel


@compiled
def _walk(u, plan, go):
    """The nest moves, and with it the bytes from B to the current panel."""
    nest = u.nest
    # A chunk may be narrower than a panel, a span shallower.
    k, n = min(nest.step[_PANEL_K], plan.k_span), min(plan.n_panel, plan.chunk)
    along_k = k * (u.element if plan.b_transposed else plan.b_stride)
    along_n = n * (plan.b_stride if plan.b_transposed else u.element)
    event = move(nest, u.starting, go)
    nest.step[_PANEL_K] = _depth(u, plan)
    u.n_offset, u.n_chunk = _offset(nest, event, _CHUNK, _PANEL_N, u.n_offset, u.n_chunk, along_n)
    u.k_offset, u.k_span = _offset(nest, event, _SPAN, _PANEL_K, u.k_offset, u.k_span, along_k)


@compiled
def _request(u, plan, client):
    """Ask for the next panel if its half is free. Whether so."""
    if not valid(u.nest) or u.held[u.half] or not client_ready(client):
        return False
    k, n = size(u.nest, _PANEL_K), size(u.nest, _PANEL_N)
    rows, line = (n, k) if plan.b_transposed else (k, n)
    ask(client, plan.b_address + u.n_offset + u.k_offset, line * u.element, rows,
        plan.b_stride, u.plan)
    return True


@compiled
def weights_step(u, plans, accept, client, pulses):
    """One cycle, after ``shifter_step``. Whether the client's chunk is taken."""
    plan = plans[u.plan]
    go = _request(u, plan, client)
    k, n, half = size(u.nest, _PANEL_K), size(u.nest, _PANEL_N), u.to_half
    offered, _, ends = resizer_output(u.resizer, client.valid, client.size, client.last)
    rows = u.n[half] if u.transposed[half] else u.k[half]
    row_end = offered and ends
    panel_end = row_end and u.rows[half] + 1 == rows
    taken = resizer_ready(u.resizer, True)
    resizer_step(u.resizer, client.valid, client.size, client.last, True)
    if pulses.weight_released:
        u.held[pulses.weight_half] = 0
        u.rows[pulses.weight_half] = 0
    if row_end:
        u.rows[half] += 1
    if panel_end:
        u.to_half ^= 1
        u.pending[half] = 0
    if go:
        u.held[u.half] = u.pending[u.half] = 1
        u.k[u.half], u.n[u.half] = k, n
        u.transposed[u.half] = plan.b_transposed
        u.half ^= 1
    idle = u.nest.idle
    _walk(u, plan, go)
    if take_command(u, accept, idle):
        _begin(u, plans[accept])
    return taken


@compiled
def shifter_step(s, u, swap, pulses):
    """One cycle; ``swap``: the array takes the tile that waits. Reads ``u``, the loader, as it was
    before this cycle. D cycles shift a tile in; the walk is one tile ahead."""
    nest, half = s.nest, s.half
    lines = s.n_tile if u.transposed[half] else s.k_tile
    more = size(nest, 1) if u.transposed[half] else size(nest, 0)
    wanted = s.shifting == 0 and (s.ready == 0 or swap)
    begin = wanted and valid(nest) and u.rows[half] >= lines * s.dim + more
    closes = begin and last(nest, 0) and last(nest, 1)
    s.starved = 1 if wanted and not begin else 0
    start = nest.idle and u.held[half]
    if start:
        nest.depth = 2
        set_loop(nest, 0, TOP, u.k[half], s.dim)
        set_loop(nest, 1, TOP, u.n[half], s.dim)
    event = move(nest, start, begin)
    if event == 0:
        s.k_tile = 0
    elif advanced(nest, event, 0):
        s.k_tile += 1
    elif event == 1:
        s.n_tile = 0
    elif advanced(nest, event, 1):
        s.n_tile += 1
    if swap:
        s.ready = 0
    if begin:
        s.shifting, s.line, s.final = 1, s.dim - 2, 1 if closes else 0
    elif s.shifting:
        if s.line == 0:
            s.shifting, s.ready = 0, 1
            if s.final:
                pulses.weight_released, pulses.weight_half = 1, s.released_half
                s.released_half ^= 1
        s.line -= 1
    if closes:
        s.half ^= 1
