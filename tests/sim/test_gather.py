"""Rows of a table by indices: RTL against the model, and what stops it."""

import numpy as np
import pytest

from compiler.lowering.lists import l2_norm
from compiler.program.assembly.listing import disassemble
from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from hdl.spec.commands import COMMAND_BYTES, HEADER_BYTES, ErrorCause, Function
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import LIMIT, compare, small_accelerator
from sim.harness.accelerator import DECERR, Fault
from sim.harness.stalls import PROFILES
from sim.model.machine import Machine
from support.builds import tiny
from support.seeds import seed_of

EPILOGUES = {
    "copy": Epilogue(),
    "function": Epilogue(scale=0.5, function=Function.SILU),
    "softmax": Epilogue(softmax=True),
    "l2": l2_norm(1e-9),
}


def gathered(config, rows, table_rows, columns, numbers=None, *, epilogue="copy", encoding=None,
             transposed=False, seed=0):
    """A gather of ``rows`` of a table, and what its rows are as stored."""
    rng = np.random.default_rng([rows, table_rows, columns, seed])
    builder = ProgramBuilder(config, BASE)
    kind = encoding or config.format.encodings[0].name
    gap = 2 * int(rng.integers(0, 9))
    size = builder.encoding(kind).bits // 8
    table = builder.constant(rng.normal(0, 2, (table_rows, columns)), kind,
                             stride=columns * size + gap, skew=2 * int(rng.integers(0, 8)))
    if numbers is None:
        numbers = rng.integers(0, table_rows, rows)
        numbers[-1] = table_rows - 1
    indices = builder.indices(numbers)
    out = builder.empty(*((columns, rows) if transposed else (rows, columns)), kind, skew=2)
    builder.gather(table, indices, out, EPILOGUES[epilogue], out_transposed=transposed)
    memory, address = builder.build(seed=seed)
    return (Case(memory, address, BASE, (out,), f"{rows} of {table_rows}x{columns} {epilogue}"),
            table.codes(memory, BASE)[np.asarray(numbers) % table_rows])


@pytest.mark.parametrize("profile", ["ideal", "heavy", "bursty"])
@pytest.mark.parametrize("fmt", ["posit8", "bf16"])
def test_gathers_on_rtl(fmt, profile):
    machine = tiny(fmt)
    compared = 0
    for seed in range(16):
        rng = np.random.default_rng(seed_of(fmt, profile, seed))
        rows, table_rows = int(rng.integers(1, 24)), int(rng.integers(1, 300))
        # Rows that stay on chip, that are cut into chunks and that are streamed.
        columns = int(rng.choice([1, 3, 17, 64, 65, 130]))
        epilogue = str(rng.choice(list(EPILOGUES)))
        case, stored = gathered(
            machine.config, rows, table_rows, columns, epilogue=epilogue, seed=seed,
            encoding=None if rng.integers(2) else "bf16", transposed=bool(rng.integers(2)))
        compared += compare(machine, case, profile, seed)
        if epilogue == "copy":
            image = case.memory.copy()
            assert Machine(machine.config).run(image, case.address, BASE).error is None
            found = case.outputs[0].codes(image, BASE)
            assert np.array_equal(found if found.shape == stored.shape else found.T, stored)
    print(f"{fmt} {profile}: {compared} bytes")
    assert compared > 3000


def test_indices_of_every_bit():
    # A table of many rows without the memory for it: they overlap, by a stride of one byte.
    machine = small_accelerator("posit8")
    numbers = [0, *(1 << bit for bit in range(13)), (1 << 13) - 1, 0x1555, 0xAAA]
    rng = np.random.default_rng(3)
    builder = ProgramBuilder(machine.config, BASE)
    table = builder.constant(rng.normal(size=(1 << 13, 1)), skew=3)
    out = builder.empty(len(numbers), 1)
    builder.gather(table, builder.indices(numbers), out)
    memory, address = builder.build()
    case = Case(memory, address, BASE, (out,), "every bit")
    assert compare(machine, case, "light", 0) == len(numbers)


