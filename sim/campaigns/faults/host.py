"""Faults of the host: stops, resets and starts at random cycles, limits, stray accesses."""

from hdl.spec.commands import ErrorCause
from sim.campaigns.faults.injection import SOFT_RESET, START, STOP, Action, Injection, Maker, kind


def _moment(make: Maker) -> int:
    """A cycle of the program, rarely one shortly after it."""
    return make.below(make.target.cycles + 20)


@kind("STOP at a random cycle", 4)
def _stop(make: Maker) -> Injection:
    return Injection(make.target, action=Action(_moment(make), STOP),
                     errors=frozenset({(), (ErrorCause.STOPPED,)}), addresses=make.target.addresses)


@kind("watchdog at a random limit", 4)
def _watchdog(make: Maker) -> Injection:
    return Injection(make.target, watchdog=1 + _moment(make),
                     errors=frozenset({(), (ErrorCause.WATCHDOG,)}),
                     addresses=make.target.addresses)


@kind("soft reset at a random cycle", 4)
def _soft_reset(make: Maker) -> Injection:
    return Injection(make.target, action=Action(_moment(make), SOFT_RESET))


@kind("reset at a random cycle", 4)
def _reset(make: Maker) -> Injection:
    return Injection(make.target, action=Action(_moment(make), None), traffic=make.flag())


@kind("START while busy", 2)
def _start(make: Maker) -> Injection:
    return Injection(make.target, action=Action(_moment(make), START))


@kind("CSR accesses at random", 6)
def _traffic(make: Maker) -> Injection:
    return Injection(make.target, traffic=True, complete=make.target.end)
