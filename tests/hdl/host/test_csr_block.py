import random
from operator import attrgetter

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from hdl.host.counters import Counters
from hdl.host.csr_block import CsrBlock
from hdl.lib.sram import Sram1R1W
from hdl.ports.counts import increment_bits
from hdl.spec.commands import ErrorCause, features_of
from hdl.spec.config import AcceleratorConfig
from hdl.spec.registers import COUNTED_BY, COUNTER_BASE, COUNTERS, IDENTITY, REGISTERS
from support.seeds import seed_of

CONFIG = AcceleratorConfig(fmt="posit8", dim=8)
AT = {register.name: register.offset for register in REGISTERS}
PULSES = ("start", "stop", "soft_reset")


class Host:
    """An AXI4-Lite master with random gaps; counts the pulses that come meanwhile."""

    def __init__(self, ctx, dut, seed=0):
        self.ctx, self.dut, self.chance = ctx, dut, random.Random(seed)
        self.pulses = dict.fromkeys(PULSES, 0)

    async def tick(self):
        for name in PULSES:
            self.pulses[name] += self.ctx.get(getattr(self.dut.program, name))
        await self.ctx.tick()

    async def write(self, offset, word, strobe=0xF):
        ctx, bus = self.ctx, self.dut.axi
        waits = {"aw": self.chance.randint(0, 3), "w": self.chance.randint(0, 3)}
        ctx.set(bus.awaddr, offset)
        ctx.set(bus.wdata, word)
        ctx.set(bus.wstrb, strobe)
        answer_after = self.chance.randint(0, 3)
        held = 0
        for _ in range(30):
            for channel in list(waits):
                ctx.set(getattr(bus, channel + "valid"), waits[channel] <= 0)
                waits[channel] -= 1
            valid = ctx.get(bus.bvalid)
            assert not (held and not valid), "bvalid fell before bready"
            held += valid
            ctx.set(bus.bready, held > answer_after)
            over = valid and held > answer_after
            taken = [c for c in waits
                     if ctx.get(getattr(bus, c + "valid")) and ctx.get(getattr(bus, c + "ready"))]
            await self.tick()
            for channel in taken:
                del waits[channel]
                ctx.set(getattr(bus, channel + "valid"), 0)
            if over:
                ctx.set(bus.bready, 0)
                assert ctx.get(bus.bresp) == 0 and not ctx.get(bus.bvalid)
                return
        raise AssertionError("no write response")

    async def read(self, offset):
        ctx, bus = self.ctx, self.dut.axi
        ctx.set(bus.araddr, offset)
        ctx.set(bus.arvalid, 1)
        while not ctx.get(bus.arready):
            await self.tick()
        await self.tick()
        ctx.set(bus.arvalid, 0)
        while not ctx.get(bus.rvalid):
            await self.tick()
        word = ctx.get(bus.rdata)
        for _ in range(self.chance.randint(0, 3)):
            await self.tick()
            assert ctx.get(bus.rvalid) and ctx.get(bus.rdata) == word
        ctx.set(bus.rready, 1)
        assert ctx.get(bus.rresp) == 0
        await self.tick()
        ctx.set(bus.rready, 0)
        return word

    async def pulse(self, **values):
        """Set inputs, named with ``__`` for a dot, for one cycle."""
        ports = [attrgetter(name.replace("__", "."))(self.dut) for name in values]
        for port, value in zip(ports, values.values(), strict=True):
            self.ctx.set(port, value)
        await self.tick()
        for port in ports:
            self.ctx.set(port, 0)

    async def fail(self, event=None, **values):
        """Report a failure of the program, together with ``event``."""
        await self.pulse(**(event or {}), **{f"program__failure__{name}": value
                                             for name, value in values.items()})


def run(script, seed=0):
    dut = CsrBlock(CONFIG)
    finished = []

    async def bench(ctx):
        await script(Host(ctx, dut, seed), dut, ctx)
        finished.append(True)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert finished


@pytest.mark.parametrize("seed", range(3))
def test_reset_values_and_holes(seed):
    async def script(host, dut, ctx):
        known = {
            AT["IDENTITY"]: IDENTITY,
            AT["ISA_VERSION"]: 1 << 16,
            AT["CONFIG_HASH_LOW"]: CONFIG.hash & 0xFFFF_FFFF,
            AT["CONFIG_HASH_HIGH"]: CONFIG.hash >> 32,
            AT["FEATURES"]: int(features_of(CONFIG)),
            AT["SHAPE"]: 8 | 8 << 8 | 16 << 16 | len(COUNTERS) << 24,
        }
        offsets = [*range(0, 0x200, 4), 0x800, 0xFFC]
        host.chance.shuffle(offsets)
        for offset in offsets:
            assert await host.read(offset) == known.get(offset, 0), hex(offset)
    run(script, seed)