@pytest.mark.parametrize("profile", ["ideal", "heavy"])
@pytest.mark.parametrize("bad", [(0, 7), (5, 7), (11, 1 << 31), (10, 0xFFFFFFFF), (3, 1 << 24)])
def test_an_index_beyond_the_table_stops_the_program(bad, profile):
    machine = small_accelerator("posit8")
    place, number = bad
    numbers = [index % 7 for index in range(12)]
    sound, _ = gathered(machine.config, 12, 7, 5, numbers)
    numbers[place] = number
    case, _ = gathered(machine.config, 12, 7, 5, numbers)
    outcome = Machine(machine.config).run(case.memory.copy(), case.address, BASE)
    assert outcome.error == ErrorCause.INDEX_RANGE
    memory = case.memory.copy()
    result = machine.run(memory, case.address, BASE, stalls=PROFILES[profile], max_cycles=LIMIT)
    assert (result.error, result.errors) == (ErrorCause.INDEX_RANGE, (ErrorCause.INDEX_RANGE,))
    assert result.error_address == outcome.error_address == case.address + HEADER_BYTES
    assert (result.status, result.violations) == (0b100, [])
    assert result.cycles < 3000
    changed = np.flatnonzero(memory != case.memory)
    out = case.outputs[0]
    assert not changed.size or changed.max() < out.address - BASE + place * out.stride
    compare(machine, sound, profile, 1)


def test_commands_before_a_fence_are_complete_when_an_index_fails():
    machine = small_accelerator("posit8")
    builder = ProgramBuilder(machine.config, BASE)
    x = builder.constant(np.arange(12.0).reshape(4, 3))
    middle, out = builder.empty(4, 3), builder.empty(2, 3)
    builder.vector(x, middle)
    builder.gather(middle, builder.indices([1, 4]), out)  # reads what is written: a fence
    memory, address = builder.build()
    result = machine.run(memory, address, BASE, max_cycles=LIMIT)
    assert result.error == ErrorCause.INDEX_RANGE
    assert result.error_address == address + HEADER_BYTES + 2 * COMMAND_BYTES
    assert np.array_equal(middle.codes(memory, BASE), x.codes(memory, BASE))


def test_a_bus_error_on_indices():
    machine = small_accelerator("posit8")
    case, _ = gathered(machine.config, 9, 7, 5)
    line = disassemble(case.memory, case.address, BASE)[1]
    indices = int(line.split("rows of 7 by @")[1].split(":")[0], 16)
    fault = Fault(indices + 4, indices + 5, DECERR)
    result = machine.run(case.memory.copy(), case.address, BASE, faults=[fault], max_cycles=LIMIT)
    assert (result.error, result.error_client) == (ErrorCause.READ_ERROR, 1)
    assert result.error_address == case.address + HEADER_BYTES
    compare(machine, case, "ideal", 0)


def test_disassembly():
    case, _ = gathered(small_accelerator("posit8").config, 9, 7, 5)
    line = disassemble(case.memory, case.address, BASE)[1]
    assert "vector 9×5 X@" in line and ", rows of 7 by @0x2" in line


@pytest.mark.parametrize("numbers, message", [
    ([], "indices must be one row of integers"), ([[1]], "indices must be one row of integers"),
    ([0.5], "indices must be one row of integers"), ([-1], "indices must fit 32 bits"),
    ([1 << 32], "indices must fit 32 bits")])
def test_indices_that_are_none(numbers, message):
    builder = ProgramBuilder(small_accelerator("posit8").config, BASE)
    with pytest.raises(ValueError, match=message):
        builder.indices(numbers)


def test_what_is_no_tensor_of_indices():
    builder = ProgramBuilder(small_accelerator("posit8").config, BASE)
    x = builder.empty(4, 3)
    with pytest.raises(ValueError, match="must be a dense column of indices, not 4×3 of posit8"):
        builder.gather(x, x, builder.empty(4, 3))
