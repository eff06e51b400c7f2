"""The whole accelerator: small programs through AXI with random stalls, then a bad one."""

import cocotb
import numpy as np

from hdl.spec.commands import ErrorCause
from hdl.spec.registers import IDENTITY
from sim.bench.axi import AxiMemory, LiteHost
from sim.bench.support import configuration, generator, put, report, sample, start_clock, step
from sim.campaigns.programs import random_case, stray_writes
from sim.harness.stalls import PROFILES
from sim.model.machine import Machine

LIMIT = 20_000
RUNS = (("ideal", "none"), ("heavy", "softmax"), ("light", "bias"), ("bursty", "softmax"))


async def power_up(dut, rng):
    """Host and memory of a design after its reset."""
    start_clock(dut.aclk)
    put(dut, aresetn=0)
    host = LiteHost(dut, rng)
    memory = AxiMemory(dut, np.zeros(64, np.uint8), 0, PROFILES["ideal"], rng)
    for _ in range(4):
        await step(dut.aclk)
    put(dut, aresetn=1)
    assert await host.read("IDENTITY") == IDENTITY
    return host, memory


async def until_interrupt(dut, limit):
    """Cycles until the interrupt is up."""
    for cycle in range(limit):
        await step(dut.aclk)
        if sample(dut, "interrupt")[0]:
            return cycle
    raise AssertionError(f"no interrupt within {limit} cycles")


async def start(dut, host, address, limit=LIMIT):
    await host.write("PROGRAM_LOW", address & 0xFFFFFFFF)
    await host.write("PROGRAM_HIGH", address >> 32)
    await host.write("INTERRUPT_ENABLE", 0b11)
    await host.write("CONTROL", 1)
    return await until_interrupt(dut, limit)


@cocotb.test()
async def programs(dut):
    config, rng = configuration(), generator()
    host, memory = await power_up(dut, rng)
    cases = cycles = 0
    for profile, epilogue in RUNS:
        case = random_case(config, rng, largest=7, epilogue=epilogue)
        expected = case.memory.copy()
        assert Machine(config).run(expected, case.address, case.base).error is None
        memory.memory, memory.base = case.memory, case.base
        memory.written, memory.profile = np.zeros_like(case.memory), PROFILES[profile]
        cycles += await start(dut, host, case.address)
        assert await host.read("STATUS") == 0b10, case.label
        await host.write("INTERRUPT", 0b01)
        assert not sample(dut, "interrupt")[0]
        wrong = np.flatnonzero(case.memory != expected)
        assert not wrong.size, f"{case.label}: {wrong.size} bytes differ, first {wrong[:5]}"
        assert stray_writes(case, memory.written) == [], case.label
        cases += sum(tensor.rows * tensor.row_bytes for tensor in case.outputs)
    memory.memory[case.address - case.base] ^= 1
    cycles += await start(dut, host, case.address)
    assert await host.read("STATUS") == 0b100
    assert await host.read("ERROR") == 1 << ErrorCause.BAD_MAGIC
    assert await host.read("ERROR_ADDRESS_LOW") == case.address & 0xFFFFFFFF
    report(cases, cycles)