@pytest.mark.parametrize("seed", range(3))
def test_only_writable_fields_change(seed):
    writable = {r.offset: sum(((1 << f.bits) - 1) << f.low for f in r.fields if f.access == "rw")
                for r in REGISTERS}

    async def script(host, dut, ctx):
        before = {o: await host.read(o) for o in range(0, 0x200, 4)}
        wanted = {}
        for offset in before:
            if offset == AT["CONTROL"]:
                continue
            word, strobe = host.chance.getrandbits(32), host.chance.randint(0, 15)
            mask = sum(0xFF << 8 * k for k in range(4) if strobe >> k & 1)
            mask &= writable.get(offset, 0)
            await host.write(offset, word, strobe)
            wanted[offset] = (before[offset] & ~mask) | (word & mask)
        for offset, word in wanted.items():
            assert await host.read(offset) == word, hex(offset)
        low, high = wanted[AT["PROGRAM_LOW"]], wanted[AT["PROGRAM_HIGH"]]
        assert ctx.get(dut.program.address) == low | high << 32
        assert ctx.get(dut.program.watchdog_limit) == wanted[AT["WATCHDOG"]]
        assert not any(host.pulses.values())
    run(script, seed)


def test_every_write_is_answered():
    async def script(host, dut, ctx):
        answers = 0
        for cycle in range(20):
            ctx.set(dut.axi.awvalid, cycle < 5)
            ctx.set(dut.axi.wvalid, cycle < 5)
            ctx.set(dut.axi.awaddr, AT["WATCHDOG"])
            ctx.set(dut.axi.wdata, cycle)
            ctx.set(dut.axi.wstrb, 0xF)
            ctx.set(dut.axi.bready, cycle >= 10)
            answers += ctx.get(dut.axi.bvalid) and ctx.get(dut.axi.bready)
            if cycle == 9:
                assert not ctx.get(dut.axi.awready) and not ctx.get(dut.axi.wready)
            await host.tick()
        assert answers == 2
        assert await host.read(AT["WATCHDOG"]) == 2
    run(script)


def test_start_and_stop_are_guarded():
    async def script(host, dut, ctx):
        for busy, stuck, starts, stops in ((0, 0, 1, 0), (1, 0, 0, 1), (0, 1, 0, 0), (1, 1, 0, 1)):
            ctx.set(dut.program.busy, busy)
            ctx.set(dut.program.bus_stuck, stuck)
            host.pulses = dict.fromkeys(PULSES, 0)
            await host.write(AT["CONTROL"], 1)
            await host.write(AT["CONTROL"], 2)
            await host.write(AT["CONTROL"], 3, strobe=0xE)
            assert host.pulses == {"start": starts, "stop": stops, "soft_reset": 0}
            assert await host.read(AT["CONTROL"]) == 0
            assert await host.read(AT["STATUS"]) == busy | stuck << 3
    run(script)


def test_events_status_and_interrupt():
    async def script(host, dut, ctx):
        await host.pulse(program__done=1)
        await host.tick()
        assert not ctx.get(dut.interrupt)
        await host.write(AT["INTERRUPT_ENABLE"], 1)
        assert ctx.get(dut.interrupt)
        assert await host.read(AT["STATUS"]) == 2
        await host.write(AT["INTERRUPT"], 2)
        assert ctx.get(dut.interrupt)
        await host.write(AT["INTERRUPT"], 1)
        assert not ctx.get(dut.interrupt)
        await host.pulse(program__failed=1)
        await host.tick()
        assert not ctx.get(dut.interrupt)
        assert await host.read(AT["STATUS"]) == 6
        assert await host.read(AT["INTERRUPT"]) == 2
        await host.write(AT["INTERRUPT_ENABLE"], 2)
        assert ctx.get(dut.interrupt)
        await host.write(AT["CONTROL"], 1)
        assert await host.read(AT["STATUS"]) == 0
        assert ctx.get(dut.interrupt)
    run(script)


def test_first_error_keeps_its_address():
    async def script(host, dut, ctx):
        async def address():
            return (await host.read(AT["ERROR_ADDRESS_LOW"])
                    | await host.read(AT["ERROR_ADDRESS_HIGH"]) << 32)
        opcode, bus = 1 << ErrorCause.BAD_OPCODE, 1 << ErrorCause.BUS_STUCK
        await host.fail(causes=opcode, address=0x1234_5678_9ABC_DEF0, client=4, response=2)
        await host.fail(causes=bus, address=7, client=1, response=3)
        assert await host.read(AT["ERROR"]) == opcode | bus
        assert await address() == 0x1234_5678_9ABC_DEF0
        assert await host.read(AT["ERROR_DETAIL"]) == 4 | 2 << 8
        await host.write(AT["ERROR"], opcode)
        assert await host.read(AT["ERROR"]) == bus
        await host.fail(causes=opcode, address=9)
        assert await address() == 0x1234_5678_9ABC_DEF0
        await host.write(AT["ERROR"], 0xFFFF_FFFF)
        assert await host.read(AT["ERROR"]) == 0
        await host.fail(causes=opcode, address=11)
        assert await address() == 11
    run(script)


