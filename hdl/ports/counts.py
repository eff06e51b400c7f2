"""What the performance counters count."""

from amaranth.lib.wiring import Out

from hdl.ports.parametric import Parametric
from hdl.spec.registers import COUNTED_BY

__all__ = ["INCREMENT_BITS", "AllCounts", "Counts"]

INCREMENT_BITS = 8


class Counts(Parametric):
    """By what the counters of one source grow in this cycle, seen from it.

    Members
    -------
    one for each counter of ``source`` (``hdl.spec.registers.COUNTED_BY``), in lower case:
        Out(``INCREMENT_BITS``).

    Raises
    ------
    ValueError: ``source`` counts nothing.
    """

    def __init__(self, source: str) -> None:
        if source not in COUNTED_BY:
            raise ValueError(f"source must be one of {', '.join(COUNTED_BY)}, not {source!r}")
        super().__init__({"source": source}, {
            name.lower(): Out(INCREMENT_BITS) for name in COUNTED_BY[source]})


class AllCounts(Parametric):
    """``Counts`` of all sources, by their names."""

    def __init__(self) -> None:
        super().__init__({}, {source: Out(Counts(source)) for source in COUNTED_BY})
