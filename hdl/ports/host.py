"""Signals between the host's registers and the sequencer."""

from amaranth.lib.wiring import In, Out

from hdl.ports.parametric import Parametric
from hdl.spec.commands import ErrorCause
from hdl.spec.registers import CLIENTS

__all__ = ["Failure", "ProgramPort"]


class Failure(Parametric):
    """Why a program ends early, seen from the sequencer.

    Members
    -------
    causes: Out, pulses, one bit per ``ErrorCause``; the others belong to them.
    address: Out(64), of the header or command.
    client: Out, where the bus failed, whose transfer: one of ``hdl.spec.registers.CLIENTS``.
    response: Out(2), where the bus failed, its answer.
    """

    def __init__(self) -> None:
        super().__init__({}, {
            "causes": Out(max(ErrorCause) + 1), "address": Out(64),
            "client": Out(range(len(CLIENTS))), "response": Out(2)})


class ProgramPort(Parametric):
    """The sequencer as the host's registers have it.

    Members
    -------
    start, stop, soft_reset: Out(1), pulses; ``start`` comes only while neither ``busy`` nor
        ``bus_stuck`` nor in a soft reset, ``stop`` only while ``busy``.
    address: Out(64), of the program.
    watchdog_limit: Out(32), most cycles that it may run, 0 for any number.
    busy, bus_stuck: In(1), state.
    done, failed: In(1), pulses, the program ended well, or with an error.
    failure: In(``Failure``).
    reset_done: In(1), a soft reset has nothing (more) to wait for: ``done``, ``failed`` and
        ``failure`` of the program that it stopped have come, or come in this cycle.
    """

    def __init__(self) -> None:
        super().__init__({}, {
            "start": Out(1), "stop": Out(1), "soft_reset": Out(1),
            "address": Out(64), "watchdog_limit": Out(32),
            "busy": In(1), "bus_stuck": In(1), "done": In(1), "failed": In(1),
            "failure": In(Failure()), "reset_done": In(1)})
