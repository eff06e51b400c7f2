"""One program image through AXI: every byte of the memory against the machine model."""

import os

import cocotb
import numpy as np

from compiler.program.image import ProgramImage
from sim.bench.client import client_of
from sim.bench.support import configuration, generator, report
from sim.campaigns.programs import Case
from sim.model.machine import Machine


@cocotb.test()
async def image(dut):
    config, found = configuration(), ProgramImage.load(os.environ["OTTAVA_IMAGE"])
    expected = found.memory.copy()
    assert Machine(config).run(expected, found.address, found.base).error is None
    client = await client_of(dut, generator(), pauses=False)
    case = Case(found.memory, found.address, found.base, (), "the image")
    cycles = await client.run(case, int(os.environ["OTTAVA_LIMIT"]))
    await client.same(case.label, expected)
    report(int(np.count_nonzero(client.memory.written)), cycles)
