"""First-in first-out queues: a short one in registers, a long one in SRAM."""

from zlib import crc32

from amaranth.hdl import Module, Shape, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hdl.lib.leaf import shared
from hdl.lib.sram import Sram1R1W
from hdl.spec.config import log2_exact

__all__ = ["ShiftFifo", "SramFifo"]


def _shape_name(shape: ShapeLike) -> str:
    """Width and, as ports of another layout are other ports, a digest of what is not an integer."""
    width = Shape.cast(shape).width
    return f"{width}" if shape == width else f"{width}_{crc32(repr(shape).encode()):08x}_"


class ShiftFifo(wiring.Component):
    """Up to ``depth`` words in a shift register.

    Latency 1; one word per cycle from depth 2. ``i.ready`` does not depend on ``o.ready``.
    ``clear`` empties it, whatever ``i`` offers meanwhile.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        if depth < 2:
            raise ValueError(f"depth must be at least 2, not {depth!r}")
        self._shape = shape
        self._depth = depth
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "clear": In(1),
        })

    @property
    def leaf_name(self) -> str:
        return f"shift_fifo_{_shape_name(self._shape)}x{self._depth}"

    def elaborate(self, platform):
        m = Module()
        slots = [Signal(self._shape, name=f"slot_{k}", reset_less=True)
                 for k in range(self._depth)]
        level = Signal(range(self._depth + 1))
        push = Signal()
        pop = Signal()
        position = Signal(range(self._depth + 1))
        m.d.comb += [
            self.i.ready.eq(level != self._depth),
            self.o.valid.eq(level != 0),
            self.o.payload.eq(slots[0]),
            push.eq(self.i.valid & self.i.ready),
            pop.eq(self.o.valid & self.o.ready),
            position.eq(level - pop),
        ]
        m.d.sync += level.eq(position + push)
        with m.If(self.clear):
            m.d.sync += level.eq(0)
        for index, slot in enumerate(slots):
            with m.If(push & (position == index)):
                m.d.sync += slot.eq(self.i.payload)
            if index + 1 < self._depth:
                with m.Elif(pop):
                    m.d.sync += slot.eq(slots[index + 1])
        return m


class SramFifo(wiring.Component):
    """At least ``depth`` words (a power of two) in an SRAM; the next one waits at its output.

    Latency 2, one word per cycle. ``i.ready`` does not depend on ``o.ready``. ``clear`` empties it.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        log2_exact(depth)
        self._shape = shape
        self._depth = depth
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
            "clear": In(1),
        })

    @property
    def leaf_name(self) -> str:
        return f"sram_fifo_{_shape_name(self._shape)}x{self._depth}"

    def elaborate(self, platform):
        m = Module()
        sram = Sram1R1W(Shape.cast(self._shape).width, self._depth)
        m.submodules.sram = shared(sram)
        head = Signal(range(self._depth))
        tail = Signal(range(self._depth))
        stored = Signal(range(self._depth + 1))  # in the SRAM and not yet read
        waiting = Signal()  # a word waits at the SRAM's output
        push = Signal()
        read = Signal()
        m.d.comb += [
            self.i.ready.eq(stored != self._depth),
            push.eq(self.i.valid & self.i.ready),
            # ``stored`` counts written words only, so the two ports never meet at one address.
            read.eq((stored != 0) & (~waiting | self.o.ready)),
            sram.write.address.eq(tail),
            sram.write.data.eq(self.i.payload),
            sram.write.enable.eq(push),
            sram.read.address.eq(head),
            sram.read.enable.eq(read),
            self.o.valid.eq(waiting),
            self.o.payload.eq(sram.data),
        ]
        m.d.sync += [
            tail.eq(tail + push),
            head.eq(head + read),
            stored.eq(stored + push - read),
            waiting.eq(read | (waiting & ~self.o.ready)),
        ]
        with m.If(self.clear):
            m.d.sync += [tail.eq(0), head.eq(0), stored.eq(0), waiting.eq(0)]
        return m
