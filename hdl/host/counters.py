"""Performance counters."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.leaf import shared
from hdl.lib.sram import Sram1R1W
from hdl.ports.counts import AllCounts, increment_bits
from hdl.spec.config import ceil_log2
from hdl.spec.registers import COUNTERS

__all__ = ["COUNTER_BITS", "Counters"]

COUNTER_BITS = 64
_TURN = 3 * len(COUNTERS)
"""Cycles within which each counter is added up, however many are looked at meanwhile."""


class Counters(wiring.Component):
    """All counters in one memory, with one adder that goes round.

    What a counter grows by gathers in a short register until its turn. Every cycle a counter is
    read from the memory and, one cycle later, written back with what has gathered. One that is
    looked at is taken out of turn, so that its value counts everything up to that cycle.

    Members
    -------
    counts: In(``AllCounts``), by what each grows in this cycle, unless ``freeze``.
    freeze: In(1). clear: In(1), all are 0 in the next cycle.
    pause: In(1), in the cycle before ``look``. look: In(1), ``index`` is looked at; not twice
        within three cycles.
    value: Out(``COUNTER_BITS``), of what was looked at in the cycle before.
    """

    def __init__(self) -> None:
        super().__init__({
            "counts": In(AllCounts()), "freeze": In(1), "clear": In(1), "pause": In(1),
            "look": In(1), "index": In(range(len(COUNTERS))), "value": Out(COUNTER_BITS)})

    def elaborate(self, platform):
        m = Module()
        number = len(COUNTERS)
        memory = Sram1R1W(COUNTER_BITS, number)
        m.submodules.memory = shared(memory)
        turn, wanted, taken = (Signal(range(number), name=name)
                               for name in ("turn", "wanted", "taken"))
        reads, adds = Signal(), Signal()
        stored = Signal(number)  # counters that the memory has; the others are 0 there
        m.d.comb += [
            wanted.eq(Mux(self.look, self.index, turn)),
            # The memory gives nothing sound of what is written in this cycle.
            reads.eq(self.look | (~self.pause & ~(adds & (taken == turn)))),
            memory.read.enable.eq(reads), memory.read.address.eq(wanted),
            memory.write.enable.eq(adds), memory.write.address.eq(taken),
            memory.write.data.eq(self.value),
        ]
        m.d.sync += [adds.eq(reads), taken.eq(wanted)]
        with m.If(reads & ~self.look):
            m.d.sync += turn.eq(Mux(turn == number - 1, 0, turn + 1))
        with m.If(adds):
            m.d.sync += stored.bit_select(taken, 1).eq(1)
        with m.If(self.clear):
            m.d.sync += stored.eq(0)
        gathered = self._gather(m, adds, taken)
        m.d.comb += self.value.eq(
            Mux(stored.bit_select(taken, 1), memory.data, 0) + gathered)
        return m

    def _gather(self, m: Module, adds, taken) -> Signal:
        """What has gathered for counter ``taken``, which starts anew where it ``adds``."""
        increments = {path[-1]: value for path, _, value
                      in self.counts.signature.flatten(self.counts)}
        widths = {name: ceil_log2(_TURN * ((1 << increment_bits(name)) - 1) + 1)
                  for name, _ in COUNTERS}
        gathered, every = Signal(max(widths.values())), []
        for index, (name, _) in enumerate(COUNTERS):
            held = Signal(widths[name], name=f"held_{name.lower()}")
            kept = Mux(adds & (taken == index), 0, held)
            m.d.sync += held.eq(kept + Mux(self.freeze, 0, increments[name.lower()]))
            with m.If(self.clear):
                m.d.sync += held.eq(0)
            every.append(held)
        with m.Switch(taken):
            for index, held in enumerate(every):
                with m.Case(index):
                    m.d.comb += gathered.eq(held)
        return gathered
