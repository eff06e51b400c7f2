"""The clock of the cycle model: every unit steps once per cycle, consumers before producers."""

import numpy as np

from hdl.spec.timing import READERS, UNITS
from sim.cycles.block import beat_offered, read_block
from sim.cycles.compiled import compiled, entry
from sim.cycles.drain import DRAIN, IDLE, drain_step
from sim.cycles.dram import DRAM, dram_step
from sim.cycles.feed import BANKS, FEEDER, TOKENS, banks_step, feeder_step
from sim.cycles.fields import LANES, ints
from sim.cycles.load import LOADER, PULSES, loader_filling, loader_idle, loader_step
from sim.cycles.read import READ, granted_to, read_step
from sim.cycles.sequence import DONE, SEQUENCER, sequencer_step
from sim.cycles.stream import (
    FETCH,
    RESIZER,
    fetch_step,
    resizer_output,
    resizer_ready,
    resizer_step,
)
from sim.cycles.vector import (
    VECTOR,
    output_offers,
    vector_idle,
    vector_settled,
    vector_step,
)
from sim.cycles.weights import SHIFTER, WEIGHTS, shifter_step, weights_idle, weights_step
from sim.cycles.write import WRITE, command_ready, packer_ready, write_step, writer_idle

__all__ = ["COUNTS", "MACHINE", "run"]

_READ, _ARRAY, _VECTOR, _WRITE = range(4)
COUNTS = np.dtype([
    *ints("start end tiles array_rows stall_input stall_weight stall_accumulator vector_beats "
          "stall_vector stall_operand read_bursts read_beats write_beats"),
    ("first", "i8", len(LANES)), ("last", "i8", len(LANES))])
"""Of one command; ``first``, ``last``: the cycles in which each lane began and ended its work."""

MACHINE = np.dtype([
    ("sequencer", SEQUENCER), ("read", READ), ("write", WRITE), ("dram", DRAM), ("loader", LOADER),
    ("weights", WEIGHTS), ("shifter", SHIFTER), ("feeder", FEEDER), ("banks", BANKS),
    ("drain", DRAIN), ("vector", VECTOR), ("fetch", FETCH), ("y_resizer", RESIZER),
    ("c_resizer", RESIZER), ("pulses", PULSES), *ints("cycle active")])

_PROGRAM, _OPERANDS, _WEIGHTS, _Y = range(len(READERS))


@compiled
def _look(s, plans):
    """Note how the units stand before this cycle. Whether any holds a command or a write."""
    q, drain = s.sequencer, s.drain
    loader, weights = loader_idle(s.loader), weights_idle(s.weights)
    drained = drain.state == IDLE and vector_settled(s.vector)
    q.ready[0], q.ready[1] = loader, weights
    q.ready[2], q.ready[3] = s.feeder.running == 0, drained
    q.feeder_idle, q.filling = s.feeder.running == 0, loader_filling(s.loader, plans)
    q.writer_idle = writer_idle(s.write)
    q.settled = loader and weights and q.feeder_idle and drained
    return not q.settled or not q.writer_idle


@compiled
def _touch(counts, command, lane, cycle):
    row = counts[command]
    if row.first[lane] < 0:
        row.first[lane] = cycle
    row.last[lane] = cycle


@compiled
def _results(s, plans, counts):
    """From the lanes to memory. Whether the chunk of results after the lanes is taken."""
    w, r, cycle = s.write, s.c_resizer, s.cycle
    plan = plans[s.drain.plan]
    if w.b_valid:
        counts[w.b_tag].end = cycle
    wide = plan.c_wide or plan.items[s.drain.current]
    i_valid, i_size, i_last = output_offers(s.vector, wide)
    offered, _, _ = resizer_output(r, i_valid, i_size, i_last)
    ready = packer_ready(w)
    command = write_step(w, cycle, offered)
    if command >= 0:
        counts[command].write_beats += 1
        _touch(counts, command, _WRITE, cycle)
    taken = resizer_ready(r, ready)
    resizer_step(r, i_valid, i_size, i_last, ready)
    return taken


@compiled
def _last_for_y(drain, plan):
    """Whether the beat that is offered is the last that the Y with it is for: of one item a row
    the row's, in its strip or, streamed, altogether."""
    r = drain.reader
    if not (plan.y1_column if plan.second_y[drain.current] else plan.y0_column):
        return True
    if r.count > drain.lanes:
        return False
    whole = plan.streamed and not r.tiled
    return (r.word_last if whole else r.word_row_end) != 0


