"""A nest of counted loops in hardware: the walk over blocks, chunks, panels and tiles."""

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Level", "Nest"]


@dataclass(frozen=True)
class Level:
    """One loop: ``name``, the width of its counts, and the level whose current size it divides.

    ``within`` names an outer level; ``None`` takes the total from the port ``{name}_total``.
    ``step`` is a constant, or ``None`` to take it from the port ``{name}_step``.
    """

    name: str
    bits: int
    within: str | None = None
    step: int | None = None


class Nest(wiring.Component):
    """Walks ``levels`` (outermost first) as nested ``for`` loops over slices of at most ``step``.

    Ports
    -----
    start: pulse while ``idle``; totals and steps must be stable from now until ``idle`` again.
    valid: the counters describe an iteration; ``next`` moves to the following one.
    idle: no walk in progress (raised after ``next`` on the last iteration).
    {name}_size: elements in the current slice, min(step, what remains).
    {name}_first, {name}_last: the current slice is the first, the last of its loop.
    {name}_enter, {name}_advance: pulses; the loop is (re)started, moves one slice on. A loop that
        advances re-enters all loops inside it in the cycles that follow.

    One iteration of the innermost loop costs one cycle, every level re-entered one more.
    """

    def __init__(self, levels: tuple[Level, ...]):
        self.levels = levels
        members = {"start": In(1), "valid": Out(1), "next": In(1), "idle": Out(1, init=1)}
        for level in levels:
            if level.within is None:
                members[f"{level.name}_total"] = In(level.bits)
            if level.step is None:
                members[f"{level.name}_step"] = In(level.bits)
            members |= {
                f"{level.name}_size": Out(level.bits), f"{level.name}_first": Out(1),
                f"{level.name}_last": Out(1), f"{level.name}_enter": Out(1),
                f"{level.name}_advance": Out(1),
            }
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        depth = len(self.levels)
        entering = Signal(range(depth + 1), init=depth)
        m.d.comb += self.valid.eq(~self.idle & (entering == depth))
        with m.If(self.start):
            m.d.sync += [self.idle.eq(0), entering.eq(0)]
        with m.Elif(~self.idle & (entering != depth)):
            m.d.sync += entering.eq(entering + 1)

        inner_done = self.valid & self.next
        for index in reversed(range(depth)):
            level = self.levels[index]
            port = {key: getattr(self, f"{level.name}_{key}")
                    for key in ("size", "first", "last", "enter", "advance")}
            total = getattr(self, f"{level.within}_size" if level.within else f"{level.name}_total")
            step = getattr(self, f"{level.name}_step") if level.step is None else level.step
            remaining = Signal(level.bits, name=f"{level.name}_remaining", reset_less=True)
            m.d.comb += [
                port["last"].eq(remaining <= step),
                port["size"].eq(Mux(port["last"], remaining, step)),
                port["enter"].eq(~self.idle & (entering == index)),
                port["advance"].eq(inner_done & ~port["last"]),
            ]
            with m.If(port["enter"]):
                m.d.sync += [remaining.eq(total), port["first"].eq(1)]
            with m.If(port["advance"]):
                m.d.sync += [remaining.eq(remaining - step), port["first"].eq(0),
                             entering.eq(index + 1)]
            done = Signal(name=f"{level.name}_done")
            m.d.comb += done.eq(inner_done & port["last"])
            inner_done = done
        with m.If(inner_done):
            m.d.sync += self.idle.eq(1)
        return m
