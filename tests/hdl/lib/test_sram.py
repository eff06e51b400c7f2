import random

import pytest
from amaranth.sim import Simulator

from hdl.lib.sram import Sram1R1W


@pytest.mark.parametrize("granularity", [None, 8])
def test_words_are_held_and_read_back(granularity):
    chance = random.Random(1)
    dut = Sram1R1W(24, 16, granularity)
    granules = 3 if granularity else 1
    checked = []

    async def bench(ctx):
        model = {}
        expected = None
        for _ in range(400):
            place, word = chance.randrange(16), chance.getrandbits(24)
            enable = chance.getrandbits(granules) if place in model else (1 << granules) - 1
            ctx.set(dut.write.address, place)
            ctx.set(dut.write.data, word)
            ctx.set(dut.write.enable, enable)
            known = [a for a in model if a != place]
            source = chance.choice(known) if known else 0
            reads = bool(known) and chance.random() < 0.6
            ctx.set(dut.read.address, source)
            ctx.set(dut.read.enable, reads)
            await ctx.tick()
            if reads:
                expected = model[source]
            if expected is not None:
                assert ctx.get(dut.data) == expected
                checked.append(expected)
            mask = sum((1 << 24 // granules) - 1 << 24 // granules * k
                       for k in range(granules) if enable >> k & 1)
            model[place] = (model.get(place, 0) & ~mask) | (word & mask)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(checked) > 300


def test_names_and_errors():
    assert Sram1R1W(16, 64).leaf_name == "ottava_sram_1r1w_16x64"
    assert Sram1R1W(16, 64, 4).leaf_name == "ottava_sram_1r1w_16x64_by4"
    with pytest.raises(ValueError, match="^granularity must divide width 16, not 5"):
        Sram1R1W(16, 64, 5)
    with pytest.raises(ValueError, match="^width and depth must be"):
        Sram1R1W(16, 1)
