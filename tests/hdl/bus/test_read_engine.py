import random

import pytest

from hdl.bus.read_engine import ReadEngine
from hdl.spec.config import AcceleratorConfig
from support.axi import ReadSlave
from support.streams import Sink, Source, beats_of, pack_transfer, random_transfer, simulate

BASE = 0x1_0000_0F00  # the first page boundary lies 256 bytes on
SPACE = 1024


def memory_of(seed):
    return bytearray(random.Random(seed).randbytes(SPACE + 128))


def rows_of(memory, transfer):
    address, row_bytes, rows, stride = transfer
    start = address - BASE
    return [bytes(memory[start + r * stride:start + r * stride + row_bytes]) for r in range(rows)]


def engine(bus_bytes, clients=("a", "b"), **kwargs):
    return ReadEngine(AcceleratorConfig(bus_bytes=bus_bytes), clients, **kwargs)


def wire_up(dut, memory, transfers, *, seed=0, stall=0.0, latency=4, sink_stall=None):
    slave = ReadSlave(dut.axi, memory, seed=seed, stall=stall, latency=latency, base=BASE)
    sources, sinks = {}, {}
    for name, items in transfers.items():
        sources[name] = Source(getattr(dut, name).transfer,
                                     [pack_transfer(*t) for t in items],
                                     seed=seed + 1, stall=stall)
        sinks[name] = Sink(getattr(dut, name).beats, seed=seed + 2,
                                 stall=stall if sink_stall is None else sink_stall[name])
    return slave, sources, sinks


@pytest.mark.parametrize("bus_bytes", [4, 16, 64])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_rows_arrive_aligned(bus_bytes, stall):
    chance = random.Random(bus_bytes + stall)
    memory = memory_of(1)
    dut = engine(bus_bytes)
    transfers = {name: [random_transfer(chance, BASE, SPACE) for _ in range(12)]
                 for name in ("a", "b")}
    slave, sources, sinks = wire_up(dut, memory, transfers, stall=stall)
    wanted = {name: [chunk for t in items
                     for chunk in beats_of(rows_of(memory, t), bus_bytes)]
              for name, items in transfers.items()}
    simulate(dut, [slave, *sources.values(), *sinks.values()], limit=6000, until=lambda: all(
        len(sinks[n].taken) >= len(wanted[n]) for n in wanted))
    for name in wanted:
        assert sinks[name].taken == wanted[name]
    assert slave.rules.checked > 20
    needed = sum((a % bus_bytes + r + bus_bytes - 1) // bus_bytes
                 for items in transfers.values() for addr, r, rows, stride in items
                 for a in (addr + i * stride for i in range(rows)))
    assert slave.beats == needed


def test_short_rows_make_a_burst_a_cycle():
    memory = memory_of(2)
    dut = engine(16)
    transfer = (BASE + 0x100, 16, 24, 32)
    slave, sources, sinks = wire_up(dut, memory, {"a": [transfer] * 5, "b": []}, latency=4)
    cycles = simulate(dut, [slave, *sources.values(), *sinks.values()],
                            until=lambda: len(sinks["a"].taken) == 120)
    assert cycles <= 120 + 16


def test_long_rows_fill_the_bus():
    memory = memory_of(3)
    dut = engine(16)
    slave, sources, sinks = wire_up(
        dut, memory, {"a": [(BASE, 1024, 1, 0)], "b": [(BASE, 1024, 1, 0)]}, latency=20)
    cycles = simulate(dut, [slave, *sources.values(), *sinks.values()], until=lambda: (
        len(sinks["a"].taken) == 64 and len(sinks["b"].taken) == 64))
    assert cycles <= 128 + 20 + 16


def test_a_client_that_stalls_harms_no_other():
    memory = memory_of(4)
    dut = engine(16)
    transfers = {"a": [(BASE, 1000, 1, 0)] * 4, "b": [(BASE + 3, 900, 1, 0)] * 4}
    slave, sources, sinks = wire_up(dut, memory, transfers,
                                    sink_stall={"a": 1.0, "b": 0.0})
    simulate(dut, [slave, *sources.values(), *sinks.values()], limit=1500,
                   until=lambda: len(sinks["b"].taken) == 4 * 57)
    assert sinks["b"].taken == 4 * beats_of([bytes(memory[3:903])], 16)
    assert not sinks["a"].taken


