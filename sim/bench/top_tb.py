"""The whole accelerator between a memory and a master that others wrote.

Every channel pauses at random. Programs of all kinds give the machine model's bytes; a program that
is none, an error response and a reset in the middle of a program leave a machine that runs the
next one.
"""

import os
from ctypes import c_uint64
from dataclasses import replace

import cocotb
import numpy as np

from hdl.spec.commands import ErrorCause
from hdl.spec.registers import CLIENTS, COUNTERS
from sim.bench.client import FAILED, client_of
from sim.bench.driver import BUSY, OK, OTHER_BUILD, Driver
from sim.bench.driver import FAILED as DRIVER_FAILED
from sim.bench.support import configuration, generator, report, step
from sim.campaigns.lists import random_list_case
from sim.campaigns.programs import Case, long_rows_case, random_case
from sim.model.machine import Machine

PROGRAMS = int(os.environ.get("OTTAVA_PROGRAMS", "6"))


def drawn(rng: np.random.Generator, index: int) -> tuple[Case, np.ndarray]:
    """A program of one of three kinds, and the memory after it."""
    config = configuration()
    case = (random_case(config, rng, largest=9), random_list_case(config, rng),
            long_rows_case(config, rng))[(0, 1, 0, 1, 0, 2)[index % 6]]
    expected = case.memory.copy()
    assert Machine(config).run(expected, case.address, case.base).error is None
    return case, expected


@cocotb.test()
async def programs(dut):
    client = await client_of(dut, generator())
    compared = cycles = 0
    for index in range(PROGRAMS):
        case, expected = drawn(client.rng, index)
        cycles += await client.run(case)
        compared += await client.right(case, expected)
    report(compared, cycles)


@cocotb.test()
async def errors(dut):
    """A wrong header, or a place that answers SLVERR, ends the program; the next one runs."""
    client = await client_of(dut, generator())
    case, _ = drawn(client.rng, 0)
    case.memory[case.address - case.base] ^= 1
    compared, cycles = 0, await client.run(case)
    assert await client.read("STATUS") == FAILED
    assert await client.read("ERROR") == 1 << ErrorCause.BAD_MAGIC
    assert await client.read("ERROR_ADDRESS_LOW") == case.address & 0xFFFFFFFF
    for cause in (ErrorCause.READ_ERROR, ErrorCause.WRITE_ERROR):
        case, _ = drawn(client.rng, 0)
        await client.begin(case)
        # An unread header is where reading fails; where results go, writing does.
        result = case.outputs[0].address
        client.memory.broken = ((case.address, case.address + 64)
                                if cause is ErrorCause.READ_ERROR else (result, result + 1))
        cycles += await client.ended()
        assert await client.read("STATUS") == FAILED
        assert await client.read("ERROR") == 1 << cause
        case, expected = drawn(client.rng, 1)
        cycles += await client.run(case)
        compared += await client.right(case, expected)
    report(compared, cycles)


@cocotb.test()
async def c_driver(dut):
    """The driver in C runs programs, tells errors and counts."""
    client, config = await client_of(dut, generator()), configuration()
    driver = Driver(client, config)
    assert await driver.call("identify") == OK
    stranger = Driver(client, replace(config, row_depth=2 * config.row_depth))
    assert await stranger.call("identify") == OTHER_BUILD
    case, expected = drawn(client.rng, 0)
    client.memory.load(case)
    place = (c_uint64(case.address), c_uint64(case.base), c_uint64(len(case.memory)))
    assert await driver.call("run", *place) == OK
    compared = await client.right(case, expected)
    assert driver.ranges == [(what, case.base, len(case.memory)) for what in ("flush", "discard")]
    names = [name for name, _ in COUNTERS]
    commands = await driver.call("count", names.index("COMMANDS"))
    assert commands == await client.read("COMMANDS_LOW") > 0
    assert await client.read("COUNTER_CONTROL") == 0
    client.memory.bytes[case.address - case.base] ^= 1
    assert await driver.call("run", *place) == DRIVER_FAILED
    assert await driver.error() == (1 << ErrorCause.BAD_MAGIC, case.address)
    assert driver.error_text(1 << ErrorCause.BAD_MAGIC).startswith("BAD_MAGIC: ")
    assert driver.error_text(0) == "no error"
    client.memory.broken = (case.address, case.address + 64)
    assert await driver.call("run", *place) == DRIVER_FAILED
    assert (await driver.call("error_client")).decode() == dict(CLIENTS)["program"]
    client.memory.load(case)
    client.memory.bytes[case.address - case.base] ^= 1  # right again
    assert await driver.call("start", *place) == OK
    assert await driver.call("start", *place) == BUSY
    await driver.call("stop")
    assert await driver.call("wait_for") == DRIVER_FAILED
    assert (await driver.error())[0] == 1 << ErrorCause.STOPPED
    report(compared, 0)


@cocotb.test()
async def resets(dut):
    """A reset of design and memory in the middle of a program; the next one runs."""
    client = await client_of(dut, generator())
    compared = cycles = 0
    for index in range(3):
        case, _ = drawn(client.rng, 0)
        await client.begin(case)
        for _ in range(int(client.rng.integers(1, 250))):
            await step(dut.aclk)
        await client.power_up()
        assert await client.read("STATUS") == 0
        case, expected = drawn(client.rng, index)
        cycles += await client.run(case)
        compared += await client.right(case, expected)
    report(compared, cycles)
