"""Programs and buses at fault: what the generated Verilog reports, and that it then goes on."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    Destination,
    ErrorCause,
    Opcode,
    Operand,
    Reduce,
    pack,
    unpack,
)
from sim.campaigns.programs import BASE, Case, random_case, stray_writes
from sim.campaigns.regression import LIMIT, STUCK_CYCLES, compare, small_accelerator
from sim.harness.accelerator import DECERR, SLVERR, Fault
from sim.harness.stalls import PROFILES, StallProfile
from sim.model.machine import Machine
from support.builds import tiny


def patched(case, table, changes, offset=0):
    """The image with ``changes`` in the header, or in the command ``offset`` bytes after it."""
    memory = case.memory.copy()
    start, size = case.address - case.base + offset, HEADER_BYTES
    if table is COMMAND:
        start, size = start + HEADER_BYTES, COMMAND_BYTES
    record = memory[start:start + size]
    record[:] = np.frombuffer(pack(table, unpack(table, record.tobytes()) | changes, size), "u1")
    return memory


def refused(machine, case, memory, cause, profile="ideal"):
    """The program in ``memory`` must end with ``cause`` as the model says, the next one well.

    What came before the fault is complete, after it nothing is written.
    """
    expected = memory.copy()
    outcome = Machine(machine.config).run(expected, case.address, case.base)
    result = machine.run(memory, case.address, case.base, stalls=PROFILES[profile],
                         max_cycles=LIMIT)
    assert (result.error, result.errors) == (cause, (cause,)) and outcome.error == cause
    assert result.error_address == outcome.error_address
    assert (result.status, result.violations) == (0b100, [])
    assert np.array_equal(memory, expected)
    compare(machine, case, "light", 0)
    return result


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
])
def test_bad_programs_stop_with_their_code(case, table, field, value, cause):
    refused(small_accelerator("posit8"), case, patched(case, table, {field: value}), cause)


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


@pytest.mark.parametrize("watchdog, errors", [
    (0, {ErrorCause.BUS_STUCK}), (100, {ErrorCause.WATCHDOG, ErrorCause.BUS_STUCK})])
def test_a_bus_that_never_answers_is_reported_as_stuck(case, watchdog, errors):
    machine = small_accelerator("posit8")
    silent = StallProfile("silent", stall={"r": 1.0})
    result = machine.run(case.memory.copy(), case.address, case.base, stalls=silent,
                         watchdog=watchdog, max_cycles=LIMIT)
    assert set(result.errors) == errors
    assert (result.error_address, result.error_client) == (case.address, 0)
    assert STUCK_CYCLES < result.cycles < STUCK_CYCLES + 200
    assert result.status & 0b1000
    machine.write("CONTROL", 1)
    assert machine.read("STATUS") & 0b1001 == 0b1000  # refused
    machine.reset()
    compare(machine, case, "ideal", 0)


def pair(fmt, fence=True):
    """Two GEMMs, the second one's offset, and before them the case that ends with the first."""
    config = tiny(fmt).config
    builder = ProgramBuilder(config, BASE)
    rng = np.random.default_rng(8)
    a, b = builder.constant(rng.standard_normal((13, 11))), builder.constant(np.eye(11, 9))
    out = builder.empty(13, 9)
    builder.gemm(a, b, out)
    if fence:
        builder.fence()
    builder.gemm(a, b, builder.empty(13, 9, skew=2))
    memory, address = builder.build(seed=1, spare=64)
    case = Case(memory, address, BASE, (out,), "a GEMM before a fault")
    offset = (1 + fence) * COMMAND_BYTES
    alone = patched(case, COMMAND, {"opcode": int(Opcode.END)}, offset)
    return replace(case, memory=alone), case, offset


def listed(*instructions, last=True):
    """A list of vector instructions from their fields, with no check."""
    words = 0
    for index, fields in enumerate(instructions):
        fields = {name: int(value) for name, value in fields.items()}
        fields["last"] = int(last and index == len(instructions) - 1)
        words |= int.from_bytes(pack(INSTRUCTION, fields, 4), "little") << 32 * index
    return {"instructions": words}