def test_an_urgent_client_goes_first_but_lets_others_live():
    # Bursts of one beat, granted one per cycle: after 15 of the urgent client comes one of the
    # other.
    memory = memory_of(5)
    dut = engine(16)
    row = (BASE + 0x100, 16, 24, 32)
    slave, sources, sinks = wire_up(dut, memory, {"a": [row] * 2, "b": [row] * 2})
    grants = []

    def each_cycle(ctx, cycle):
        if cycle == 0:
            ctx.set(dut.b.urgent, 1)
        grants.extend(name for name in "ab" if ctx.get(getattr(dut, name).granted))

    simulate(dut, [slave, *sources.values(), *sinks.values()], each_cycle=each_cycle,
                   until=lambda: len(sinks["a"].taken) == len(sinks["b"].taken) == 48)
    assert len(grants) == 96
    together = "".join(grants[:grants.index("a", 48)])
    runs = [len(run) for run in together.split("a") if run]
    assert together.count("b") > 40 and max(runs) == 15
    assert sinks["a"].taken == sinks["b"].taken


def test_landing_space_is_never_overrun():
    memory = memory_of(9)
    dut = engine(16, depth=32)
    row = (BASE + 0x100, 176, 12, 5)
    slave, sources, sinks = wire_up(dut, memory, {"a": [row], "b": [row]},
                                    sink_stall={"a": 1.0, "b": 1.0})

    def each_cycle(ctx, cycle):
        if cycle == 120:
            assert slave.beats == 2 * 23, "bursts of 11 and 12 beats have room, 12 more have not"
            sinks["a"].stall = sinks["b"].stall = 0.0

    wanted = beats_of(rows_of(memory, row), 16)
    simulate(dut, [slave, *sources.values(), *sinks.values()], each_cycle=each_cycle,
                   until=lambda: len(sinks["a"].taken) == len(sinks["b"].taken) == len(wanted))
    assert sinks["a"].taken == sinks["b"].taken == wanted


def test_clients_take_turns():
    memory = memory_of(10)
    dut = engine(16, ("a", "b", "c"))
    transfers = {name: [(BASE + 0x100 * k, 16, 30, 0)] for k, name in enumerate("abc")}
    slave, sources, sinks = wire_up(dut, memory, transfers)
    simulate(dut, [slave, *sources.values(), *sinks.values()],
                   until=lambda: all(len(sink.taken) == 30 for sink in sinks.values()))
    turns = [address - BASE >> 8 for address, _ in slave.addresses[3:-3]]
    assert len(turns) == 84
    assert all(sorted(turns[k:k + 3]) == [0, 1, 2] for k in range(len(turns) - 2))


