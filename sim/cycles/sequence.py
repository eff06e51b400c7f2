"""The sequencer: fetches the program, hands its commands to the units as they come free."""

import numpy as np

from hdl.spec.commands import COMMAND_BYTES, HEADER_BYTES, Opcode
from hdl.spec.timing import PLAN_LATENCY, UNITS
from sim.cycles.client import ask, client_ready
from sim.cycles.compiled import compiled
from sim.cycles.fields import arrays, ints

__all__ = ["DONE", "DRAIN", "FEEDER", "LOADER", "SEQUENCER", "WEIGHTS", "sequencer_step"]

LOADER, WEIGHTS, FEEDER, DRAIN = range(4)
(REQUEST_HEADER, HEADER, CHECK_HEADER, REQUEST, COMMAND, SCAN, CHECK, PLAN, DISPATCH, SETTLE,
 SCALARS, DONE) = range(12)
_SCALAR_BYTES = 2
_FENCE, _END, _GEMM = int(Opcode.FENCE), int(Opcode.END), int(Opcode.GEMM)

SEQUENCER = np.dtype([
    *ints("address state command wait asked awaited"), *arrays("due ready accepts", len(UNITS)),
    *ints("settled writer_idle feeder_idle filling")])
"""``ready``, ``settled`` and so on: the units as they stand before this cycle. ``accepts``: the
command that each takes in this cycle, or -1."""


@compiled
def _request(q, client, row_bytes, following):
    if client_ready(client):
        ask(client, q.address, row_bytes, 1, 0, q.command)
        q.state = following


@compiled
def _allowed(q, plan, unit):
    """Loader and array fill accumulation banks alternately, in program order; and a write error
    must belong to the command that drains."""
    if unit == LOADER:
        return plan.gemm == 1 or (q.feeder_idle == 1 and q.due[FEEDER] == 0)
    if unit == FEEDER:
        return q.filling == 0
    return unit == WEIGHTS or q.writer_idle == 1


@compiled
def _dispatch(q, plan):
    """Offer the command to the units that still lack it. Whether none did."""
    waits = False
    for unit in range(len(UNITS)):
        waits = waits or q.due[unit] != 0
    for unit in range(len(UNITS)):
        if q.due[unit] and q.ready[unit] and _allowed(q, plan, unit):
            q.accepts[unit] = q.command
    for unit in range(len(UNITS)):
        if q.accepts[unit] >= 0:
            q.due[unit] = 0
    return not waits


@compiled
def _following(q):
    q.address += COMMAND_BYTES
    q.command += 1
    q.state = REQUEST


@compiled
def _fetch(q, client):
    """Header and command are asked for and come in. Whether the client's chunk is taken."""
    if q.state == REQUEST_HEADER:
        _request(q, client, HEADER_BYTES, HEADER)
        return False
    if q.state == REQUEST:
        _request(q, client, COMMAND_BYTES, COMMAND)
        return False
    if q.state == CHECK_HEADER:
        q.address += HEADER_BYTES
        q.state = REQUEST
        return False
    if client.valid and client.last:
        q.state = CHECK_HEADER if q.state == HEADER else SCAN
    return client.valid


@compiled
def _decide(q, plan):
    """The check of the command, and its plan, which FENCE and END do not wait for."""
    if q.state == SCAN:
        q.wait, q.state = plan.check_cycles, CHECK
        return
    q.wait -= 1
    if q.state == PLAN and (plan.opcode == _FENCE or plan.opcode == _END):
        q.state = SETTLE
        return
    if q.wait != 0:
        return
    if q.state == CHECK:
        q.wait, q.state = PLAN_LATENCY + 1, PLAN
        return
    if plan.scalars:
        q.asked = q.awaited = plan.scalars
        q.state = SCALARS
    else:
        _hand_out(q, plan)


@compiled
def _hand_out(q, plan):
    for unit in range(len(UNITS)):
        q.due[unit] = 1 if plan.opcode == _GEMM or unit in (LOADER, DRAIN) else 0
    q.state = DISPATCH


@compiled
def _read_scalars(q, plan, client):
    """Ask for each word of scalars, and take what comes. Whether the client's chunk is taken."""
    came = client.valid
    if came:
        q.awaited -= 1
        if q.awaited == 0:
            _hand_out(q, plan)
    if q.asked and client_ready(client):
        # An item of two bytes is one beat, wherever it stands.
        ask(client, q.address, _SCALAR_BYTES, 1, 0, q.command)
        q.asked -= 1
    return came


@compiled
def _settle(q, plan):
    """FENCE and END, once nothing is in flight."""
    if not q.settled or not q.writer_idle:
        return
    if plan.opcode == _END:
        q.state = DONE
    else:
        _following(q)


@compiled
def sequencer_step(q, plans, client):
    """One cycle, before all units. Whether the program client's chunk is taken."""
    plan = plans[q.command]
    for unit in range(len(UNITS)):
        q.accepts[unit] = -1
    if q.state <= COMMAND:
        return _fetch(q, client)
    if q.state <= PLAN:
        _decide(q, plan)
    elif q.state == SCALARS:
        return _read_scalars(q, plan, client)
    elif q.state == SETTLE:
        _settle(q, plan)
    elif q.state == DISPATCH and _dispatch(q, plan):
        _following(q)
    return False
