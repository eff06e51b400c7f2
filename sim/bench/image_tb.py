"""One program image through AXI: every byte of the memory against the machine model."""

import os

import cocotb
import numpy as np

from compiler.program.image import ProgramImage
from sim.bench.support import configuration, generator, report
from sim.bench.top_tb import power_up, start
from sim.model.machine import Machine


@cocotb.test()
async def image(dut):
    config, found = configuration(), ProgramImage.load(os.environ["OTTAVA_IMAGE"])
    expected = found.memory.copy()
    assert Machine(config).run(expected, found.address, found.base).error is None
    host, memory = await power_up(dut, generator())
    memory.memory, memory.base = found.memory, found.base
    memory.written = np.zeros_like(found.memory)
    cycles = await start(dut, host, found.address, int(os.environ["OTTAVA_LIMIT"]))
    status, error = await host.read("STATUS"), await host.read("ERROR")
    assert status == 0b10, f"STATUS {status:#x}, ERROR {error:#x}"
    wrong = np.flatnonzero(found.memory != expected)
    assert not wrong.size, f"{wrong.size} bytes differ, first {wrong[:5]}"
    report(int(np.count_nonzero(memory.written)), cycles)
