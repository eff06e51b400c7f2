"""The checks of headers and commands in Amaranth's simulator; field by field against the table:
test_command_rules.py."""

import pytest
from amaranth.sim import Simulator

from hdl.issue.command_check import CommandCheck, HeaderCheck
from hdl.spec.commands import (
    COMMAND,
    COMMAND_BYTES,
    HEADER,
    HEADER_BYTES,
    ISA_MAJOR,
    MAGIC,
    ErrorCause,
    Feature,
    Opcode,
    features_of,
    pack,
)
from hdl.spec.config import FUNCTION_SETS, AcceleratorConfig


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
