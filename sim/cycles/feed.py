"""The feeder: rows of operands through the array, and the accumulation banks that take the sums."""

import numpy as np

from hdl.spec.timing import REPEAT_CYCLES
from sim.cycles.compiled import compiled
from sim.cycles.fields import arrays, ints
from sim.cycles.nest import (
    NEST,
    advanced,
    group,
    last,
    move,
    set_loop,
    set_panels,
    size,
    take_command,
    valid,
)

__all__ = ["BANKS", "FEEDER", "TOKENS", "banks_step", "feeder_step"]

(_ROWS, _PASSES, _CHUNK, _SPAN, _PANEL_N, _GROUP, _K, _N) = range(8)
TOKENS = 512
"""Longest latency of a row from the input bank to the count of words that may be drained."""

_TILE = ints("x x_pitch rows x_bank bank column last short release")
FEEDER = np.dtype([
    *ints("dim operand_depth plan ahead running starting"), ("nest", NEST),
    *ints("x_base x_index bank x_bank"),
    ("head_valid", "i8"), ("head", _TILE), ("body_valid", "i8"), ("body", _TILE),
    *ints("ended waited"),
    # What the other units and the counters see of a cycle.
    *ints("swap row hungry lacking stall_input stall_weight stall_accumulator"),
    # Rows in flight through array, adders and row maxima; 0: none.
    ("token_delay", "i8"), *arrays("tokens", TOKENS)])
BANKS = np.dtype([
    ("fill_bank", "i8"), *arrays("busy ready lines words", 2)])
"""``lines``, ``words``: lines complete, words of the next; a line is a column tile from the array,
all words from memory."""
_BANK, _ENDS, _COMPLETE, _VALID = 1, 2, 4, 8


@compiled
def _begin(u, plan):
    nest = u.nest
    nest.depth = 8
    set_panels(nest, plan)
    set_loop(nest, _GROUP, _SPAN, 0, 0)
    set_loop(nest, _K, _GROUP, 0, u.dim)
    set_loop(nest, _N, _PANEL_N, 0, u.dim)


@compiled
def _walk(u, plan, go):
    """The nest moves, and with it the input word of the tile's first row."""
    nest = u.nest
    event = move(nest, u.starting, go)
    if event == _GROUP:
        u.x_base = 0
    # Where there are several groups in a bank, they are those that the array waits for.
    if advanced(nest, event, _GROUP):
        u.x_base += size(nest, _ROWS) * u.operand_depth
    nest.step[_GROUP] = group(u, plan)
    if event == _K:
        u.x_index = u.x_base
    if advanced(nest, event, _K):
        u.x_index += size(nest, _ROWS) if plan.a_transposed else 1


@compiled
def _all_last(nest, low):
    """Whether all loops from ``low`` to the innermost are in their last spans."""
    for index in range(low, 8):
        if not last(nest, index):
            return False
    return True


@compiled
def _next_tile(u, plan, banks, pulses, swap):
    """Plan → tile: the first of a chunk waits for an accumulation bank. Whether one is taken.

    Its opening claims the bank; ``stall_accumulator`` where nothing else holds it up.
    """
    nest = u.nest
    if not valid(nest):
        return False
    first_k = nest.first[_SPAN] and nest.first[_GROUP] and nest.first[_K]
    opens = first_k and nest.first[_PANEL_N] and nest.first[_N]
    if opens and banks.busy[banks.fill_bank]:
        u.stall_accumulator = 1 if u.running and not u.body_valid and not u.head_valid else 0
        return False
    if u.head_valid and not swap:
        return False
    if opens:
        pulses.claim = 1
        u.bank = banks.fill_bank
    closes_span = _all_last(nest, _PANEL_N)
    closes_chunk = closes_span and last(nest, _SPAN)
    head = u.head
    head.x, head.rows, head.bank, head.x_bank = u.x_index, size(nest, _ROWS), u.bank, u.x_bank
    head.x_pitch = 1 if plan.a_transposed else -(-size(nest, _GROUP) // u.dim)
    head.short = 1 if head.rows < REPEAT_CYCLES else 0
    head.column = 1 if last(nest, _SPAN) and last(nest, _GROUP) and last(nest, _K) else 0
    head.last = 1 if closes_chunk else 0
    closes_block = closes_span
    if plan.resident:
        closes_block = closes_chunk and last(nest, _CHUNK) and last(nest, _PASSES)
    head.release = 1 if closes_block else 0
    if closes_block:
        u.x_bank ^= 1
    return True


@compiled
def _copy(to, tile):
    to.x, to.x_pitch, to.rows, to.x_bank = tile.x, tile.x_pitch, tile.rows, tile.x_bank
    to.bank, to.column, to.last = tile.bank, tile.column, tile.last
    to.short, to.release = tile.short, tile.release


@compiled
def feeder_step(u, plans, accept, cycle, ready, loaded, banks, pulses):
    """One cycle; ``ready``: a tile of weights waits. ``loaded``: words in the input banks."""
    body = u.body
    mask = (1 << REPEAT_CYCLES - 1) - 1
    early = body.short and u.ended & mask
    feeding = u.body_valid and not early and body.x < loaded[body.x_bank]
    ending = feeding and body.rows == 1
    swap = u.head_valid and ready and (not u.body_valid or ending)
    u.swap, u.row = 1 if swap else 0, 1 if feeding else 0
    u.stall_input = 1 if u.body_valid and not feeding and not early else 0
    u.stall_weight = 1 if u.running and not u.body_valid and u.head_valid and not ready else 0
    u.stall_accumulator = 0
    u.hungry = 1 if u.waited or u.stall_input else 0
    u.lacking = 1 if u.head_valid and not u.body_valid \
        and loaded[u.head.x_bank] < u.head.rows else 0
    u.waited = 1 if u.hungry and not swap else 0
    u.ended = (u.ended << 1 | (1 if ending else 0)) & mask
    token = 0
    if feeding and body.column:
        token = _VALID | body.bank * _BANK
        if ending:
            token |= _ENDS | body.last * _COMPLETE
    u.tokens[(cycle + u.token_delay) % TOKENS] = token
    if ending and body.release:
        pulses.operand_released, pulses.operand_bank = 1, body.x_bank
    settled = u.nest.idle and not u.head_valid and not u.body_valid
    if swap:
        _copy(body, u.head)
    elif feeding:
        body.x += body.x_pitch
        body.rows -= 1
    take = _next_tile(u, plans[u.plan], banks, pulses, swap)
    _walk(u, plans[u.plan], take)
    u.body_valid = 1 if swap or (u.body_valid and not ending) else 0
    u.head_valid = 1 if take or (u.head_valid and not swap) else 0
    if take_command(u, accept, settled):
        _begin(u, plans[accept])


@compiled
def banks_step(b, token, pulses):
    """One cycle, after all units; ``token``: the row that came out of the array, or 0."""
    if token:
        bank = token & _BANK
        b.words[bank] += 1
        b.ready[bank] = 1 if token & _COMPLETE else 0
        if token & _ENDS:
            b.words[bank] = 0
            b.lines[bank] += 1
    if pulses.loader_valid:
        b.words[pulses.loader_bank] += 1
        b.ready[pulses.loader_bank] = pulses.loader_complete
    if pulses.claim:
        b.busy[b.fill_bank] = 1
        b.fill_bank ^= 1
    if pulses.released:
        bank = pulses.released_bank
        b.busy[bank] = b.ready[bank] = b.lines[bank] = b.words[bank] = 0
