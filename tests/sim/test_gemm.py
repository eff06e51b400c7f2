"""The generated Verilog behind its AXI ports against the model: random programs, then faults."""

import numpy as np
import pytest

from hdl.spec.commands import COMMAND, HEADER, HEADER_BYTES, ErrorCause
from hdl.spec.config import AcceleratorConfig
from sim.bench.programs import EPILOGUES, random_case, stray_writes
from sim.bench.regression import LIMIT, compare, small_accelerator
from sim.harness.accelerator import DECERR, SLVERR, Accelerator, Fault
from sim.harness.stalls import PROFILES, StallProfile
from sim.model.machine import Machine

PROGRAMS = 60


@pytest.mark.parametrize("profile", ["ideal", "heavy"])
@pytest.mark.parametrize("fmt", ["posit8", "fp8", "bf16"])
def test_random_programs(fmt, profile):
    machine = small_accelerator(fmt)
    rng = np.random.default_rng(["ideal", "heavy"].index(profile))
    compared = sum(compare(
        machine, random_case(machine.config, rng, epilogue=EPILOGUES[index % len(EPILOGUES)]),
        profile, index) for index in range(PROGRAMS))
    assert compared > 20 * PROGRAMS
    print(f"{fmt} {profile}: {PROGRAMS} programs, {compared} bytes compared")


@pytest.mark.parametrize("fmt", ["posit8", "bf16"])
@pytest.mark.parametrize("epilogue", ["none", "softmax"])
def test_shapes_beyond_the_banks(fmt, epilogue):
    # Rows of up to 100 columns against banks of 64: a softmax is computed in three streams.
    machine = small_accelerator(fmt)
    rng = np.random.default_rng(100)
    compared = sum(compare(
        machine, random_case(machine.config, rng, largest=100, epilogue=epilogue), profile, index)
        for index, profile in enumerate(["ideal", "light", "bursty"] * 2))
    assert compared > 1000
    print(f"{fmt} {epilogue}: {compared} bytes compared")


def test_dim_16():
    machine = Accelerator(AcceleratorConfig("posit8", dim=16))
    rng = np.random.default_rng(16)
    compared = sum(compare(machine, random_case(machine.config, rng, largest=70), profile,
                                   index)
                   for index, profile in enumerate(["ideal", "light", "bursty", "heavy"]))
    assert compared > 1000
    print(f"dim 16: {compared} bytes compared")


def patched(case, table, field, value, offset=0):
    """The image with one field of the header, or of the command at ``offset``, changed."""
    memory = case.memory.copy()
    entry = table[field]
    start = case.address - case.base + offset + entry.word * 4
    bits = memory[start:start + 4].view("<u4")
    mask = (1 << entry.bits) - 1 << entry.low
    bits[:] = int(bits[0]) & ~mask & 0xFFFFFFFF | value << entry.low & mask
    return memory


@pytest.fixture
def case():
    return random_case(small_accelerator("posit8").config, np.random.default_rng(5))


@pytest.mark.parametrize("table, field, value, cause", [
    (HEADER, "magic", 0, ErrorCause.BAD_MAGIC),
    (HEADER, "isa_major", 9, ErrorCause.BAD_VERSION),
    (HEADER, "isa_minor", 9, ErrorCause.BAD_VERSION),
    (HEADER, "features", 1 << 31, ErrorCause.BAD_FEATURE),
    (HEADER, "commands", 0, ErrorCause.BAD_LENGTH),
    (HEADER, "commands", 1, ErrorCause.BAD_LENGTH),
    (COMMAND, "opcode", 0, ErrorCause.BAD_OPCODE),
    (COMMAND, "opcode", 5, ErrorCause.BAD_OPCODE),
    (COMMAND, "opcode", 255, ErrorCause.BAD_OPCODE),
    (COMMAND, "m", 0, ErrorCause.BAD_SHAPE),
    (COMMAND, "k", 0, ErrorCause.BAD_SHAPE),
    (COMMAND, "n", 0, ErrorCause.BAD_SHAPE),
    (COMMAND, "n", 1 << 24, ErrorCause.OVERSIZE),
    (COMMAND, "a_transposed", 1, ErrorCause.BAD_FIELD),
])
def test_bad_programs_stop_with_their_code(case, table, field, value, cause):
    machine = small_accelerator("posit8")
    memory = patched(case, table, field, value, HEADER_BYTES if table is COMMAND else 0)
    outcome = Machine(machine.config).run(memory.copy(), case.address, case.base)
    result = machine.run(memory, case.address, case.base, max_cycles=LIMIT)
    assert (result.error, result.errors) == (cause, (cause,)) and outcome.error == cause
    assert result.error_address == outcome.error_address
    assert (result.status, result.violations) == (0b100, [])
    compare(machine, case, "light", 0)


