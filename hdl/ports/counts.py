"""What the performance counters count."""

from amaranth.lib.wiring import Out

from hdl.ports.parametric import Parametric
from hdl.spec.registers import COUNTED_BY

__all__ = ["AllCounts", "Counts", "increment_bits"]

_RESULTS = ("SATURATIONS", "NARS")


def increment_bits(name: str) -> int:
    """Bits of what a counter grows by in a cycle: up to 128 results, or one of anything else."""
    return 8 if name in _RESULTS else 1


class Counts(Parametric):
    """By what the counters of one source grow in this cycle, seen from it.

    Members
    -------
    one for each counter of ``source`` (``hdl.spec.registers.COUNTED_BY``), in lower case:
        Out(``increment_bits`` of it).

    Raises
    ------
    ValueError: ``source`` counts nothing.
    """

    def __init__(self, source: str) -> None:
        if source not in COUNTED_BY:
            raise ValueError(f"source must be one of {', '.join(COUNTED_BY)}, not {source!r}")
        super().__init__({"source": source}, {
            name.lower(): Out(increment_bits(name)) for name in COUNTED_BY[source]})


class AllCounts(Parametric):
    """``Counts`` of all sources, by their names."""

    def __init__(self) -> None:
        super().__init__({}, {source: Out(Counts(source)) for source in COUNTED_BY})
