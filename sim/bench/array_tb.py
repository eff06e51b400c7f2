"""Array: tiles loaded from either side while the one before is in use, rows with bubbles."""

import cocotb
import numpy as np

from sim.bench.psums import words
from sim.bench.support import (
    configuration,
    expect,
    generator,
    join,
    put,
    report,
    reset,
    sample,
    step,
)
from sim.model.accumulate import gemm
from sim.model.codec import decode, encode

TILES = 60


def schedule(dim, rng):
    """Inputs of each cycle: ``load`` (tile, line), ``swap``, ``row`` (the tile that it meets)."""
    cycles: list[dict] = []

    def at(cycle):
        while len(cycles) <= cycle:
            cycles.append({"load": None, "swap": False, "row": None})
        return cycles[cycle]

    start, swap = 0, None
    for tile in range(TILES):
        for line in range(dim):
            at(start + line)["load"] = tile, line
        busy = 0 if swap is None else int(rng.integers(1, 3 * dim))
        earliest = start + dim
        following = earliest if swap is None else max(earliest, swap + busy)
        if swap is not None:  # rows of the tile before meet it up to the cycle of the swap
            for cycle in range(swap + 1, following + 1):
                at(cycle)["row"] = tile - 1 if rng.random() < 0.8 else None
        swap = following
        at(swap)["swap"] = True
        start = swap + int(rng.integers(0, 3)) * int(rng.integers(0, 2))
    assert swap is not None
    for cycle in range(swap + 1, swap + dim):
        at(cycle)["row"] = TILES - 1
    return cycles


def codes_of(encoding, shape, rng):
    """Codes of normal numbers, a few special."""
    codes = encode(encoding, rng.standard_normal(shape) * 2.0 ** rng.integers(-3, 4, shape))
    return np.where(rng.random(shape) < 0.01, encoding.nar_code, codes)


@cocotb.test()
async def tiles_back_to_back(dut):
    config, rng = configuration(), generator()
    fmt, dim = config.format, config.dim
    cycles = schedule(dim, rng)
    kinds = rng.integers(0, len(fmt.encodings), (2, TILES))  # encodings of rows, of weights
    tiles = [codes_of(fmt.encodings[kind], (dim, dim), rng) for kind in kinds[1]]
    values = [decode(fmt.encodings[kind], tile) for kind, tile in zip(kinds[1], tiles, strict=True)]
    right = rng.integers(0, 2, TILES)
    latency = config.array_latency
    await reset(dut, dict.fromkeys(("x", "x_e5m2", "swap", "w", "w_e5m2", "load_down",
                                    "load_right"), 0))
    expected, checked = {}, 0
    for number, cycle in enumerate([*cycles, *[dict(load=None, swap=False, row=None)] * latency]):
        inputs = {"swap": cycle["swap"], "load_down": 0, "load_right": 0}
        if cycle["load"]:
            tile, line = cycle["load"]
            line = dim - 1 - line
            inputs["load_right" if right[tile] else "load_down"] = 1
            weights = tiles[tile][:, line] if right[tile] else tiles[tile][line]
            inputs |= {"w": join(weights, fmt.storage_bits), "w_e5m2": kinds[1][tile]}
        encoding = fmt.encodings[rng.integers(len(fmt.encodings))]
        row = codes_of(encoding, (1, dim), rng)
        inputs |= {"x": join(row[0], fmt.storage_bits), "x_e5m2": fmt.encodings.index(encoding)}
        if cycle["row"] is not None:
            sums = gemm(config, decode(encoding, row), values[cycle["row"]])
            expected[number + latency] = join(words(config, sums, config.tile_bits)[0],
                                              config.tile_bits)
        put(dut, **inputs)
        await step(dut.clk)
        if number + 1 in expected:
            expect(sample(dut, "o")[0], expected.pop(number + 1), f"row of cycle {number}")
            checked += 1
    assert not expected, f"rows of cycles {sorted(expected)} were never given"
    report(checked, len(cycles) + latency)