def test_a_misaligned_program_is_refused(case):
    machine = small_accelerator("posit8")
    result = machine.run(case.memory.copy(), case.address + 4, case.base, max_cycles=LIMIT)
    assert (result.error, result.error_address) == (ErrorCause.MISALIGNED, case.address + 4)
    assert result.bus["read_bursts"] == 0
    compare(machine, case, "ideal", 0)


@pytest.mark.parametrize("profile", ["ideal", "heavy"])
@pytest.mark.parametrize("resp", [SLVERR, DECERR])
def test_bus_errors_stop_with_their_code(case, resp, profile):
    machine = small_accelerator("posit8")
    command = case.address + HEADER_BYTES
    a_offset = COMMAND["a_address"].word * 4
    start = command - case.base + a_offset
    a_address = int(case.memory[start:start + 8].view("<u8")[0])
    target = case.outputs[0].address
    for fault, cause, address in (
            (Fault(case.address, case.address + 1, resp), ErrorCause.READ_ERROR, case.address),
            (Fault(command, command + 1, resp), ErrorCause.READ_ERROR, None),
            (Fault(a_address, a_address + 1, resp), ErrorCause.READ_ERROR, command),
            (Fault(target, target + 1, resp, reads=False), ErrorCause.WRITE_ERROR, command)):
        result = machine.run(case.memory.copy(), case.address, case.base, faults=[fault],
                             stalls=PROFILES[profile], max_cycles=LIMIT)
        assert (result.error, result.violations) == (cause, [])
        if address is not None and profile == "ideal":
            assert result.error_address == address
        compare(machine, case, profile, 1)


def test_a_watchdog_stops_a_program(case):
    machine = small_accelerator("posit8")
    result = machine.run(case.memory.copy(), case.address, case.base, watchdog=50,
                         max_cycles=LIMIT)
    assert (result.error, result.violations) == (ErrorCause.WATCHDOG, [])
    compare(machine, case, "ideal", 0)


@pytest.mark.parametrize("profile", ["ideal", "bursty"])
def test_the_host_stops_a_program_at_any_time(case, profile):
    machine = small_accelerator("posit8")
    ended = set()
    for cycle in (0, 20, 47, 90, 131, 150, 180, 200, 230, 260, 300):
        result = machine.run(case.memory.copy(), case.address, case.base, stop_after=cycle,
                             stalls=PROFILES[profile], seed=cycle, max_cycles=LIMIT)
        assert (result.error in (None, ErrorCause.STOPPED), result.violations) == (True, [])
        ended.add(result.error)
        compare(machine, case, profile, cycle)
    assert ErrorCause.STOPPED in ended


def test_a_bus_that_never_answers_is_reported_as_stuck(case):
    machine = small_accelerator("posit8")
    silent = StallProfile("silent", stall={"r": 1.0})
    result = machine.run(case.memory.copy(), case.address, case.base, stalls=silent, watchdog=100,
                         max_cycles=LIMIT)
    assert set(result.errors) == {ErrorCause.WATCHDOG, ErrorCause.BUS_STUCK}
    assert result.status & 0b1000
    machine.write("CONTROL", 1)
    assert machine.read("STATUS") & 0b1001 == 0b1000  # refused
    machine.reset()
    compare(machine, case, "ideal", 0)


def test_comparison_sees_one_wrong_bit(case):
    # The negative control: the same program on an image whose first operand has one bit flipped.
    machine = small_accelerator("posit8")
    wrong = case.memory.copy()
    machine.run(wrong, case.address, case.base, max_cycles=LIMIT)
    wrong[case.outputs[0].address - case.base] ^= 1
    expected = case.memory.copy()
    Machine(machine.config).run(expected, case.address, case.base)
    assert np.count_nonzero(wrong != expected) == 1
    written = np.zeros_like(wrong)
    assert stray_writes(case, written)