def test_soft_reset_waits_and_clears():
    async def script(host, dut, ctx):
        await host.write(AT["WATCHDOG"], 99)
        await host.write(AT["INTERRUPT_ENABLE"], 3)
        ctx.set(dut.program.busy, 1)
        await host.pulse(counts__core__tiles=1)
        await host.write(AT["CONTROL"], 4)
        assert host.pulses == {"start": 0, "stop": 0, "soft_reset": 1}
        await host.fail(causes=1 << ErrorCause.STOPPED, address=3, event={"program__failed": 1})
        ctx.set(dut.program.busy, 0)
        await host.write(AT["CONTROL"], 1)
        assert host.pulses["start"] == 0
        assert await host.read(AT["STATUS"]) == 4 and not ctx.get(dut.interrupt)
        assert await host.read(AT["ERROR"]) == 1 << ErrorCause.STOPPED
        await host.pulse(program__reset_done=1)
        for name in ("STATUS", "ERROR", "ERROR_ADDRESS_LOW", "INTERRUPT", "TILES_LOW"):
            assert await host.read(AT[name]) == 0, name
        assert await host.read(AT["WATCHDOG"]) == 99
        await host.write(AT["CONTROL"], 1)
        assert host.pulses["start"] == 1
    run(script)


def test_counters_count_freeze_and_clear():
    async def script(host, dut, ctx):
        total = {}
        source = {name: by for by, names in COUNTED_BY.items() for name in names}
        for index, (name, _) in enumerate(COUNTERS):
            total[index] = 0
            for _ in range(3):
                step = host.chance.randint(0, (1 << increment_bits(name)) - 1)
                await host.pulse(**{f"counts__{source[name]}__{name.lower()}": step})
                total[index] += step
        for index, wanted in total.items():
            assert await host.read(COUNTER_BASE + 8 * index) == wanted
        await host.write(AT["COUNTER_CONTROL"], 1)
        await host.pulse(counts__sequencer__cycles=1, counts__core__nars=3)
        assert await host.read(AT["CYCLES_LOW"]) == total[0]
        await host.write(AT["COUNTER_CONTROL"], 2)
        assert await host.read(AT["CYCLES_LOW"]) == await host.read(AT["NARS_LOW"]) == 0
        assert await host.read(AT["COUNTER_CONTROL"]) == 0
        await host.pulse(counts__core__nars=3)
        assert await host.read(AT["NARS_LOW"]) == 3
        await host.write(AT["CONTROL"], 1)
        assert await host.read(AT["NARS_LOW"]) == 0
    run(script)


@pytest.mark.parametrize("chance", [0.0, 0.1, 1.0])
def test_counters_look_at_any_time(chance):
    """Everything counts at its most, but where frozen; ``chance`` of a look wherever one may be."""
    dut, rng = Counters(), random.Random(seed_of(chance))
    steps = {f"{by}__{name.lower()}": (1 << increment_bits(name)) - 1
             for by, names in COUNTED_BY.items() for name in names}
    order = [f"{by}__{name.lower()}" for name, _ in COUNTERS
             for by, names in COUNTED_BY.items() if name in names]
    seen = []

    async def bench(ctx):
        for path, step in steps.items():
            ctx.set(attrgetter(path.replace("__", "."))(dut.counts), step)
        total, waits, index = 0, 0, None
        for cycle in range(3000):
            frozen, clear = cycle % 400 >= 300, cycle % 1000 == 999
            waits += 1
            pauses = index is None and waits >= 3 and (rng.random() < chance or cycle > 2900)
            ctx.set(dut.freeze, frozen)
            ctx.set(dut.clear, clear)
            ctx.set(dut.pause, pauses)
            ctx.set(dut.look, index is not None)
            if index is not None:
                ctx.set(dut.index, index)
            looked, wanted = index, total + (not frozen)
            index = rng.randrange(len(COUNTERS)) if pauses else None
            await ctx.tick()
            total = 0 if clear else wanted
            if looked is not None:
                waits = 0
                assert ctx.get(dut.value) == total * steps[order[looked]], (cycle, looked)
                seen.append(looked)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(set(seen)) > (2 if chance == 0 else 16)


def test_counters_carry_into_the_high_word(monkeypatch):
    low = (1 << 32) - 5

    class Full(Sram1R1W):
        """A memory in which every counter is almost beyond its low word."""

        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.data.eq(low)
            return m

    monkeypatch.setattr("hdl.host.counters.Sram1R1W", Full)
    dut = Counters()
    seen = []

    async def bench(ctx):
        ctx.set(dut.counts.core.nars, 100)
        await ctx.tick().repeat(2 * len(COUNTERS))
        ctx.set(dut.pause, 1)
        await ctx.tick()
        ctx.set(dut.pause, 0)
        ctx.set(dut.look, 1)
        ctx.set(dut.index, [name for name, _ in COUNTERS].index("NARS"))
        await ctx.tick()
        seen.append(ctx.get(dut.value) - low)

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen[0] % 100 == 0 and 100 <= seen[0] <= 100 * 3 * len(COUNTERS)