@compiled
def _lanes(s, plans, counts, results_go):
    """A beat from the bank, with its Y, into the lanes. Whether the y client's chunk is taken,
    and whether the block ends."""
    drain, fetch, client = s.drain, s.fetch, s.read.clients[_Y]
    plan, row = plans[drain.plan], counts[drain.plan]
    uses_y = plan.uses_y[drain.current]
    beat = beat_offered(drain)
    offered = beat and (not uses_y or fetch.full)
    entered = vector_step(s.vector, plan, drain.current, drain.reader, offered, results_go)
    row.stall_vector += s.vector.stall
    row.stall_operand += 1 if beat and not offered else 0
    if entered:
        row.vector_beats += 1
        row.end = max(row.end, s.cycle)
        _touch(counts, drain.plan, _VECTOR, s.cycle)
    i_valid, _, i_last = resizer_output(s.y_resizer, client.valid, client.size, client.last)
    second = plan.second_y[drain.coming]
    wide = drain.element == 1 and (plan.y1_wide if second else plan.y0_wide)
    # Y goes with the beat where the lanes move, even where only Y were there.
    goes = uses_y and beat and not s.vector.stall and _last_for_y(drain, plan)
    ready = fetch_step(fetch, i_valid, i_last, goes, wide)
    taken = resizer_ready(s.y_resizer, ready)
    resizer_step(s.y_resizer, client.valid, client.size, client.last, ready)
    read_block(drain, s.banks, entered)
    return taken


@compiled
def _feed(s, plans, counts, accept):
    """A row into the array."""
    u, plan = s.feeder, s.feeder.plan
    feeder_step(u, plans, accept, s.cycle, s.shifter.ready, s.loader.loaded, s.banks, s.pulses)
    shifter_step(s.shifter, s.weights, u.swap, s.pulses)
    row = counts[plan]
    row.tiles += u.swap
    row.array_rows += u.row
    row.stall_input += u.stall_input
    row.stall_weight += u.stall_weight
    row.stall_accumulator += u.stall_accumulator
    if u.row:
        _touch(counts, plan, _ARRAY, s.cycle)


@compiled
def _urgent(s):
    """A tile cannot start without weights; once its lines are asked for, its rows matter."""
    u, shifter = s.feeder, s.shifter
    weights = shifter.starved and shifter.asked != shifter.dim and not u.hungry
    operands = u.hungry or (u.lacking and not weights)
    return (1 << _OPERANDS if operands else 0) | (1 << _WEIGHTS if weights else 0)


@compiled
def _step(s, plans, counts):
    q, read, pulses = s.sequencer, s.read, s.pulses
    if _look(s, plans):
        s.active += 1
    drain = s.drain
    lanes_idle = vector_idle(s.vector)
    settled = vector_settled(s.vector)
    pulses.claim = pulses.released = pulses.operand_released = pulses.weight_released = 0
    pulses.loader_valid = pulses.loader_complete = 0
    taken = 1 if sequencer_step(q, plans, read.clients[_PROGRAM]) else 0
    for unit in range(len(UNITS)):
        command = q.accepts[unit]
        if command >= 0 and counts[command].start < 0:
            counts[command].start = s.cycle
    if q.accepts[0] >= 0:
        s.loader.ahead = 1 if q.due[2] else 0
    if q.accepts[1] >= 0:
        s.weights.ahead = 1 if q.due[2] else 0
    if q.accepts[2] >= 0:
        s.feeder.ahead = 0 if q.due[0] else s.loader.ahead
    results_go = _results(s, plans, counts)
    write_ready = command_ready(s.write)
    if _lanes(s, plans, counts, results_go):
        taken |= 1 << _Y
    _feed(s, plans, counts, q.accepts[2])
    drain_step(drain, plans, q.accepts[3], lanes_idle, settled, read.clients[_Y], s.write,
               write_ready, pulses)
    urgent = _urgent(s)
    if loader_step(s.loader, plans, q.accepts[0], read.clients[_OPERANDS], s.banks, pulses):
        taken |= 1 << _OPERANDS
    if weights_step(s.weights, plans, q.accepts[1], read.clients[_WEIGHTS], pulses):
        taken |= 1 << _WEIGHTS
    command = read_step(read, s.cycle, urgent, taken)
    if command >= 0:
        counts[command].read_beats += 1
        _touch(counts, command, _READ, s.cycle)
    if read.granted >= 0:
        counts[granted_to(read)].read_bursts += 1
    if s.shifter.starved == 0:
        s.shifter.asked = 0
    elif read.granted == _WEIGHTS and s.shifter.asked != s.shifter.dim:
        s.shifter.asked += 1
    banks_step(s.banks, s.feeder.tokens[s.cycle % TOKENS], pulses)
    if s.dram.there:
        dram_step(s.dram, read, s.write, s.cycle)
    s.cycle += 1


@entry
def run(machine, plans, counts, limit):
    """Until the program ends, or ``limit`` cycles. Whether it ended."""
    s = machine[0]
    while s.sequencer.state != DONE and s.cycle < limit:
        _step(s, plans, counts)
    return s.sequencer.state == DONE
