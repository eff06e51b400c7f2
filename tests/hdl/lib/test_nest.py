import itertools

import pytest
from amaranth.sim import Simulator

from hdl.lib.nest import Level, Nest


def spans(total, step):
    """(size, first, last) of each span of a loop."""
    starts = range(0, total, step)
    return [(min(step, total - at), at == 0, at + step >= total) for at in starts]


def expected(rows, row_step, columns, column_step, tile):
    walk = []
    for row in spans(rows, row_step):
        for column in spans(columns, column_step):
            walk += [(row, column, inner) for inner in spans(column[0], tile)]
    return walk


def walked(rows, row_step, columns, column_step, tile, pauses):
    """What the hardware walks, its consumer taking an iteration only where ``pauses`` is false."""
    names = ("rows", "columns", "tiles")
    nest = Nest((Level("rows", 8), Level("columns", 8), Level("tiles", 8, "columns", tile)))
    found = []

    async def bench(ctx):
        for name, value in (("rows_total", rows), ("rows_step", row_step),
                            ("columns_total", columns), ("columns_step", column_step)):
            ctx.set(getattr(nest, name), value)
        ctx.set(nest.start, 1)
        await ctx.tick()
        ctx.set(nest.start, 0)
        for pause in itertools.cycle(pauses):
            if ctx.get(nest.idle):
                break
            take = not pause and ctx.get(nest.valid)
            ctx.set(nest.next, take)
            if take:
                found.append(tuple(
                    (ctx.get(getattr(nest, f"{name}_size")),
                     bool(ctx.get(getattr(nest, f"{name}_first"))),
                     bool(ctx.get(getattr(nest, f"{name}_last")))) for name in names))
            await ctx.tick()
            ctx.set(nest.next, 0)

    simulator = Simulator(nest)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


@pytest.mark.parametrize("pauses", [(False,), (True, False, True)])
@pytest.mark.parametrize("shape", [
    (1, 1, 1, 1, 1), (7, 4, 9, 9, 2), (8, 4, 8, 4, 4), (3, 1, 13, 5, 4), (5, 16, 6, 4, 8)])
def test_walks_like_nested_loops(shape, pauses):
    assert walked(*shape, pauses) == expected(*shape)
    print(f"{len(expected(*shape))} iterations")


def test_another_shape_walks_otherwise():
    assert walked(7, 4, 9, 9, 2, (False,)) != expected(7, 4, 9, 9, 3)
