"""What the cocotb benches share: the build's configuration, time, streams, the final report."""

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly, Timer

from hdl.spec.config import AcceleratorConfig
from hdl.spec.surroundings import Surroundings

__all__ = ["CLOCK_NS", "configuration", "drive", "expect", "generator", "join", "put", "report",
           "reset", "sample", "settle", "start_clock", "step", "surroundings"]

CLOCK_NS = 10


def configuration() -> AcceleratorConfig:
    """What the design under test was generated from."""
    return AcceleratorConfig(**json.loads(os.environ["OTTAVA_CONFIG"]))


def surroundings() -> Surroundings:
    """What it was generated for."""
    return Surroundings(**json.loads(os.environ.get("OTTAVA_SURROUNDINGS", "{}")))


def generator() -> np.random.Generator:
    """Random numbers from the run's seed, which cocotb gave to ``random``."""
    return np.random.default_rng(random.getrandbits(64))


def report(cases: int, cycles: int) -> None:
    """Add to what the run says that it checked."""
    path = Path(os.environ["OTTAVA_REPORT"])
    before = json.loads(path.read_text()) if path.exists() else {"cases": 0, "cycles": 0}
    path.write_text(json.dumps({"cases": before["cases"] + int(cases),
                                "cycles": before["cycles"] + int(cycles)}))


def join(words, bits: int) -> int:
    """One wide integer of ``words`` of ``bits`` bits, the first lowest."""
    return sum(int(word) << bits * index for index, word in enumerate(words))


def put(dut, **values: int) -> None:
    """Drive input ports; a negative value is stored in two's complement."""
    for name, value in values.items():
        port = getattr(dut, name)
        port.value = int(value) & (1 << len(port)) - 1


async def drive(dut, **values: int) -> None:
    """Drive the inputs of a combinational block and let them settle."""
    put(dut, **values)
    await Timer(1, "ns")


def sample(dut, *names: str) -> tuple[int, ...]:
    """Output ports as unsigned integers."""
    return tuple(int(getattr(dut, name).value) for name in names)


def expect(got: int, expected: int, what: str) -> None:
    assert got == expected, f"{what}: got {got:#x}, expected {int(expected):#x}"


def start_clock(clock) -> None:
    Clock(clock, CLOCK_NS, unit="ns").start()


async def step(clock) -> None:
    """To the middle of the next cycle, where inputs may change."""
    await FallingEdge(clock)


async def settle() -> None:
    """Until outputs follow the inputs just driven: what the next rising edge will see.

    Nothing may be driven again before ``step``.
    """
    await ReadOnly()


async def reset(dut, inputs: Mapping[str, int], cycles: int = 2) -> None:
    """Start the clock and hold ``rst`` high, all ``inputs`` driven."""
    start_clock(dut.clk)
    put(dut, rst=1, **inputs)
    for _ in range(cycles):
        await step(dut.clk)
    put(dut, rst=0)
