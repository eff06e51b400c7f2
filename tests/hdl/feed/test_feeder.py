"""The feeder alone, with weights that never keep it waiting and operand rows that come late."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from hdl.feed.feeder import Feeder
from hdl.spec.config import AcceleratorConfig

CONFIG = AcceleratorConfig("posit8", dim=4, input_depth=64, weight_depth=128, acc_depth=16,
                           row_depth=8)


def feed(rows, k, arrivals, flip=False, ahead=False):
    """Run one GEMM of ``rows``×``k``×4, a block; (cycle, read address, result address) of each row.

    ``arrivals``: words of the bank that are in, cycle by cycle; then it holds them all.
    """
    dut = Feeder(CONFIG)
    offered = dut.command.plan
    fed, released = [], []

    async def bench(ctx):
        plan = {"gemm": 1, "m": rows, "k": k, "n": 4, "block_log2": 3, "chunk": 4, "k_span": 64,
                "resident": 1, "passes": 1, "a_transposed": int(flip), "ahead": int(ahead)}
        for name, value in plan.items():
            ctx.set(getattr(offered.payload, name), value)
        ctx.set(dut.ready, 1)
        ctx.set(dut.fill.free, 1)
        ctx.set(offered.valid, 1)
        await ctx.tick().until(offered.ready)
        ctx.set(offered.valid, 0)
        for cycle in range(400):
            loaded = arrivals[cycle] if cycle < len(arrivals) else CONFIG.input_depth
            ctx.set(dut.loaded[0], loaded)
            if ctx.get(dut.token.valid):
                assert ctx.get(dut.read.enable) and not ctx.get(dut.read.bank)
                assert ctx.get(dut.read.address) < loaded
                fed.append((cycle, ctx.get(dut.read.address), ctx.get(dut.token.address)))
            if ctx.get(dut.released.valid):
                released.append(cycle)
            await ctx.tick()
        assert ctx.get(dut.command.idle)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert released == [fed[-1][0]]
    return fed


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_rows_follow_their_words_and_sums_never_meet(rows, flip):
    rng = np.random.default_rng(rows)
    k, tiles = 14, 4
    arrivals = [[0] * 40, sorted(rng.integers(0, 4 * rows, 120).tolist()), [*range(0, 64, 4)]]
    for words in arrivals:
        fed = feed(rows, k, words, flip)
        # A group is four K-tiles deep, row after row; transposed, it is one.
        wanted = [t * rows + r if flip else r * tiles + t for t in range(tiles)
                  for r in range(rows)]
        assert [address for _, address, _ in fed] == wanted
        for number, (cycle, _, result) in enumerate(fed):
            same = [c for c, _, other in fed[:number] if other == result]
            assert not same or cycle - same[-1] >= 3


def test_rows_that_are_there_flow_without_a_gap():
    fed = feed(7, 16, [64])
    assert fed[-1][0] - fed[0][0] == len(fed) - 1 == 27


@pytest.mark.parametrize("ahead", [False, True])
def test_groups_are_those_of_the_loader(ahead):
    # 9 K-tiles: where the array waits in groups of four, else all together.
    rows, tiles = 3, 9
    fed = feed(rows, 4 * tiles, [64], ahead=ahead)
    groups = [range(tiles)] if ahead else [range(4), range(4, 8), range(8, 9)]
    wanted = [group[0] * rows + r * len(group) + t - group[0]
              for group in groups for t in group for r in range(rows)]
    assert [address for _, address, _ in fed] == wanted
