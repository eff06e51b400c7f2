"""The whole accelerator in surroundings that are not the usual ones: clocks, resets.

A control port with a clock of its own has clocks of many ratios and phases, which the design's
synchronisers meet with one cycle more or less at random. Every register is read and written;
programs of all kinds give the machine model's bytes; a reset of the accelerator, of the control
port or of both comes at any time and for any time, accesses and transfers under way, and leaves a
machine that runs the next program.
"""

import cocotb
from cocotb.task import Task
from cocotb.triggers import Timer, with_timeout
from cocotb.utils import get_sim_time

from gen.identification import whole_registers
from hdl.spec.registers import COUNTER_BASE, COUNTERS, REGISTERS
from sim.bench.client import OFFSETS, Client, client_of
from sim.bench.support import CLOCK_NS, configuration, generator, report, step, surroundings
from sim.bench.top_tb import PROGRAMS, drawn

# Of the control clock, in ps: faster, nearly equal, slower.
PERIODS = (3_300, 1_000 * CLOCK_NS + 10, 57_300)
LIMIT_US = 2_000
# Of 32 bits that mean nothing by themselves.
_PLAIN = ("PROGRAM_LOW", "PROGRAM_HIGH", "WATCHDOG")


def periods() -> tuple[int, ...]:
    """Those of a run: with no more programs than usual, some by one build and some by another."""
    return PERIODS if PROGRAMS > 6 else PERIODS[surroundings().asynchronous::2]


@cocotb.test()
@cocotb.parametrize(period=periods())
async def registers(dut, period):
    """Every register: what it is after a reset, what bytes of it keep what is written."""
    client = await client_of(dut, generator(), control_ps=period)
    compared = 0
    constants = whole_registers(configuration())
    for register in REGISTERS:
        if register.name not in ("FEATURES", "SHAPE"):
            assert await client.read(register.name) == constants.get(register.name, 0)
            compared += 1
    for name in _PLAIN:
        word = 0
        for _ in range(3):
            written, first = client.rng.integers(0, 256, 4), int(client.rng.integers(0, 4))
            count = int(client.rng.integers(1, 5 - first))
            await client.host.write(OFFSETS[name] + first, bytes(written[:count].tolist()))
            for place, byte in enumerate(written[:count].tolist(), first):
                word = word & ~(0xFF << 8 * place) | byte << 8 * place
            assert await client.read(name) == word
            compared += 1
    beyond = max(register.offset for register in REGISTERS) + 4
    assert await client.host.read_dword(beyond) == 0
    report(compared + 1, 0)


@cocotb.test()
@cocotb.parametrize(period=periods())
async def programs(dut, period):
    """Programs run, are counted at their own clock, and the interrupt has gone when the write that
    cleared it is answered (``Client.begin``)."""
    client = await client_of(dut, generator(), control_ps=period)
    compared = cycles = 0
    for index in range(max(1, PROGRAMS // 6)):
        case, expected = drawn(client.rng, index)
        asked = get_sim_time("ns")
        took = await client.run(case)
        at_most = (get_sim_time("ns") - asked) / CLOCK_NS
        compared += await client.right(case, expected)
        await client.write("COUNTER_CONTROL", 1)
        counted = await client.read("CYCLES_LOW")
        # From between the write that starts it and its answer on; the interrupt comes later.
        slack = 10 + 4 * period // (1_000 * CLOCK_NS)
        assert took - slack <= counted <= at_most, f"{counted} cycles counted, {took} taken"
        for offset in range(COUNTER_BASE, COUNTER_BASE + 8 * len(COUNTERS), 4):
            assert await client.host.read_dword(offset) == await client.host.read_dword(offset)
        await client.write("COUNTER_CONTROL", 0)
        cycles += took
    report(compared, cycles)


async def _busy(client: Client, going: list[int]) -> None:
    """Reads one after another, of which a reset may take one away."""
    known = whole_registers(configuration())["IDENTITY"]
    while going:
        read = await client.host.read(OFFSETS["IDENTITY"], 4)
        if read is not None:  # 0 where the accelerator was reset meanwhile
            assert int.from_bytes(read.data, "little") in (known, 0)


async def _starting(client: Client, going: list[int]) -> None:
    """Writes of START, which mean nothing while a program runs or in a reset."""
    while going:
        await client.host.write(OFFSETS["CONTROL"], bytes([1, 0, 0, 0]))


@cocotb.test()
@cocotb.parametrize(period=periods())
async def resets(dut, period):
    """Both at once, and each alone, at any moment; the next program is right."""
    client = await client_of(dut, generator(), control_ps=period)
    compared = cycles = 0
    for index in range(max(2, PROGRAMS // 6)):
        for which in (("aresetn", "s_axi_ctrl_aresetn"), ("aresetn",), ("s_axi_ctrl_aresetn",)):
            case, _ = drawn(client.rng, 0)
            await client.begin(case)
            # A reset as short as may be, or one that all accesses end in.
            going, short = [1], index % 2 == 0
            accesses = [cocotb.start_soon(task(client, going)) for task in
                        ((_busy,) if short else (_busy, _starting))]
            for _ in range(int(client.rng.integers(1, 250))):
                await step(dut.aclk)
            await Timer(int(client.rng.integers(1, 1_000 * CLOCK_NS)), "ps")
            going.clear()
            await client.reset(which, cycles=int(client.rng.choice([1, 1, 2, 7])),
                               ended=() if short else [_all(accesses)])
            await _all(accesses)
            await _settled(client, which)
            case, expected = drawn(client.rng, index)
            cycles += await client.run(case)
            compared += await client.right(case, expected)
    report(compared, cycles)


async def _all(accesses: list[Task]) -> None:
    for task in accesses:
        await with_timeout(task, LIMIT_US, "us")


async def _settled(client: Client, which: tuple[str, ...]) -> None:
    """The control port answers; the program has ended where the accelerator was not reset."""
    await with_timeout(client.host.wait(), LIMIT_US, "us")
    status = await with_timeout(client.read("STATUS"), LIMIT_US, "us")
    if "aresetn" in which:
        assert status == 0, f"STATUS {status:#x} after a reset"
    while status & 1:
        status = await with_timeout(client.read("STATUS"), LIMIT_US, "us")
    assert await client.read("IDENTITY") == whole_registers(configuration())["IDENTITY"]


@cocotb.test()
async def a_stopped_clock(dut):
    """While the accelerator's clock stands still an access waits, and then it is right."""
    client = await client_of(dut, generator(), control_ps=3_300)
    await client.write("WATCHDOG", 12_345)
    client.core_clock.stop()
    dut.aclk.value = 0
    reading = cocotb.start_soon(client.read("WATCHDOG"))
    await Timer(5, "us")
    assert not reading.done()
    client.core_clock.start()
    assert await with_timeout(reading, LIMIT_US, "us") == 12_345
    case, expected = drawn(client.rng, 0)
    cycles = await client.run(case)
    report(await client.right(case, expected) + 1, cycles)
