"""An accelerator that does something else than the machine model is told, in one line."""

from types import SimpleNamespace

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder
from hdl.spec.commands import ErrorCause
from hdl.spec.config import AcceleratorConfig
from sim.model.machine import Machine
from sim.verify.runner import RunError
from sim.verify.starts import machine_start, rtl_start

CONFIG = AcceleratorConfig("posit8", dim=4)


def program():
    builder = ProgramBuilder(CONFIG, 0x400)
    out = builder.empty(4, 4)
    builder.gemm(builder.constant(np.ones((4, 4))), builder.constant(np.eye(4)), out)
    return *builder.build(), out


class Harness:
    """In the harness's place: the machine model, and what ``change`` makes of its result."""

    config = CONFIG

    def __init__(self, change):
        self.change = change

    def run(self, memory, address, base, max_cycles):
        Machine(CONFIG).run(memory, address, base)
        result = SimpleNamespace(error=None, error_address=0, violations=[], cycles=7)
        self.change(memory, result)
        return result


def byte(memory, result):
    memory[3] ^= 1


def rules(memory, result):
    result.violations += ["WVALID fell before WREADY", "another"]


def error(memory, result):
    result.error, result.error_address = ErrorCause.BAD_MAGIC, 0x440


@pytest.mark.parametrize("change, message", [
    (byte, "1 of [0-9]+ bytes differ from the machine model's"),
    (rules, "AXI rules broken 2 times, first: WVALID fell before WREADY"),
    (error, "the accelerator stopped with BAD_MAGIC at 0x440")])
def test_what_the_accelerator_did_otherwise(change, message):
    memory, address, _ = program()
    with pytest.raises(RunError, match=message) as caught:
        rtl_start(Harness(change))(memory, address, 0x400)
    assert "\n" not in str(caught.value)


def test_all_bytes_of_a_start_are_compared():
    memory, address, out = program()
    other = memory.copy()
    ran = rtl_start(Harness(lambda memory, result: None))(memory, address, 0x400)
    assert (ran.compared, ran.cycles) == (memory.size, 7)
    assert machine_start(CONFIG)(other, address, 0x400).compared == 0
    assert np.array_equal(memory, other) and out.codes(memory, 0x400).any()