STORE = {"destination": Destination.MEMORY}
KEEP = {"destination": Destination.BUFFER}
VECTOR = {"opcode": int(Opcode.VECTOR)}
COMMAND_FAULTS = [
    ({"opcode": int(Opcode.COPY), "m": 0}, ErrorCause.BAD_OPCODE),
    ({"k": 0, "n": 1 << 24}, ErrorCause.BAD_SHAPE),
    ({"n": 1 << 24, "instructions": 0}, ErrorCause.OVERSIZE),
    (VECTOR | {"k": 1, "a_transposed": 1}, ErrorCause.BAD_FIELD),
    (VECTOR | {"k": 2}, ErrorCause.BAD_FIELD),
    ({"x_gather": 1}, ErrorCause.BAD_FIELD),
    (VECTOR | {"k": 2, "x_gather": 1, "b_transposed": 1}, ErrorCause.BAD_FIELD),
    (VECTOR | {"k": 1, "b_transposed": 1}, ErrorCause.BAD_FIELD),
    (VECTOR | {"k": 1, "row_max": 1}, ErrorCause.BAD_FIELD),
    ({"n": 65, "row_max": 1}, ErrorCause.OVERSIZE),
    ({"n": 65, "row_result": 1}, ErrorCause.OVERSIZE),
    ({"row_result": 1} | listed(STORE | {"reduce": Reduce.SUM}), ErrorCause.BAD_FIELD),
    ({"c_transposed": 1} | listed(STORE | {"reduce": Reduce.SUM}), ErrorCause.BAD_FIELD),
    ({"instructions": 0}, ErrorCause.BAD_FIELD),
    (listed(*[STORE] * 8, last=False), ErrorCause.BAD_FIELD),
    ({"instructions": listed(STORE)["instructions"] | 1 << 25}, ErrorCause.BAD_FIELD),
    (listed(KEEP, STORE | {"multiply": 7}), ErrorCause.BAD_FIELD),
    (listed(STORE | {"scale": Operand.R1}), ErrorCause.BAD_FIELD),
    (listed({"reduce": Reduce.MAX}, STORE | {"add": Operand.R1}), ErrorCause.BAD_FIELD),
    (listed(STORE | {"add": Operand.SELF}), ErrorCause.BAD_FIELD),
    *[(listed(STORE | {name: value}), ErrorCause.BAD_FIELD) for name, value in
      (("scale", 7), ("function", 9), ("reduce", 3), ("post", 4), ("destination", 3))],
    (listed(STORE | {"multiply": Operand.Y, "add": Operand.Y}), ErrorCause.BAD_FIELD),
    (listed(STORE | {"add": Operand.Y, "scale": Operand.Y}), ErrorCause.BAD_FIELD),
    ({"c_wide": 1, "c_address": BASE + 1, "c_stride": 64}, ErrorCause.MISALIGNED),
    ({"c_wide": 1, "c_address": BASE, "c_stride": 7}, ErrorCause.MISALIGNED),
    ({"y0_wide": 1, "y0_address": 1} | listed(STORE | {"add": Operand.Y}), ErrorCause.MISALIGNED),
    (VECTOR | {"k": 1, "x_wide": 1, "a_address": BASE + 1}, ErrorCause.MISALIGNED),
    ({"n": 65} | listed(KEEP, STORE), ErrorCause.OVERSIZE),
]


@pytest.mark.parametrize("change, cause", COMMAND_FAULTS)
def test_bad_commands_stop_behind_a_fence(change, cause):
    alone, case, offset = pair("posit8")
    memory = patched(case, COMMAND, change, offset)
    result = refused(small_accelerator("posit8"), alone, memory, cause)
    assert result.error_address == case.address + HEADER_BYTES + offset
    assert not stray_writes(case, result.written)


@pytest.mark.parametrize("bit", [23, 31, 19 * 32, 20 * 32 + 16, 22 * 32 - 1])
def test_reserved_bits_of_a_command(bit):
    alone, case, offset = pair("posit8")
    memory = case.memory.copy()
    memory[case.address - case.base + HEADER_BYTES + offset + bit // 8] |= 1 << bit % 8
    refused(small_accelerator("posit8"), alone, memory, ErrorCause.BAD_FIELD)


@pytest.mark.parametrize("field", ["a_address", "b_stride", "c_address"])
def test_odd_bf16_tensors_are_misaligned(field):
    alone, case, offset = pair("bf16")
    memory = patched(case, COMMAND, {field: 1}, offset)
    refused(tiny("bf16"), alone, memory, ErrorCause.MISALIGNED)


@pytest.mark.parametrize("profile", ["ideal", "light", "bursty", "heavy"])
@pytest.mark.parametrize("change, cause", [
    ({"opcode": 255}, ErrorCause.BAD_OPCODE), ({"m": 0}, ErrorCause.BAD_SHAPE)])
def test_commands_before_a_bad_one_are_complete(change, cause, profile):
    # No fence between them: the fault is found while the GEMM still runs.
    alone, case, offset = pair("posit8", fence=False)
    result = refused(small_accelerator("posit8"), alone,
                     patched(case, COMMAND, change, offset), cause, profile)
    assert not stray_writes(case, result.written)


@pytest.mark.parametrize("change", [
    {"x_wide": 1}, {"a_e5m2": 1}, {"y0_wide": 1, "y0_address": 1},
    {"instructions": listed(STORE)["instructions"] | 1 << 32 + 25}])
def test_fields_without_meaning_are_not_judged(change):
    alone, _, _ = pair("posit8")
    compare(small_accelerator("posit8"), replace(alone, memory=patched(alone, COMMAND, change)),
            "light", 0)


@pytest.mark.parametrize("change", [
    {"n": 65} | listed(KEEP, STORE), {"n": 65, "row_max": 1}, None],
    ids=["a row on chip", "a row's maximum", "all bits set"])
def test_a_fence_and_an_end_have_no_field_but_their_opcode(change):
    case, _, _ = pair("posit8")
    for offset, opcode in ((COMMAND_BYTES, Opcode.FENCE), (2 * COMMAND_BYTES, Opcode.END)):
        start = case.address - case.base + HEADER_BYTES + offset
        if change is None:
            case.memory[start + 1:start + COMMAND_BYTES] = 255
        else:
            case = replace(case, memory=patched(case, COMMAND, change, offset))
        assert case.memory[start] == opcode
    assert compare(small_accelerator("posit8"), case, "light", 0) == 13 * 9
