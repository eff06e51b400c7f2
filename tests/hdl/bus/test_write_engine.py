import random
from operator import attrgetter

import pytest

from hdl.bus.write_engine import WriteEngine
from hdl.spec.config import AcceleratorConfig
from support.axi import WriteSlave
from support.streams import Source, beats_of, pack_transfer, random_transfer, simulate

BASE = 0x3_0000_0F00
SPACE = 1024


def engine(bus_bytes, **kwargs):
    return WriteEngine(AcceleratorConfig(bus_bytes=bus_bytes), **kwargs)


def stage(dut, transfers, *, seed=0, stall=0.0, latency=4, patient=False):
    """Slave, command source, data source, and the memory that must come out."""
    chance = random.Random(seed + 7)
    memory = bytearray(SPACE + 128)
    wanted = bytearray(memory)
    rows = []
    for address, row_bytes, count, stride in transfers:
        for index in range(count):
            row = bytes(chance.randint(1, 255) for _ in range(row_bytes))
            start = address - BASE + index * stride
            wanted[start:start + row_bytes] = row
            rows.append(row)
    bus_bytes = len(dut.axi.wstrb)
    slave = WriteSlave(dut.axi, memory, seed=seed, stall=stall, latency=latency, base=BASE,
                             patient=patient)
    commands = Source(dut.client.transfer, [pack_transfer(*t) for t in transfers],
                            seed=seed + 1, stall=stall)
    data = Source(dut.client.beats, beats_of(rows, bus_bytes), seed=seed + 2, stall=stall)
    return slave, commands, data, wanted


class Watch:
    """Remembers what outputs, named with dots, were in each cycle."""

    def __init__(self, dut, *names):
        self.dut, self.seen = dut, {name: [] for name in names}

    def drive(self, ctx):
        pass

    def observe(self, ctx):
        for name, values in self.seen.items():
            values.append(ctx.get(attrgetter(name)(self.dut)))


def finished(commands, data, watch):
    return lambda: not commands.items and not data.items and watch.seen["idle"][-1]


@pytest.mark.parametrize("bus_bytes", [4, 16, 64])
@pytest.mark.parametrize(("stall", "patient"), [(0.0, False), (0.5, False), (0.4, True)])
def test_exactly_the_rows_are_written(bus_bytes, stall, patient):
    chance = random.Random(bus_bytes + stall)
    dut = engine(bus_bytes)
    transfers = [random_transfer(chance, BASE, SPACE) for _ in range(16)]
    slave, commands, data, wanted = stage(dut, transfers, stall=stall, patient=patient)
    watch = Watch(dut, "idle")
    simulate(dut, [slave, commands, data, watch], limit=6000,
                   until=finished(commands, data, watch))
    assert slave.memory == wanted
    assert sum(slave.touched) == sum(r * n for _, r, n, _ in transfers)
    assert slave.rules.checked > 20 and not slave.rules.outstanding


def test_short_rows_make_a_burst_a_cycle():
    dut = engine(16)
    slave, commands, data, wanted = stage(dut, [(BASE + 0x100, 16, 24, 32)] * 5, latency=4)
    watch = Watch(dut, "idle")
    cycles = simulate(dut, [slave, commands, data, watch],
                            until=finished(commands, data, watch))
    assert slave.memory == wanted
    assert cycles <= 120 + 20


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("start, size, rows, stride, bursts", [
    (0x100, 16, 40, 16, [16, 16, 8]), (0xF0, 48, 11, 48, [1, 16, 16]),  # the page ends at 0x100
    (0x1C0, 256, 2, 256, [16, 16]), (0x100, 16, 24, 32, [1] * 24),
    (0x101, 16, 9, 16, [2] * 9), (0x100, 24, 6, 24, [2] * 6),
])
def test_rows_that_follow_one_another_share_bursts(start, size, rows, stride, bursts, stall):
    dut = engine(16)
    slave, commands, data, wanted = stage(dut, [(BASE + start, size, rows, stride)] * 2,
                                          stall=stall)
    watch = Watch(dut, "idle")
    simulate(dut, [slave, commands, data, watch], until=finished(commands, data, watch))
    assert slave.memory == wanted and sum(slave.touched) == 2 * size * rows
    assert [beats for _, beats in slave.addresses] == bursts * 2


def test_long_rows_fill_the_bus():
    dut = engine(16)
    slave, commands, data, wanted = stage(dut, [(BASE + 3, 900, 1, 0)] * 2, latency=20)
    watch = Watch(dut, "idle")
    cycles = simulate(dut, [slave, commands, data, watch],
                            until=finished(commands, data, watch))
    assert slave.memory == wanted
    assert cycles <= 2 * 57 + 20 + 30


def test_no_burst_before_its_data():
    dut = engine(16)
    slave, commands, data, _ = stage(dut, [(BASE, 256, 1, 0)])
    data.items = type(data.items)(list(data.items)[:15])
    cycles = []
    watch = Watch(dut, "axi.awvalid", "idle")
    simulate(dut, [slave, commands, data, watch], until=lambda: len(cycles) == 60,
                   each_cycle=lambda ctx, cycle: cycles.append(cycle))
    assert not data.items and not any(watch.seen["axi.awvalid"]) and not watch.seen["idle"][-1]


