"""Performance counters."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.ports.counts import INCREMENT_BITS

__all__ = ["COUNTER_BITS", "Counter"]

COUNTER_BITS = 64


class Counter(wiring.Component):
    """Adds ``increment`` each cycle unless ``freeze``; ``clear`` wins over both.

    ``value`` takes an increment in two cycles: the increment is held in a register first, so that
    the adder adds nothing to its source's path; what is held when ``freeze`` rises is still added.
    """

    def __init__(self) -> None:
        super().__init__({
            "increment": In(INCREMENT_BITS), "freeze": In(1), "clear": In(1),
            "value": Out(COUNTER_BITS),
        })

    @property
    def leaf_name(self) -> str:
        return f"counter_{COUNTER_BITS}"

    def elaborate(self, platform):
        m = Module()
        held = Signal(INCREMENT_BITS)
        m.d.sync += [held.eq(0), self.value.eq(self.value + held)]
        with m.If(~self.freeze):
            m.d.sync += held.eq(self.increment)
        with m.If(self.clear):
            m.d.sync += [held.eq(0), self.value.eq(0)]
        return m
