"""The operand loader: pieces of A into the input banks, blocks of X into accumulation banks."""

import numpy as np

from hdl.spec.timing import INDEX_BYTES, TRANSFERS_AHEAD
from sim.cycles.client import ask, client_ready
from sim.cycles.compiled import compiled
from sim.cycles.fields import arrays, ints
from sim.cycles.gather import GATHER, gather_offers, gather_step, index_bytes
from sim.cycles.nest import (
    NEST,
    TOP,
    advanced,
    group,
    last,
    move,
    set_loop,
    size,
    take_command,
    valid,
)
from sim.cycles.stream import (
    FETCH,
    RESIZER,
    TRANSPOSER,
    fetch_step,
    resizer_output,
    resizer_ready,
    resizer_step,
    transposer_busy,
    transposer_ready,
    transposer_step,
)

__all__ = ["LOADER", "PULSES", "loader_filling", "loader_idle", "loader_step"]

_ROWS, _PASSES, _CHUNKS, _COLUMNS, _PANEL, _LINES = range(6)

LOADER = np.dtype([
    *ints("dim word_bytes element operand_depth plan ahead running starting"), ("nest", NEST),
    *ints("row_base column line along_m bank filled"), *arrays("taken", 2),
    # Transfers whose data are awaited.
    *arrays("rows closes to_bank", TRANSFERS_AHEAD), *ints("tail awaited row"),
    # While rows are gathered: whether the chunks that come next are indices, one bit per transfer.
    *ints("kinds kind_count"), ("gather", GATHER),
    *arrays("loaded", 2), ("resizer", RESIZER), ("fetch", FETCH), ("transposer", TRANSPOSER)])
PULSES = np.dtype(ints(
    "array_valid array_bank array_ends array_complete loader_valid loader_bank loader_complete "
    "claim released released_bank operand_released operand_bank weight_released weight_half"))
"""Signals between units within a cycle: words into the accumulation banks from array and
loader, a bank claimed, banks and halves that were read."""


@compiled
def loader_idle(u):
    return u.running == 0 and u.awaited == 0 and u.kind_count == 0 \
        and not transposer_busy(u.transposer)


@compiled
def loader_filling(u, plans):
    """Whether the plan in progress is a VECTOR."""
    return not loader_idle(u) and plans[u.plan].gemm == 0


@compiled
def _bytes(u, plan, count):
    wide = plan.gemm == 0 and plan.x_wide and u.element == 1
    return count * (2 if wide else u.element)


@compiled
def _begin(u, plan):
    """Blocks and their repetitions; spans of K, panels in them; in a panel, rows of A."""
    flip = plan.gemm and plan.a_transposed
    block = 1 << plan.block_log2
    # A whose K is one span stays for all chunks of its block; else each chunk loads it again.
    stays = plan.gemm and plan.resident
    nest = u.nest
    nest.depth = 6
    set_loop(nest, _ROWS, TOP, plan.m, block)
    set_loop(nest, _PASSES, TOP, 1 if stays else plan.passes, 1)
    set_loop(nest, _CHUNKS, TOP, plan.n, plan.chunk if plan.gemm and not stays else plan.n)
    set_loop(nest, _COLUMNS, TOP, plan.k if plan.gemm else plan.n,
             plan.k_span if plan.gemm else plan.chunk)
    set_loop(nest, _PANEL, _COLUMNS, 0, 0)
    set_loop(nest, _LINES, _ROWS, 0, u.dim if flip else block)
    u.along_m = block * u.element if flip else plan.a_stride << plan.block_log2
    if plan.x_gather:
        u.along_m = INDEX_BYTES << plan.block_log2


@compiled
def _group(u, plan):
    """Columns that are loaded together, all rows of each."""
    if not plan.gemm:
        return plan.chunk
    if plan.a_transposed:
        return u.dim
    return group(u, plan)


@compiled
def _walk(u, plan, go):
    """The nest moves, and the addresses with it."""
    nest = u.nest
    flip = plan.gemm and plan.a_transposed
    along_k = plan.a_stride * u.dim if flip else _bytes(u, plan, size(nest, _PANEL))
    event = move(nest, u.starting, go)
    nest.step[_PANEL] = _group(u, plan)
    if event == _ROWS:
        u.row_base = plan.b_address if plan.x_gather else plan.a_address
    if advanced(nest, event, _ROWS):
        u.row_base += u.along_m
    if event == _COLUMNS:
        u.column = 0
    if advanced(nest, event, _COLUMNS) or advanced(nest, event, _PANEL):
        u.column += along_k
    if event == _LINES:
        u.line = 0
    if advanced(nest, event, _LINES):
        u.line += u.word_bytes