def test_a_full_queue_repeats_no_burst():
    dut = engine(16)
    # 57 beats in four bursts, then 9: the last beat of the fifth burst is the first without room.
    slave, commands, data, wanted = stage(
        dut, [(BASE, 912, 1, 0), (BASE + 928, 144, 1, 0)])
    watch = Watch(dut, "idle")

    def each_cycle(ctx, cycle):
        slave.frozen = cycle < 150
        if cycle == 149:
            assert len(data.items) == 1

    simulate(dut, [slave, commands, data, watch], each_cycle=each_cycle,
                   until=finished(commands, data, watch))
    assert slave.memory == wanted and len(slave.addresses) == 5


@pytest.mark.parametrize("length", [1, 60])
@pytest.mark.parametrize("begin", range(20, 60, 3))
def test_flush_completes_requested_bursts_only(begin, length):
    dut = engine(16)
    slave, commands, data, _ = stage(dut, [(BASE + 8, 700, 1, 0), (BASE, 30, 9, 33)],
                                     stall=0.3, latency=12, seed=begin)
    later = (BASE + 5, 300, 2, 310)
    row = bytes(range(1, 151)) * 2
    state = {"queued": False}

    def each_cycle(ctx, cycle):
        ctx.set(dut.engine.flush, begin <= cycle < begin + length)
        if cycle == begin:
            for source in (commands, data):
                source.items.clear()
                source.offered = False
        if cycle > begin + length and not state["queued"] and ctx.get(dut.engine.quiet):
            assert not slave.rules.outstanding and not slave.rules.bursts
            commands.items.append(pack_transfer(*later))
            data.items.extend(beats_of([row, row], 16))
            state["queued"] = True

    watch = Watch(dut, "idle")
    done = finished(commands, data, watch)
    simulate(dut, [slave, commands, data, watch], each_cycle=each_cycle,
                   until=lambda: state["queued"] and done())
    start = later[0] - BASE
    assert slave.memory[start:start + 300] == row == slave.memory[start + 310:start + 610]
    assert not any(slave.memory[708:]), "a byte outside the rows"


def test_errors_and_counts_are_pulses():
    dut = engine(8)
    slave, commands, data, _ = stage(dut, [(BASE + 1, 400, 1, 0)], stall=0.3)
    slave.fail_beats = {1}
    watch = Watch(dut, "idle", "engine.failure.valid", "counts.write_bursts", "counts.write_beats",
                  "engine.moved", "engine.answered")
    simulate(dut, [slave, commands, data, watch], until=finished(commands, data, watch))
    seen = {name: sum(values) for name, values in watch.seen.items()}
    bursts = len(slave.addresses)
    assert seen["engine.failure.valid"] == 1
    assert seen["counts.write_bursts"] == seen["engine.answered"] == bursts
    assert seen["counts.write_beats"] == seen["engine.moved"] == 51


def test_wrong_byte_is_noticed():
    dut = engine(8)
    slave, commands, data, wanted = stage(dut, [(BASE + 3, 30, 2, 33)])
    watch = Watch(dut, "idle")
    data.items[2] ^= 1
    simulate(dut, [slave, commands, data, watch], until=finished(commands, data, watch))
    assert [at for at in range(100) if slave.memory[at] != wanted[at]] == [3 + 16]


def test_depth_holds_two_bursts():
    with pytest.raises(ValueError, match="^depth must be at least 32"):
        engine(16, depth=16)


@pytest.mark.parametrize("transfers", [[], [(BASE, 16, 1, 0)]])
def test_an_answer_that_nobody_asked_for_is_told_and_counts_for_none(transfers):
    dut = engine(16)
    slave, commands, data, _ = stage(dut, transfers)
    watch = Watch(dut, "engine.quiet", "idle", "engine.answered", "engine.failure.valid",
                  "engine.unasked")

    def each_cycle(ctx, cycle):
        if cycle == 30:
            assert ctx.get(dut.engine.quiet) and not commands.items
            slave.answers.append(slave.now)
            slave.fail_beats = {len(transfers)}
            slave.rules.outstanding += 1

    simulate(dut, [slave, commands, data, watch], each_cycle=each_cycle,
             until=lambda: len(watch.seen["idle"]) == 80)
    assert sum(watch.seen["engine.answered"]) == len(transfers) + 1
    assert sum(watch.seen["engine.unasked"]) == 1 and all(watch.seen["engine.quiet"][32:])
    assert not any(watch.seen["engine.failure.valid"])


def test_an_answer_before_a_burst_is_sent_whole_is_none():
    dut = engine(16)
    slave, commands, data, wanted = stage(dut, [(BASE, 256, 1, 0)])
    watch = Watch(dut, "idle", "engine.moved", "engine.unasked", "engine.quiet")

    def each_cycle(ctx, cycle):
        # The address and some beats come, then nothing but an answer and the rest.
        slave.frozen = 4 <= sum(watch.seen["engine.moved"]) < 16 and cycle < 50
        if cycle == 50:
            assert slave.addresses and slave.bursts and not slave.answers
            slave.answers.append(slave.now)
            slave.rules.outstanding += 1

    simulate(dut, [slave, commands, data, watch], each_cycle=each_cycle,
             until=lambda: len(watch.seen["idle"]) > 60 and finished(commands, data, watch)())
    assert slave.memory == wanted and sum(watch.seen["engine.unasked"]) == 1
    assert watch.seen["engine.quiet"][-1]
