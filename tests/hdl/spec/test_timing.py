"""Shared constants by literal, and the latencies that units really have."""

import pytest
from amaranth.sim import Simulator

from hdl.accumulate.accumulation_buffer import AccumulationBuffer
from hdl.accumulate.row_maximum import RowMaximum
from hdl.issue.command_check import CommandCheck
from hdl.ports.transfer import TRANSFER
from hdl.spec import timing
from hdl.spec.commands import COMMAND, COMMAND_BYTES, Destination, Opcode, Post, pack
from hdl.spec.config import AcceleratorConfig
from hdl.vector.row_reducer import RowReducer
from hdl.vector.vector_unit import VectorUnit

CONSTANTS = {
    "PAGE_BYTES": 4096, "BURST_BEATS": 16, "OUTSTANDING": 32, "LANDING_BEATS": 128,
    "URGENT_BURSTS": 15, "WRITE_BURSTS": 4, "WRITE_BEATS": 64, "ROW_BYTES_BITS": 26,
    "ROW_END_BITS": 27, "PLAN_LATENCY": 2, "TRANSFERS_AHEAD": 4, "INDEX_BYTES": 4,
    "INPUT_READ_CYCLES": 1, "ACCUMULATE_CYCLES": 2, "REPEAT_CYCLES": 3, "LANE_STAGES": 4,
    "BLOCK_TILES": 4, "MERGED_LOG2": 3, "TRANSFERS_HELD": 4,
    "UNITS": ("operands", "weights", "feeder", "drain"),
    "READERS": ("program", "operands", "weights", "y"), "READ_BEFORE": ("program", "weights"),
}
ONE = 0x3F80  # BF16


def build(**options):
    return AcceleratorConfig("posit8", **{"dim": 4} | options)


def test_every_constant_is_pinned():
    found = {name: getattr(timing, name) for name in timing.__all__ if name.isupper()}
    assert found == CONSTANTS
    assert set(vars(timing)) >= set(timing.__all__)


@pytest.mark.parametrize("options, array, maximum, sums, lane, reduction, strip", [
    ({"dim": 4}, 8, 3, 14, 5, 4, 8),
    ({"dim": 8}, 16, 4, 23, 5, 5, 4),
    ({"dim": 16}, 32, 5, 40, 5, 6, 2),
    ({"dim": 16, "lanes": 4, "bus_bytes": 8, "pe_latency": 2}, 33, 5, 41, 5, 4, 1),
    ({"dim": 8, "bus_bytes": 32, "lane_latency": 2}, 16, 4, 23, 9, 5, 8),
    ({"dim": 16, "weight_depth": 32, "bus_bytes": 64}, 32, 5, 40, 5, 6, 1),
    ({"dim": 8, "acc": "exact"}, 9, 4, 16, 5, 5, 4),
    ({"dim": 8, "lane_latency": 3, "sum_ways": 2}, 16, 4, 23, 13, 12, 4),
    ({"dim": 4, "lane_latency": 4, "sum_ways": 4}, 8, 3, 14, 17, 22, 8),
    ({"dim": 4, "acc": "exact", "pe_latency": 3, "lane_latency": 3}, 7, 4, 14, 13, 4, 8),
])
def test_latencies_and_strips_of_a_build(options, array, maximum, sums, lane, reduction, strip):
    config = build(**options)
    assert config.array_latency == array
    assert timing.row_maximum_cycles(config) == maximum
    assert timing.sums_cycles(config) == sums
    assert timing.lane_cycles(config) == lane
    assert timing.reduce_cycles(config) == reduction
    assert timing.reduce_cycles(config, scales=True) == reduction + 2 * config.sum_ways
    assert timing.strip_tiles(config) == strip


def test_widths_of_a_transfer():
    assert {name: field.width for name, field in TRANSFER} == {
        "address": 64, "row_bytes": 26, "rows": 24, "stride": 32}
    assert [timing.row_beats_bits(bus) for bus in (4, 16, 64)] == [26, 24, 22]
    assert [timing.check_cycles(count) for count in (1, 8)] == [2, 9]
    # The longest row at the last byte of a beat: its beats must be countable.
    for bus in (4, 64):
        beats = (bus - 1 + (1 << 26) - 1 + bus - 1) // bus
        assert beats < 1 << timing.row_beats_bits(bus)


@pytest.mark.parametrize("options, transposed, plain, first, group", [
    ({"dim": 16}, (8, 4), (4, 8), 4, 2),
    ({"dim": 4}, (32, 4), (4, 32), 8, 4),
    ({"dim": 16, "bus_bytes": 64}, (16, 2), (4, 8), 8, 4),
    ({"dim": 16, "bus_bytes": 64, "input_depth": 2048}, (32, 1), (4, 8), 8, 4),
    ({"dim": 32, "bus_bytes": 64}, (8, 2), (4, 4), 4, 4),
    ({"dim": 16, "weight_depth": 32}, (1, 1), (1, 1), 1, 2),
    ({"dim": 128, "acc_depth": 16}, (4, 1), (1, 4), 4, 1),
])
def test_panels_and_groups_of_a_build(options, transposed, plain, first, group):
    config = build(**options)
    assert (config.panel_tiles(True), config.panel_tiles(False)) == (transposed, plain)
    assert (config.first_panel, config.operand_depth) == (first, group)
    for k, n in (transposed, plain):
        assert k * n * config.dim <= config.weight_depth // 2


