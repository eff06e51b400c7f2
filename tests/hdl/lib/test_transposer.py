"""The transposer on random tiles, with every pairing of idle inputs and back-pressure."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from hdl.lib.transposer import Transposer
from support.seeds import seed_of

TILES = 60


def run(dim, width, sizes, rng, offer, take):
    """Feed tiles of (lines, words); the tiles that come out and the cycles until the last word."""
    dut = Transposer(dim, width)
    tiles = [rng.integers(0, 1 << width, size) for size in sizes]
    found, tags, sizes_told, cycles = [], [], [], 0

    async def feed(ctx):
        for index, tile in enumerate(tiles):
            for number, line in enumerate(tile):
                while rng.random() >= offer:
                    await ctx.tick()
                # Elements beyond the line are of any value.
                rest = rng.integers(0, 1 << width, dim - len(line))
                ctx.set(dut.i.payload.data, pack([*line, *rest], width))
                ctx.set(dut.i.payload.last, number == len(tile) - 1)
                ctx.set(dut.i.payload.words, tile.shape[1])
                ctx.set(dut.i.payload.tag, index % 3 == 0)
                ctx.set(dut.i.valid, 1)
                await ctx.tick().until(dut.i.ready)
                ctx.set(dut.i.valid, 0)

    async def drain(ctx):
        nonlocal cycles
        words, held = [], None
        while len(found) < len(tiles):
            ready = rng.random() < take
            ctx.set(dut.o.ready, ready)
            *_, valid, data, lines, last, tag = await ctx.tick().sample(
                dut.o.valid, dut.o.payload.data, dut.o.payload.lines, dut.o.payload.last,
                dut.o.payload.tag)
            cycles += 1
            assert held is None or (valid and data == held)
            held = data if valid and not ready else None
            if valid and ready:
                sizes_told.append(lines)
                words.append([data >> width * k & (1 << width) - 1 for k in range(dim)])
                if last:
                    found.append(np.array(words))
                    tags.append(tag)
                    words = []
        await ctx.tick()
        assert not ctx.get(dut.busy)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(feed)
    simulator.add_testbench(drain)
    simulator.run_until(1e-8 * 100 * dim * len(tiles))
    assert len(found) == len(tiles), "words are missing"
    for tile, result in zip(tiles, found, strict=True):
        expected = np.zeros((tile.shape[1], dim), dtype=int)
        expected[:, :len(tile)] = tile.T
        assert np.array_equal(result, expected)
    assert sizes_told == [len(tile) for tile in tiles for _ in range(tile.shape[1])]
    assert tags == [index % 3 == 0 for index in range(len(tiles))]
    return cycles


def pack(elements, width):
    return sum(int(value) << width * index for index, value in enumerate(elements))


@pytest.mark.parametrize("dim, width", [(4, 8), (4, 16), (8, 8)])
@pytest.mark.parametrize("offer", [1.0, 0.4])
@pytest.mark.parametrize("take", [1.0, 0.4])
def test_tiles_of_every_size(dim, width, offer, take):
    rng = np.random.default_rng(seed_of(dim, width))
    sizes = [tuple(rng.integers(1, dim + 1, 2)) for _ in range(TILES)]
    run(dim, width, [*sizes, (dim, dim), (dim, dim), (1, 1)], rng, offer, take)


def test_full_tiles_flow_without_a_gap():
    rng = np.random.default_rng(0)
    assert run(8, 8, [(8, 8)] * TILES, rng, 1.0, 1.0) <= 8 * (TILES + 1) + 4
