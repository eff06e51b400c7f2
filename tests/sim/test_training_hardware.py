"""What builds have that train, on RTL and on the model, byte by byte, under every stall profile."""

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder, read
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from compiler.program.scalar import Scalar
from hdl.spec.commands import Destination, ErrorCause, Function, Operand, Post, Reduce
from sim.campaigns.lists import random_list_case
from sim.campaigns.programs import BASE, Case, random_case
from sim.campaigns.regression import compare, small_accelerator
from sim.harness.stalls import PROFILES

STORED = Instruction(add=Operand.A, destination=Destination.MEMORY)
BUILDS = [
    ("posit8", {}), ("fp8", {}), ("bf16", {}),
    *(pytest.param(*build, marks=pytest.mark.slow) for build in (
        ("posit8", {"acc": "exact", "lane_latency": 2}), ("posit8es2", {"softmax": "pwl"}),
        ("bf16", {"dim": 8, "lanes": 4, "lane_latency": 2}),
        ("fp8", {"dim": 16, "lanes": 4, "bus_bytes": 8})))]


def machine_of(fmt, **changes):
    return small_accelerator(fmt, **{"functions": "training"} | changes)


@pytest.mark.parametrize("fmt, changes", BUILDS)
def test_random_lists(fmt, changes):
    machine = machine_of(fmt, **changes)
    rng, compared, used = np.random.default_rng(1), 0, 0
    for index in range(160):
        case = random_list_case(machine.config, rng)
        compared += compare(machine, case, list(PROFILES)[index % 4], index, rewrites=True)
        used += any(word in case.label for word in ("AMAX", "POWER", "SLOPE", "Operand.A"))
    print(f"{fmt} {changes}: {compared} bytes of 160 programs, {used} with such instructions")
    assert used > 80


@pytest.mark.parametrize("fmt", ["posit8", pytest.param("bf16", marks=pytest.mark.slow)])
def test_random_programs_through_small_buffers(fmt):
    machine = small_accelerator(fmt, functions="training")
    rng, compared, kinds = np.random.default_rng(7), 0, ""
    for index in range(80):
        case = random_case(machine.config, rng, largest=30, rounds=2)
        compared += compare(machine, case, list(PROFILES)[index % 4], index)
        kinds += case.label
    print(f"{fmt}: {compared} bytes")
    assert kinds.count("amax") > 40 and kinds.count("scalar") > 20


class Program:
    def __init__(self, fmt="posit8"):
        self.machine = machine_of(fmt)
        self.builder = ProgramBuilder(self.machine.config, BASE)
        self.outputs = []

    def out(self, rows, columns):
        self.outputs.append(self.builder.empty(rows, columns, "bf16"))
        return self.outputs[-1]

    def store_register(self):
        self.builder.vector(self.builder.constant(np.zeros((1, 1)), "bf16"), self.out(1, 1),
                            Epilogue(instructions=(STORED,)))
        return self.outputs[-1]

    def run(self, profile="heavy", **build):
        """The memory after a run that was compared with the model."""
        memory, address = self.builder.build(**build)
        compare(self.machine, Case(memory, address, BASE, tuple(self.outputs), "program"),
                profile, 3, rewrites=True)
        assert self.machine.run(memory, address, BASE).error is None
        return memory


@pytest.mark.parametrize("fmt", ("posit8", "bf16"))
def test_every_word_through_slopes_and_powers(fmt):
    """All 65,536 BF16 words, through lanes and reductions of the whole design."""
    program = Program(fmt)
    words = np.arange(1 << 16).reshape(-1, 256)
    x = program.builder.codes(words, "bf16")
    for function in (Function.GELU_SLOPE, Function.SILU_SLOPE):
        program.builder.vector(x, program.out(*words.shape), Epilogue(function=function))
    column = program.builder.codes(words.reshape(-1, 1), "bf16")
    program.builder.vector(column, program.out(1 << 16, 1), Epilogue(instructions=(
        Instruction(reduce=Reduce.MAX, post=Post.POWER),
        Instruction(multiply=Operand.IMM0, add=Operand.R0, destination=Destination.MEMORY)),
        scale=0.0))
    memory = program.run("ideal")
    powers = read(memory, program.outputs[-1], BASE).ravel()
    assert (np.isnan(powers) == (words.ravel() & 0x7FFF >= 0x7F80)).all()  # infinity · 0 is NaN
    assert set(np.unique(np.log2(powers[np.isfinite(powers) & (powers > 0)])).tolist()) == set(
        range(-126, 64))


