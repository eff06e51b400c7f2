"""Row maxima taken after the array, read as early as they may be, against the model's."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from hdl.accumulate.row_maximum import RowMaximum
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16
from sim.model import lanes
from sim.model.accumulate import accumulator_type, narrow
from sim.model.exact import exact_words
from sim.model.rounding import from_words, round_to, to_words

BUILDS = [("posit8", "bf16"), ("posit8", "fp32"), ("bf16", "fp32"), ("e4m3", "exact"),
          ("int8", "int32")]
BLOCKS = 12


def accumulators(config, rng, shape):
    """Values, many of them alike, and their words."""
    if config.acc == "int32":
        sums = rng.integers(-3, 4, shape) << rng.integers(0, 29, shape)
        return sums.astype(object), exact_words(sums, config.acc_bits, nar_bit=False)
    if config.acc == "exact":
        sums = rng.integers(-3, 4, shape) << rng.integers(0, 20, shape)
        values = sums.astype(object)
        values[rng.random(shape) < 0.03] = None
        return values, exact_words(values, config.acc_bits)
    values = rng.choice([0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, 3e38, -3e38, 2.0 ** -126], shape)
    near = rng.random(shape) < 0.5
    values = np.where(near, -1 + rng.integers(-9, 9, shape) * 2.0 ** -12, values)
    values[rng.random(shape) < 0.03] = np.nan
    values = round_to(accumulator_type(config), values)
    return values, to_words(accumulator_type(config), values)


def block(config, rng, bank):
    """A block's tiles as (mark, words of each row), its setting, its maxima."""
    rows, columns = int(rng.integers(1, config.row_depth + 1)), int(rng.integers(1, 11))
    tiles = -(-columns // config.dim)
    values, words = accumulators(config, rng, (rows, tiles * config.dim))
    scale = int(rng.choice(to_words(BFLOAT16, np.array([1.0, 0.296875, 7.5, 2.0 ** -126]))))
    inside = narrow(config, values[:, :columns])
    wanted = lanes.multiply(config.lane, lanes.row_max(config.lane, inside),
                            from_words(BFLOAT16, np.uint32(scale)))
    return {"bank": bank, "rows": rows, "tiles": tiles, "words": words, "scale": scale,
            "edge": columns % config.dim, "wanted": to_words(config.lane, wanted)}


async def feed(ctx, dut, config, work, due, closing):
    """Column tile after column tile, row after row, with gaps."""
    setting = dut.setting[work["bank"]]
    ctx.set(setting.edge, work["edge"])
    ctx.set(setting.scale, work["scale"])
    for tile in range(work["tiles"]):
        for row in range(work["rows"]):
            part = work["words"][row, tile * config.dim:(tile + 1) * config.dim]
            ctx.set(dut.totals.word, sum(int(word) << config.acc_bits * at
                                   for at, word in enumerate(part)))
            ctx.set(dut.totals.bank, work["bank"])
            ctx.set(dut.totals.mark.closing, tile == work["tiles"] - 1)
            ctx.set(dut.totals.mark.ends, row == work["rows"] - 1)
            ctx.set(dut.totals.mark.final, 1)
            ctx.set(dut.totals.valid, 1)
            await ctx.tick()
            ctx.set(dut.totals.valid, 0)
            closing.append(tile == work["tiles"] - 1)
            if closing[-1]:
                due.append((work["bank"], row, int(work["wanted"][row])))
        await ctx.tick().repeat(max(1, 4 - work["rows"]))


@pytest.mark.parametrize("fmt, acc", BUILDS)
def test_maxima_of_blocks_in_turn(fmt, acc):
    config = AcceleratorConfig(fmt, dim=4, acc=acc, row_depth=8)
    dut = RowMaximum(config)
    rng = np.random.default_rng(2)
    due, closing, found = [], [], []

    async def source(ctx):
        for number in range(BLOCKS):
            await feed(ctx, dut, config, block(config, rng, number % 2), due, closing)

    async def reader(ctx):
        ctx.set(dut.read.enable, 1)
        rows, words, asked, given = iter(due), iter(closing), {}, {}
        cycle = 0
        async for _, _, arrival, maximum in ctx.tick().sample(dut.arrival, dut.maximum):
            if cycle in given:
                found.append((given.pop(cycle), maximum))
            if cycle in asked:  # set in the next cycle, answered in the one after
                given[cycle + 2] = row = asked.pop(cycle)
                ctx.set(dut.read.bank, row[0])
                ctx.set(dut.read.address, row[1])
            if arrival.valid and next(words):
                asked[cycle + 1] = next(rows)
            cycle += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(source)
    simulator.add_testbench(reader, background=True)
    simulator.run_until(1e-6 * 4000)
    wrong = [(at, hex(got)) for at, got in found if at[2] != got]
    assert not wrong, f"{len(wrong)} of {len(found)}: {wrong[:3]}"
    assert len(found) == len(due) > 3 * BLOCKS
    print(f"{fmt} {acc}: {len(found)} row maxima")
