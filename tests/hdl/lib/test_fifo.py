import random

import pytest
from amaranth.lib import data

from hdl.lib.fifo import ShiftFifo, SramFifo
from support.streams import Sink, Source, simulate


@pytest.mark.parametrize(("kind", "depth", "latency"), [
    (ShiftFifo, 2, 1), (ShiftFifo, 5, 1), (SramFifo, 4, 2), (SramFifo, 32, 2)])
@pytest.mark.parametrize(("fast", "slow"), [(0.0, 0.0), (0.0, 0.7), (0.7, 0.0), (0.5, 0.5)])
def test_words_keep_their_order(kind, depth, latency, fast, slow):
    words = [random.Random(depth).getrandbits(12) for _ in range(150)]
    dut = kind(12, depth)
    source = Source(dut.i, words, seed=1, stall=fast)
    sink = Sink(dut.o, seed=2, stall=slow)
    cycles = simulate(dut, [source, sink], until=lambda: len(sink.taken) == len(words))
    assert sink.taken == words
    if fast == slow == 0:
        assert cycles == len(words) + latency


@pytest.mark.parametrize(("kind", "depth", "holds"), [(ShiftFifo, 3, 3), (SramFifo, 8, 9)])
def test_capacity_and_clear(kind, depth, holds):
    dut = kind(8, depth)
    source = Source(dut.i, range(20))
    sink = Sink(dut.o, stall=1.0)
    seen = []

    def each_cycle(ctx, cycle):
        if cycle == 30:
            seen.append(20 - len(source.items))
            source.items.clear()
            source.offered = False
            source.items.extend([77])
            sink.held, sink.stall = None, 0.0
        ctx.set(dut.clear, cycle == 29)
        if cycle == 29:
            source.stall = 1.0
            ctx.set(dut.o.ready, 0)

    def refill():
        if len(seen) == 1:
            source.stall = 0.0
        return bool(sink.taken)

    simulate(dut, [source, sink], until=refill, each_cycle=each_cycle)
    assert seen == [holds] and sink.taken == [77]


def test_leaves_of_different_layouts_have_different_names():
    one, other = (data.StructLayout({name: 8}) for name in "ab")
    names = {ShiftFifo(shape, 4).leaf_name for shape in (8, one, other)}
    assert len(names) == 3 and ShiftFifo(8, 4).leaf_name == "shift_fifo_8x4"


def test_depth_is_checked():
    with pytest.raises(ValueError, match="^depth must be at least 2, not 1"):
        ShiftFifo(8, 1)
    with pytest.raises(ValueError, match="^value must be a power of two"):
        SramFifo(8, 12)
