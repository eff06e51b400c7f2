"""The checks of headers and commands against the model's, instruction by instruction."""

from itertools import product

import pytest
from amaranth.sim import Simulator

from hdl.issue.command_check import CommandCheck, HeaderCheck
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    INSTRUCTION,
    ISA_MAJOR,
    MAGIC,
    ErrorCause,
    Feature,
    Opcode,
    features_of,
    pack,
    unpack,
)
from hdl.spec.config import FUNCTION_SETS, AcceleratorConfig
from sim.model.command import Command
from sim.model.memory import Fault


def config_of(functions):
    return AcceleratorConfig("posit8", dim=4, functions=functions)


def verdicts(config, commands):
    """What the hardware finds wrong with each command; None where nothing is."""
    check, found = CommandCheck(config), []

    async def bench(ctx):
        for fields in commands:
            record = int.from_bytes(pack(COMMAND, fields, COMMAND_BYTES), "little")
            ctx.set(check.record, record)
            ctx.set(check.start, 1)
            await ctx.tick()
            ctx.set(check.start, 0)
            await ctx.tick().until(check.done)
            found.append(ErrorCause(ctx.get(check.cause)) if ctx.get(check.failed) else None)

    simulator = Simulator(check)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def modelled(config, fields):
    record = pack(COMMAND, fields, COMMAND_BYTES)
    try:
        Command(config, unpack(COMMAND, record) | {"reserved": 0}).check()
    except Fault as fault:
        return fault.cause
    return None


def lists():
    """Every value of every field of an instruction, alone and behind two reductions."""
    reductions = [{"reduce": 1, "reduce_to": register} for register in (0, 1)]
    for name, field in INSTRUCTION.items():
        if name == "last":
            continue
        for value in range(1 << field.bits):
            yield [{name: value}]
            yield [*reductions, {"reduce": 2, "destination": 2} | {name: value}]


@pytest.mark.parametrize("functions", FUNCTION_SETS)
def test_every_field_of_an_instruction(functions):
    config = config_of(functions)
    commands = []
    for steps in lists():
        words = 0
        for index, fields in enumerate(steps):
            fields = fields | {"last": int(index == len(steps) - 1)}
            words |= int.from_bytes(pack(INSTRUCTION, fields, 4), "little") << 32 * index
        commands.append({"opcode": Opcode.VECTOR, "m": 3, "k": 1, "n": 5, "instructions": words})
    flags = [name for name, field in COMMAND.items() if field.bits == 1]
    for opcode, k, flag in product((Opcode.VECTOR, Opcode.GEMM), (1, 2), flags):
        for words in (2 << 22 | 1 << 24, 2 << 22 | 2 << 16 | 1 << 24):  # stored; reduced as well
            commands.append({"opcode": opcode, "m": 3, "k": k, "n": 5, "instructions": words,
                             flag: 1})
    got, expected = verdicts(config, commands), [modelled(config, c) for c in commands]
    assert got == expected
    refused = sum(cause == ErrorCause.BAD_FIELD for cause in expected)
    print(f"functions {functions}: {len(got)} commands, {refused} refused")
    assert 20 < refused < len(got) - 50


def test_a_build_of_softmax_alone_refuses_more():
    counts = []
    for functions in FUNCTION_SETS:
        config = config_of(functions)
        fields = [{"opcode": Opcode.VECTOR, "m": 1, "k": 1, "n": 1, "instructions": word | 1 << 24}
                  for word in (6, 6 << 11, 3 << 7, 8 << 7, 2 << 16 | 2 << 19, 2 << 16 | 3 << 19)]
        counts.append(verdicts(config, fields))
    assert counts == [[None] * 6, [ErrorCause.BAD_FIELD] * 6]


@pytest.mark.parametrize("functions, cause", [("all", None), ("softmax", ErrorCause.BAD_FEATURE)])
def test_a_header_that_needs_functions(functions, cause):
    config = config_of(functions)
    assert bool(features_of(config) & Feature.FUNCTIONS) == (cause is None)
    check = HeaderCheck(config)

    async def bench(ctx):
        header = {"magic": MAGIC, "isa_major": ISA_MAJOR, "commands": 1,
                  "features": int(Feature.POSIT8 | Feature.FUNCTIONS)}
        ctx.set(check.record, int.from_bytes(pack(HEADER, header, HEADER_BYTES), "little"))
        await ctx.delay(1e-9)
        assert ctx.get(check.failed) == (cause is not None)
        assert cause is None or ctx.get(check.cause) == cause

    simulator = Simulator(check)
    simulator.add_testbench(bench)
    simulator.run()