@pytest.mark.parametrize("n_tiles, chunk", [(1, 4), (8, 4), (9, 4), (16, 4), (17, 8), (4096, 8)])
def test_a_chunk_is_a_quarter_of_the_columns_at_most(n_tiles, chunk):
    config = build(dim=16)
    assert 1 << timing.chunk_tiles_log2(config, (n_tiles - 1).bit_length()) == chunk


def test_landing_space_of_clients():
    assert [[timing.landing_beats(client, bus) for client in timing.READERS]
            for bus in (4, 16, 32)] == [[32, 128, 128, 128]] * 2 + [[32, 64, 64, 64]]


def test_bursts_under_way():
    assert [timing.most_outstanding(bus) for bus in (4, 8, 16, 32, 64)] == [16] * 3 + [32] * 2


@pytest.mark.parametrize("depth, dim, most", [(16, 4, 64), (512, 16, 8192)])
def test_a_row_fits_a_bank(depth, dim, most):
    config = build(acc_depth=depth, dim=dim)
    assert timing.row_columns(config) == most
    fits = [timing.row_fits(config, columns) for columns in (1, most, most + 1)]
    assert fits == [True, True, False]


def measure(unit, start, done, before=(), most=60):
    """Cycles from that in which ``start`` is 1 to the first in which ``done`` is."""
    found = []

    async def bench(ctx):
        for port, value in before:
            ctx.set(port, value)
        ctx.set(start, 1)
        for cycle in range(most):
            if ctx.get(done):
                found.append(cycle)
                return
            await ctx.tick()
            ctx.set(start, 0)

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert found, f"{done.name} must come within {most} cycles"
    return found[0]


@pytest.mark.parametrize("options, cycles", [
    ({}, 3), ({"dim": 16}, 5), ({"acc": "exact", "lane_latency": 3}, 4)])
def test_words_count_behind_the_row_maxima(options, cycles):
    config = build(**options)
    unit = RowMaximum(config)
    found = measure(unit, unit.totals.valid, unit.arrival.valid, [(unit.totals.mark.final, 1)])
    assert found == timing.row_maximum_cycles(config) == cycles


def test_totals_come_behind_a_read_and_an_addition():
    unit = AccumulationBuffer(build())
    assert measure(unit, unit.token.valid, unit.totals.valid) == timing.ACCUMULATE_CYCLES


@pytest.mark.parametrize("apart", [1, 2, 3, 4])
def test_a_word_may_come_again_after_three_cycles(apart):
    unit = AccumulationBuffer(build())
    totals = []

    async def bench(ctx):
        ctx.set(unit.tile, ONE)
        for cycle in range(apart + 4):
            ctx.set(unit.token.valid, cycle in (0, apart))
            ctx.set(unit.token.first, cycle == 0)
            if ctx.get(unit.totals.valid):
                totals.append(ctx.get(unit.totals.word) & 0xFFFF)
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert totals[0] == ONE
    assert (totals[1] == 0x4000) == (apart >= timing.REPEAT_CYCLES)  # 2.0


@pytest.mark.parametrize("options", [{}, {"lane_latency": 2}, {"lane_latency": 4}])
def test_beats_stay_in_the_lanes(options):
    config = build(**options)
    unit = VectorUnit(config, 1)
    before = [(unit.control.instruction, Destination.MEMORY << 22), (unit.o.ready, 1)]
    assert measure(unit, unit.i.valid, unit.o.valid, before) == timing.lane_cycles(config)


@pytest.mark.parametrize("lanes, ways", [(4, 1), (8, 1), (4, 2), (4, 4)])
@pytest.mark.parametrize("post", list(Post))
def test_reductions_come_after_the_tree(lanes, ways, post):
    config = build(dim=8, lanes=lanes, sum_ways=ways)
    unit = RowReducer(config)
    scales = post in (Post.MEAN, Post.INVERSE_SQRT)
    cycles = measure(unit, unit.valid, unit.result_valid,
                     [(unit.last, 1), (unit.keep, 1), (unit.post, post)])
    assert cycles == timing.reduce_cycles(config, scales)


@pytest.mark.parametrize("count", [1, 3, 8])
def test_the_check_takes_an_instruction_a_cycle(count):
    unit = CommandCheck(build())
    fields = {"opcode": Opcode.VECTOR, "m": 1, "k": 1, "n": 1,
              "instructions": 1 << 32 * (count - 1) + 24}
    record = int.from_bytes(pack(COMMAND, fields, COMMAND_BYTES), "little")
    assert measure(unit, unit.start, unit.done, [(unit.record, record)]) \
        == timing.check_cycles(count)
