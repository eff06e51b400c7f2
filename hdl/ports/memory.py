"""How units reach memory: rows of bytes that they ask for, and what the engines owe in return."""

from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.ports.beat import beat_layout
from hdl.ports.parametric import Parametric
from hdl.ports.transfer import TRANSFER

__all__ = ["BusFailure", "EnginePort", "ReadClient", "ReadPort", "WritePort"]


class ReadPort(Parametric):
    """Rows read from memory, seen from the unit that asks for them.

    Members
    -------
    transfer: Out(stream of ``TRANSFER``), what is asked for.
    beats: In(stream of ``beat_layout``), its rows, each from byte 0 on, in the order asked for.

    Raises
    ------
    ValueError: ``nbytes``, the bytes of a beat, is not a positive integer.
    """

    def __init__(self, nbytes: int, members: dict[str, wiring.Member] | None = None) -> None:
        super().__init__({"nbytes": nbytes}, {
            "transfer": Out(stream.Signature(TRANSFER)),
            "beats": In(stream.Signature(beat_layout(nbytes))), **(members or {})})


class ReadClient(ReadPort):
    """A ``ReadPort`` of the read engine itself, which arbitrates between clients.

    Members
    -------
    urgent: Out(1), this client goes before those that are not.
    granted: In(1), pulse, a burst of this client is requested.
    """

    def __init__(self, nbytes: int) -> None:
        super().__init__(nbytes, {"urgent": Out(1), "granted": In(1)})


class WritePort(Parametric):
    """Rows written to memory, seen from the unit that has them.

    Members
    -------
    transfer: Out(stream of ``TRANSFER``), where they go.
    beats: Out(stream of ``beat_layout``), the rows, each from byte 0 on.

    Raises
    ------
    ValueError: ``nbytes``, the bytes of a beat, is not a positive integer.
    """

    def __init__(self, nbytes: int) -> None:
        super().__init__({"nbytes": nbytes}, {
            "transfer": Out(stream.Signature(TRANSFER)),
            "beats": Out(stream.Signature(beat_layout(nbytes)))})


class BusFailure(Parametric):
    """What the bus answered that is not OKAY, seen from the memory engine.

    Members
    -------
    valid: Out(1), pulse.
    response: Out(2), the answer, with ``valid``.
    """

    def __init__(self) -> None:
        super().__init__({}, {"valid": Out(1), "response": Out(2)})


class EnginePort(Parametric):
    """A memory engine as the sequencer has it.

    Members
    -------
    flush: Out(1), drop what is in flight and take nothing, until it is low and ``quiet`` is high.
    quiet: In(1), nothing is outstanding on the bus.
    moved: In(1), a beat of data was transferred on the bus.
    answered: In(1), pulse, a burst was answered that brings no data.
    unasked: In(1), pulse, the bus transferred what answers no request, or ended a burst at another
        beat than its last: what it gives from now on is not to be trusted.
    failure: In(``BusFailure``).
    """

    def __init__(self) -> None:
        super().__init__({}, {"flush": Out(1), "quiet": In(1), "moved": In(1),
                              "answered": In(1), "unasked": In(1), "failure": In(BusFailure())})
