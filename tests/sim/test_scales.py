"""Operands of one item a row and reductions of magnitudes, on RTL and on the model."""

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder, read
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from hdl.spec.commands import Destination, ErrorCause, Feature, Operand, Post, Reduce
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.lists import random_list_case
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import compare, small_accelerator
from sim.harness.stalls import PROFILES
from sim.model.machine import Machine

MEMORY, BUFFER = Destination.MEMORY, Destination.BUFFER
BUILDS = [{}, *(pytest.param(build, marks=pytest.mark.slow) for build in (
    {"dim": 8, "lanes": 4, "lane_latency": 2}, {"softmax": "approx"}))]


@pytest.mark.parametrize("changes", BUILDS, ids=str)
def test_random_lists(changes):
    machine = small_accelerator("int8", **changes)
    rng, compared, used = np.random.default_rng(11), 0, 0
    for index in range(120):
        case = random_list_case(machine.config, rng)
        compared += compare(machine, case, list(PROFILES)[index % 4], index, rewrites=True)
        used += "magnitude=1" in case.label
    print(f"int8 {changes}: {compared} bytes of 120 programs, {used} with magnitudes")
    assert used > 40


def result(x, epilogue, shape, encoding="bf16", machine=None, operands=()):
    """What the RTL stores, the same as the model's."""
    machine = machine or small_accelerator("int8")
    builder = ProgramBuilder(machine.config, BASE)
    given = {name: builder.constant(values, "bf16") for name, values in operands}
    out = builder.empty(*shape, encoding)
    builder.vector(builder.constant(x, "bf16"), out, epilogue(**given))
    memory, address = builder.build(seed=2, spare=64)
    compare(machine, Case(memory, address, BASE, (out,), "scales"), "light", 2)
    assert machine.run(memory, address, BASE).error is None
    return read(memory, out, BASE)


@pytest.mark.parametrize("columns", [1, 7, 40, 300])
def test_codes_by_row(columns):
    """The largest magnitude of each row, and its items as 127ths of it; long rows are streamed."""
    rng = np.random.default_rng(columns)
    x = rng.integers(-200, 200, (5, columns)) / 8.0
    x[1] = -np.abs(x[1])
    x[3] = 0.0
    top = np.abs(x).max(axis=1, keepdims=True)
    largest = Instruction(reduce=Reduce.MAX, magnitude=True)
    found = result(x, lambda: Epilogue(instructions=(
        largest, Instruction(add=Operand.R0, scale=Operand.NONE, destination=MEMORY)),
        scale=0.0), (5, columns))
    assert np.array_equal(found - x, np.broadcast_to(top, x.shape)) or columns > 1
    codes = result(x, lambda: Epilogue(imm1=127.0, instructions=(
        Instruction(reduce=Reduce.MAX, reduce_to=1, post=Post.RECIPROCAL, magnitude=True),
        Instruction(multiply=Operand.R1, scale=Operand.IMM1, destination=MEMORY))),
        x.shape, "int8")
    exact = np.divide(127 * x, top, out=np.zeros_like(x), where=top > 0)
    # A reciprocal and two products in BF16 err by 2^-7 of the code at most, and half a code.
    assert np.all(np.abs(codes - exact) <= 0.5 + np.abs(exact) / 128)
    assert np.abs(codes).max() >= 126


@pytest.mark.parametrize("rows", [1, 9])
def test_a_factor_for_each_row(rows):
    rng = np.random.default_rng(rows)
    x, factor = rng.integers(-64, 64, (9, 37)).astype(float), 2.0 ** rng.integers(-3, 4, (rows, 1))
    found = result(x, lambda y: Epilogue(bias=y, y0_column=True, instructions=(
        Instruction(multiply=Operand.Y, destination=MEMORY),)), x.shape, operands=[("y", factor)])
    assert np.array_equal(found, x * factor)
    # A row for each column and an item for each row, one after the other.
    row = 2.0 ** rng.integers(-3, 4, (1, 37))
    found = result(x, lambda y, z: Epilogue(bias=y, y1=z, y0_column=True, instructions=(
        Instruction(multiply=Operand.Y, destination=BUFFER),
        Instruction(multiply=Operand.Y, y=1, destination=MEMORY))), x.shape,
        operands=[("y", factor), ("z", row)])
    assert np.array_equal(found, x * factor * row)


def test_what_other_builds_say():
    builder = ProgramBuilder(AcceleratorConfig("int8", dim=4), BASE)
    x, y = builder.constant(np.ones((3, 5)), "bf16"), builder.constant(np.ones((3, 1)), "bf16")
    builder.vector(x, builder.empty(3, 5, "bf16"), Epilogue(bias=y, y0_column=True))
    memory, address = builder.build(seed=0)
    for fmt, cause in (("int8", None), ("posit8", ErrorCause.BAD_VERSION)):
        assert Machine(AcceleratorConfig(fmt, dim=4)).run(
            memory.copy(), address, BASE).error == cause
    assert Feature.SCALES in Feature(int.from_bytes(
        memory[address - BASE + 8:address - BASE + 12].tobytes(), "little"))
    other = ProgramBuilder(AcceleratorConfig("posit8", dim=4), BASE)
    x, y = other.constant(np.ones((3, 5)), "bf16"), other.constant(np.ones((3, 1)), "bf16")
    with pytest.raises(ValueError, match="must be 1×5 or 3×5, not 3×1"):
        other.vector(x, other.empty(3, 5, "bf16"), Epilogue(bias=y))
    with pytest.raises(ValueError, match="functions must be scales"):
        other.vector(x, other.empty(3, 5, "bf16"), Epilogue(bias=y, y0_column=True))
    with pytest.raises(ValueError, match="functions must be scales"):
        other.vector(x, other.empty(3, 5, "bf16"), Epilogue(instructions=(
            Instruction(reduce=Reduce.MAX, magnitude=True),
            Instruction(add=Operand.R0, destination=MEMORY))))
