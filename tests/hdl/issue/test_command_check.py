"""The checks of headers and commands in Amaranth's simulator; field by field against the table:
test_command_rules.py."""

import numpy as np
import pytest
from amaranth.sim import Simulator

from gen.leaves import Library
from gen.recorder import record
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
    isa_minor,
    pack,
)
from hdl.spec.config import FUNCTION_SETS
from sim.harness.batch import Batch
from sim.model.machine import Machine
from support.builds import with_functions
from support.sabotage import with_fault


def verdicts(config, commands):
    """What the hardware finds wrong with each command; None where nothing is."""
    check, found = CommandCheck(config), []

    async def bench(ctx):
        for fields in commands:
            packed = int.from_bytes(pack(COMMAND, fields, COMMAND_BYTES), "little")
            ctx.set(check.record, packed)
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
        config = with_functions(functions)
        fields = [{"opcode": Opcode.VECTOR, "m": 1, "k": 1, "n": 1, "instructions": word | 1 << 24}
                  for word in (6, 6 << 11, 3 << 7, 8 << 7, 2 << 16 | 2 << 19, 2 << 16 | 3 << 19,
                               7, 7 << 3, 9 << 7, 10 << 7, 3 << 16, 1 << 16 | 4 << 19)]
        counts.append(verdicts(config, fields))
    bad = [ErrorCause.BAD_FIELD] * 6
    assert dict(zip(FUNCTION_SETS, counts, strict=True)) == {
        "all": [None] * 6 + bad, "softmax": bad + bad, "training": [None] * 12,
        "scales": [None] * 6 + bad,
        "linear": [None] * 2 + bad[:2] + [None] + bad[:1] + bad}


def headers(config):
    """A sound header, each of its bits flipped, values at the edges, several things wrong."""
    sound = {"magic": MAGIC, "isa_major": ISA_MAJOR, "isa_minor": isa_minor(config), "commands": 1,
             "features": int(features_of(config)), "config_hash": 1}
    word = int.from_bytes(pack(HEADER, sound, HEADER_BYTES), "little")
    yield word
    yield from (word ^ 1 << bit for bit in range(8 * HEADER_BYTES))
    for wrong in ({"magic": 0}, {"isa_major": 0}, {"isa_minor": 0xFFFF}, {"features": 0},
                  {"features": 0xFFFFFFFF}, {"features": int(Feature.POSIT8 | Feature.FUNCTIONS)},
                  {"commands": 0}, {"commands": 0, "features": 1 << 31},
                  {"isa_major": 2, "features": 1 << 31}, {"magic": 1, "isa_major": 2}):
        yield int.from_bytes(pack(HEADER, sound | wrong, HEADER_BYTES), "little")


@pytest.mark.parametrize("functions", FUNCTION_SETS)
def test_headers_are_refused_as_the_model_refuses_them(functions):
    config, library = with_functions(functions), Library()
    library.add(HeaderCheck(config), "header_check")
    batch = Batch(with_fault(record(library, "header_check"), "cause",
                             int(ErrorCause.BAD_FEATURE)), "header_check")
    records = [word.to_bytes(HEADER_BYTES, "little") for word in headers(config)]
    end = pack(COMMAND, {"opcode": Opcode.END}, COMMAND_BYTES)
    expected = []
    for header in records:
        ending = Machine(config).run(np.frombuffer(header + end, np.uint8).copy(), 0)
        # With more commands announced than there are, END comes first.
        expected.append(ending.error)
    words = np.stack([np.frombuffer(header, "<u4") for header in records])
    causes = []
    for fault in (0, 1):
        out = batch.run({"record": words, "fault": fault})
        causes.append([ErrorCause(cause) if failed else None for cause, failed in zip(
            out["cause"].tolist(), out["failed"].tolist(), strict=True)])
    assert causes[0] == expected and causes[1] != expected
    refused = [cause for cause in expected if cause is not None]
    print(f"functions {functions}: {len(records)} headers, {len(refused)} refused")
    assert set(refused) == {ErrorCause.BAD_MAGIC, ErrorCause.BAD_VERSION, ErrorCause.BAD_FEATURE,
                            ErrorCause.BAD_LENGTH}