@compiled
def _request(u, plan, client, banks, pulses):
    """Ask for a piece as soon as its bank is free, whatever is still in flight; of gathered rows
    one by one, and for their indices.

    Whether the nest moves on, data are awaited anew, and the gatherer's offer is taken.
    """
    nest, gather = u.nest, u.gather
    opens = nest.first[_PANEL] and nest.first[_LINES]
    free = not u.taken[u.bank] if plan.gemm else not banks.busy[banks.fill_bank]
    piece = valid(nest) and (free or not opens)
    room = u.awaited != TRANSFERS_AHEAD and u.kind_count <= TRANSFERS_AHEAD \
        and client_ready(client)
    lines, columns = size(nest, _LINES), size(nest, _PANEL)
    address = u.row_base + u.column + u.line
    if plan.x_gather:
        kind = gather_offers(gather)
        if not room or kind == 0:
            return False, False, False
        if kind == 1:
            ask(client, gather.address, index_bytes(gather), 1, 0, u.plan)
            return False, False, True
        address = plan.a_address + u.column + (plan.k - 1) * plan.a_stride
        opens, ends, lines = opens and gather.first, gather.left == 1, 1
    elif not piece or not room:
        return False, False, False
    else:
        ends = True
    if plan.gemm and plan.a_transposed:
        lines, columns = columns, lines
    ask(client, address, _bytes(u, plan, columns), lines, plan.a_stride, u.plan)
    if opens:
        u.filled = u.bank if plan.gemm else banks.fill_bank
        if plan.gemm:
            u.taken[u.bank] = 1
            u.bank ^= 1
        else:
            pulses.claim = 1
    slot = u.tail % TRANSFERS_AHEAD
    u.rows[slot], u.to_bank[slot] = lines, u.filled
    u.closes[slot] = 1 if ends and last(nest, _PANEL) and last(nest, _LINES) else 0
    return ends, True, True


@compiled
def _gather(u, plan, banks, taken, words):
    """The gatherer's cycle, and which chunks are indices. ``words``: some come in."""
    nest, gather = u.nest, u.gather
    kind = gather_offers(gather)
    if taken:
        u.kinds |= (1 if kind == 1 else 0) << u.kind_count
        u.kind_count += 1
    opens = nest.first[_PANEL] and nest.first[_LINES]
    begins = valid(nest) and (not opens or not banks.busy[banks.fill_bank])
    gather_step(gather, begins, size(nest, _LINES), u.row_base, plan.k, u.word_bytes, taken, words)


@compiled
def _receive(u, plan, client, pulses):
    """Words of A to an input bank as stored or transposed, those of X to an accumulation bank.

    Whether the chunk at the client is taken, a transfer ends, the input bank that takes a word or
    -1, and whether the chunk holds indices.
    """
    slot = (u.tail - u.awaited) % TRANSFERS_AHEAD
    offered, width, ends = resizer_output(u.resizer, client.valid, client.size, client.last)
    bank = -1
    if plan.gemm == 0:
        if u.fetch.full:
            pulses.loader_valid, pulses.loader_bank = 1, u.to_bank[slot]
        row_end = u.fetch.full and u.fetch.last
    else:
        row_end = offered and (ends or plan.a_transposed)
    if plan.gemm and plan.a_transposed:
        if u.transposer.waiting:
            bank = u.transposer.out_tag
        row_end = row_end and transposer_ready(u.transposer)
    elif plan.gemm and offered:
        bank = u.to_bank[slot]
    end = row_end and u.row + 1 == u.rows[slot]
    if end and u.closes[slot] and plan.gemm == 0:
        pulses.loader_complete = 1
    ready = True
    index = plan.x_gather and u.kinds & 1
    if plan.gemm == 0:
        ready = fetch_step(u.fetch, 1 if offered and not index else 0, ends, True,
                           plan.x_wide and u.element == 1)
        ready = ready or index
    elif plan.a_transposed:
        ready = transposer_ready(u.transposer)
        transposer_step(u.transposer, offered, 1 if end else 0, width // u.element,
                        u.to_bank[slot], True)
    if plan.x_gather and offered and ends and ready:
        u.kinds >>= 1
        u.kind_count -= 1
    if row_end:
        u.row = 0 if end else u.row + 1
    taken = resizer_ready(u.resizer, ready)
    resizer_step(u.resizer, client.valid, client.size, client.last, ready)
    return taken, end, bank, offered and index


@compiled
def loader_step(u, plans, accept, client, banks, pulses):
    """One cycle; ``accept``: the command that is handed over, or -1. Whether the client's chunk is
    taken."""
    plan = plans[u.plan]
    go, asked, offer_taken = _request(u, plan, client, banks, pulses)
    taken, end, bank, words = _receive(u, plan, client, pulses)
    if plan.x_gather:
        _gather(u, plan, banks, offer_taken, words)
    if pulses.operand_released:
        u.taken[pulses.operand_bank] = 0
        u.loaded[pulses.operand_bank] = 0
    if bank >= 0:
        u.loaded[bank] += 1
    if asked:
        u.tail += 1
        u.awaited += 1
    if end:
        u.awaited -= 1
    idle = u.nest.idle
    _walk(u, plan, go)
    if take_command(u, accept, idle):
        _begin(u, plans[accept])
    return taken
