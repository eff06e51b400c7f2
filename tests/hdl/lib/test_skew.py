"""Delay lines: every element comes out its own number of cycles later, from registers or memory."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from hdl.lib.skew import Delay, Deskew, Skew
from support.seeds import seed_of

WIDTH = 5


def run(dut, elements, delays):
    """Random words through ``dut``; how many elements were compared."""
    rng = np.random.default_rng(seed_of(type(dut).__name__, elements))
    words = rng.integers(0, 1 << WIDTH, (8 * max(delays) + 20, elements))
    compared = 0

    async def bench(ctx):
        nonlocal compared
        for cycle, word in enumerate(words):
            ctx.set(dut.i, sum(int(value) << WIDTH * index for index, value in enumerate(word)))
            found = ctx.get(dut.o)
            for index, delay in enumerate(delays):
                if cycle >= delay:
                    value = found >> WIDTH * index & (1 << WIDTH) - 1
                    assert value == words[cycle - delay, index], (cycle, index)
                    compared += 1
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return compared


@pytest.mark.parametrize("cycles", [1, 2, 4, 8, 16])
def test_delay(cycles):
    assert run(Delay(cycles, 3 * WIDTH), 3, [cycles] * 3) == 3 * (7 * cycles + 20)


@pytest.mark.parametrize("elements", [4, 16, 32])
def test_skew_and_deskew(elements):
    assert run(Skew(elements, WIDTH), elements, range(elements)) > 0
    assert run(Deskew(elements, WIDTH), elements, range(elements)[::-1]) > 0


def test_a_delay_of_another_length_is_found():
    with pytest.raises(AssertionError):
        run(Delay(8, WIDTH), 1, [7])