def test_the_register_starts_at_zero_in_every_program():
    program = Program()
    before = program.store_register()
    x = program.builder.constant(np.array([[2.0, -5.0, 1.0]]), "bf16")
    program.builder.vector(x, program.out(1, 3), Epilogue(amax=True))
    after = program.store_register()
    program.builder.vector(x, program.out(1, 3), Epilogue(-0.5, amax=True))
    for _ in range(2):  # in the second run A holds 2.5 when it starts
        memory = program.run()
        assert [read(memory, t, BASE).item() for t in (before, after)] == [0.0, 5.0]


def test_the_register_starts_at_zero_behind_an_error():
    """A command whose Y lies nowhere stops a program that has filled A."""
    program = Program()
    x = program.builder.constant(np.array([[2.0, -5.0, 1.0]]), "bf16")
    program.builder.vector(x, program.out(1, 3), Epilogue(amax=True))
    program.builder.fence()
    program.builder.vector(x, program.out(1, 3), Epilogue(bias=x))
    program.builder._commands[-1]["y0_address"] = 1 << 40
    memory, address = program.builder.build()
    assert program.machine.run(memory, address, BASE).error is ErrorCause.READ_ERROR
    other = Program()
    other.machine = program.machine
    found = other.store_register()
    assert read(other.run(), found, BASE).tolist() == [[0.0]]


def test_scalars_that_earlier_commands_write():
    """A chain: each command's factor is what the command before it wrote."""
    program = Program()
    table = program.builder.constant(np.full((1, 8), 1.0), "bf16", skew=6)
    item = program.builder.constant(np.array([[0.5]]), "bf16")
    for index in range(1, 8):
        program.builder.vector(item, table.block(0, index, 1, 1),
                               Epilogue(Scalar(table, index - 1)))
    program.outputs.append(table.block(0, 1, 1, 7))
    for profile in PROFILES:
        memory = program.run(profile)
        assert read(memory, table, BASE).tolist() == [[2.0 ** -n for n in range(8)]]


def test_without_its_fence_a_scalar_is_the_old_word():
    """The negative control: the order is the fence's, nothing else's."""
    program = Program()
    table = program.builder.constant(np.ones((1, 2000)), "bf16")
    program.builder.vector(program.builder.constant(np.full((1, 2000), 3.0), "bf16"), table)
    program.builder.vector(program.builder.constant(np.ones((3, 6)), "bf16"), program.out(3, 6),
                           Epilogue(Scalar(table, 1999)))
    fences = [index for index, fields in enumerate(program.builder.commands)
              if fields["opcode"] == 2]
    assert len(fences) == 1
    memory, address = program.builder.build()
    assert program.machine.run(memory, address, BASE).error is None
    assert (read(memory, program.outputs[-1], BASE) == 3).all()
    del program.builder._commands[fences[0]]
    memory, address = program.builder.build()
    assert program.machine.run(memory, address, BASE).error is None
    assert (read(memory, program.outputs[-1], BASE) == 1).all()


@pytest.mark.parametrize("address, cause", [(BASE + 1, ErrorCause.MISALIGNED),
                                            (1 << 40, ErrorCause.READ_ERROR)])
def test_a_table_that_cannot_be_read(address, cause):
    program = Program()
    table = program.builder.constant(np.ones((1, 4)), "bf16")
    x = program.builder.empty(3, 4)
    program.builder.vector(x, program.out(3, 4), Epilogue(0.5))
    program.builder.vector(x, program.out(3, 4), Epilogue(Scalar(table, 3), imm1=Scalar(table)))
    memory, start = program.builder.build(scalars=address)
    result = program.machine.run(memory, start, BASE)
    assert result.error is cause and not result.violations
    assert result.error_address == start + 64 + 128
    # The machine goes on.
    program.run()