def test_some_go_before_others_in_their_order():
    memory = memory_of(13)
    dut = engine(16, ("a", "b", "c", "d"), before=("b", "c"), outstanding=2)
    transfers = {name: [(BASE + 0x80 * k, 16, 20, 48)] for k, name in enumerate("abcd")}
    slave, sources, sinks = wire_up(dut, memory, transfers)
    grants = []

    def each_cycle(ctx, cycle):
        grants.extend(name for name in "abcd" if ctx.get(getattr(dut, name).granted))

    simulate(dut, [slave, *sources.values(), *sinks.values()], each_cycle=each_cycle,
             until=lambda: all(len(sink.taken) == 20 for sink in sinks.values()))
    assert "".join(grants) == "b" * 20 + "c" * 20 + "da" * 20


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("bus_bytes", [4, 16, 64])
def test_rows_that_follow_one_another_share_bursts(bus_bytes, stall):
    memory, chance = memory_of(14), random.Random(bus_bytes)
    dut = engine(bus_bytes)
    follow, apart = [], []
    for beats in (1, 2, 4, 8, 1, 3):  # of a row; three are not of the lengths that are merged
        size, count = beats * bus_bytes, chance.randint(2, max(2, 40 // beats))
        count = min(count, SPACE // size)
        start = BASE + bus_bytes * chance.randint(0, (SPACE - count * size) // bus_bytes)
        follow.append((start, size, count, size))
        apart.append((start + 1, size, count, size))
    slave, sources, sinks = wire_up(dut, memory, {"a": follow, "b": apart}, stall=stall)
    wanted = {name: [beat for t in items for beat in beats_of(rows_of(memory, t), bus_bytes)]
              for name, items in (("a", follow), ("b", apart))}
    simulate(dut, [slave, *sources.values(), *sinks.values()], until=lambda: all(
        len(sinks[name].taken) >= len(wanted[name]) for name in wanted))
    assert all(sinks[name].taken == wanted[name] for name in wanted)
    whole = [t for t in follow if t[1] != 3 * bus_bytes]
    rows = sum(count for _, _, count, _ in whole)
    # Of one transfer as few bursts as its beats and pages make.
    merged = 0
    for start, size, count, _ in whole:
        for page in range(start >> 12, (start + size * count - 1 >> 12) + 1):
            first, last = max(start, page << 12), min(start + size * count, page + 1 << 12)
            merged += -(-(last - first) // (16 * bus_bytes))
    others = 0
    for transfer in (*apart, *(t for t in follow if t not in whole)):
        for index in range(transfer[2]):
            begin = transfer[0] + index * transfer[3] & -bus_bytes
            end = transfer[0] + index * transfer[3] + transfer[1]
            others += 1 + ((end - 1) >> 12 > begin >> 12 and (end - 1 & -4096) > begin)
    assert len(slave.addresses) == merged + others and merged < rows


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("bus_bytes", [4, 16])
def test_a_row_that_repeats_is_read_once(bus_bytes, stall):
    memory, chance = memory_of(15), random.Random(bus_bytes)
    dut = engine(bus_bytes, depth=32, repeating={"a": 12})
    items = [(BASE, 32 * bus_bytes, 3, 0), (BASE + 3, 32 * bus_bytes, 2, 0), (BASE + 1, 0, 4, 0),
             (BASE + bus_bytes, bus_bytes, 12, 0), (BASE, 33 * bus_bytes, 2, 0)]
    for _ in range(14):
        size, rows = chance.randint(1, 9 * bus_bytes), chance.choice([1, 1, 2, 3, 9])
        items.append((BASE + chance.randint(0, 60), size, rows, chance.choice([0, 0, 7])))
    slave, sources, sinks = wire_up(dut, memory, {"a": items, "b": items}, stall=stall)
    wanted = [beat for t in items if t[1] for beat in beats_of(rows_of(memory, t), bus_bytes)]
    simulate(dut, [slave, *sources.values(), *sinks.values()], limit=60000, until=lambda: (
        len(sinks["a"].taken) >= len(wanted) and len(sinks["b"].taken) >= len(wanted)))
    assert sinks["a"].taken == sinks["b"].taken == wanted

    def beats(address, size):
        return (address % bus_bytes + size + bus_bytes - 1) // bus_bytes

    every = [(beats(a + i * stride, size), rows if stride == 0 else 1, i)
             for a, size, rows, stride in items if size for i in range(rows)]
    once = sum(n for n, times, index in every if times == 1 or n > 32 or index == 0)
    each_time = sum(n for n, _, _ in every)
    assert slave.beats == once + each_time and once < 0.8 * each_time


def test_a_row_that_repeats_comes_without_a_gap():
    memory = memory_of(16)
    dut = engine(16, depth=32, repeating={"a": 8})
    row = (BASE, 64, 8, 0)
    slave, sources, sinks = wire_up(dut, memory, {"a": [row] * 4, "b": []}, latency=4)
    cycles = simulate(dut, [slave, *sources.values(), *sinks.values()],
                      until=lambda: len(sinks["a"].taken) == 128)
    assert slave.beats == 16 and cycles <= 128 + 12


def test_empty_transfers_move_nothing():
    memory = memory_of(5)
    dut = engine(8)
    wanted = (BASE + 1, 20, 1, 0)
    transfers = {"a": [(BASE, 0, 3, 8), (BASE, 8, 0, 8), wanted], "b": []}
    slave, sources, sinks = wire_up(dut, memory, transfers)
    simulate(dut, [slave, *sources.values(), *sinks.values()],
                   until=lambda: len(sinks["a"].taken) == 3)
    assert sinks["a"].taken == beats_of(rows_of(memory, wanted), 8)
    assert slave.beats == 3


@pytest.mark.parametrize("length", [1, 60])
def test_after_flush_the_engine_is_as_new(length):
    memory = memory_of(6)
    dut = engine(16)
    later = (BASE + 5, 300, 2, 310)
    slave, sources, sinks = wire_up(
        dut, memory, {"a": [(BASE, 700, 2, 9)] * 9, "b": [(BASE + 1, 40, 9, 50)] * 9},
        stall=0.2, latency=12)
    begin = 30
    seen = []

    def each_cycle(ctx, cycle):
        ctx.set(dut.engine.flush, begin <= cycle < begin + length)
        if cycle == begin:
            for name in "ab":
                sources[name].items.clear()
                sources[name].offered = False
        if cycle == begin + 1:
            for name in "ab":
                sinks[name].held = None
                sinks[name].taken.clear()
            seen.append(ctx.get(dut.engine.quiet))
            sources["a"].items.append(pack_transfer(*later))
        if cycle > begin and ctx.get(dut.engine.quiet):
            seen.append(len(slave.queue))

    wanted = beats_of(rows_of(memory, later), 16)
    simulate(dut, [slave, *sources.values(), *sinks.values()], each_cycle=each_cycle,
                   until=lambda: len(sinks["a"].taken) == len(wanted))
    assert sinks["a"].taken == wanted and not sinks["b"].taken
    assert seen[0] == 0, "the flush must meet outstanding bursts"
    assert seen[1] == 0


@pytest.mark.parametrize("client", ["a", "b"])
def test_errors_and_counts_are_pulses(client):
    memory = memory_of(7)
    dut = engine(16)
    transfer = (BASE + 16, 512, 1, 0)
    slave, sources, sinks = wire_up(dut, memory, {"a": [], "b": [], client: [transfer]},
                                    stall=0.3)
    slave.fail_beats = {4, 9}
    failure = dut.engine.failure
    counted = {"error": failure.valid, "burst": dut.counts.read_bursts,
               "beat": dut.counts.read_beats, "moved": dut.engine.moved}
    pulses = dict.fromkeys(counted, 0)

    class Watch:
        """Counts after the slave has driven its channels."""

        def drive(self, ctx):
            for name, pulse in counted.items():
                pulses[name] += ctx.get(pulse)
            if ctx.get(failure.valid):
                assert "ab"[ctx.get(dut.awaited)] == client and ctx.get(failure.response) == 2

        def observe(self, ctx):
            pass

    simulate(dut, [slave, Watch(), *sources.values(), *sinks.values()],
                   until=lambda: len(sinks[client].taken) == 32)
    assert sinks[client].taken == beats_of(rows_of(memory, transfer), 16)
    assert pulses == {"error": 2, "burst": len(slave.addresses), "beat": 32, "moved": 32}


def test_wrong_byte_is_noticed():
    memory = memory_of(8)
    dut = engine(8)
    transfer = (BASE + 3, 30, 2, 33)
    slave, sources, sinks = wire_up(dut, memory, {"a": [transfer], "b": []})
    wanted = beats_of(rows_of(memory, transfer), 8)
    memory[40] ^= 1
    simulate(dut, [slave, *sources.values(), *sinks.values()],
                   until=lambda: len(sinks["a"].taken) == len(wanted))
    assert sinks["a"].taken != wanted


@pytest.mark.parametrize("clients", [("a",), ("a", "a"), ("a", "engine"), ("a", "b-c")])
def test_clients_must_be_new_names(clients):
    with pytest.raises(ValueError, match="^client"):
        engine(16, clients)


class Unasked:
    """How often the engine says so."""

    def __init__(self, dut):
        self.dut, self.count = dut, 0

    def drive(self, ctx):
        pass

    def observe(self, ctx):
        self.count += ctx.get(self.dut.engine.unasked)


def test_beats_that_nobody_asked_for_are_told_and_dropped():
    memory = memory_of(11)
    dut = engine(16)
    row = (BASE + 0x100, 40, 3, 64)
    slave, sources, sinks = wire_up(dut, memory, {"a": [], "b": []})
    slave.queue.append([0, BASE & -16, 3])  # of a master that was reset
    slave.rules.outstanding += 1
    unasked = Unasked(dut)

    def each_cycle(ctx, cycle):
        if cycle == 10:
            sources["a"].items.append(pack_transfer(*row))

    simulate(dut, [slave, *sources.values(), *sinks.values(), unasked], each_cycle=each_cycle,
             until=lambda: len(sinks["a"].taken) == 9)
    assert unasked.count == 3 and sinks["a"].taken == beats_of(rows_of(memory, row), 16)


@pytest.mark.parametrize("beats, told", [(3, 0), (2, 1), (4, 2)])
def test_a_burst_of_another_length_is_told(beats, told):
    dut = engine(16)
    slave, sources, sinks = wire_up(dut, memory_of(12), {"a": [(BASE, 48, 1, 0)], "b": []},
                                    latency=9)
    unasked, cycles = Unasked(dut), []

    def each_cycle(ctx, cycle):
        cycles.append(cycle)
        if slave.queue and slave.beats == 0:
            slave.queue[0][2] = beats

    simulate(dut, [slave, *sources.values(), *sinks.values(), unasked], each_cycle=each_cycle,
             until=lambda: len(cycles) == 60)
    assert slave.beats == beats and unasked.count == told
