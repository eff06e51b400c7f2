"""The generated Verilog through its AXI ports against the model, on random programs."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.programs import EPILOGUES, Case, long_rows_case, random_case
from sim.campaigns.regression import LIMIT, compare, small_accelerator
from sim.harness.accelerator import Accelerator
from sim.harness.stalls import PROFILES
from support.builds import tiny
from support.seeds import seed_of

PROGRAMS = 100


@pytest.mark.parametrize("profile", ["ideal", "heavy"])
@pytest.mark.parametrize("fmt", ["posit8", "fp8", "bf16"])
def test_random_programs(fmt, profile):
    machine = tiny(fmt)
    rng = np.random.default_rng(seed_of(fmt, profile))
    compared = sum(compare(
        machine, random_case(machine.config, rng, epilogue=EPILOGUES[index % len(EPILOGUES)]),
        profile, index) for index in range(PROGRAMS))
    assert compared > 20 * PROGRAMS
    print(f"{fmt} {profile}: {PROGRAMS} programs, {compared} bytes compared")


@pytest.mark.parametrize("fmt", ["posit8", "bf16"])
@pytest.mark.parametrize("epilogue", ["none", "softmax"])
def test_shapes_beyond_the_banks(fmt, epilogue):
    # Rows of up to 100 columns against banks of 64: a softmax is computed in three streams.
    machine = tiny(fmt)
    rng = np.random.default_rng(100)
    compared = sum(compare(
        machine, random_case(machine.config, rng, largest=100, epilogue=epilogue), profile, index)
        for index, profile in enumerate(["ideal", "light", "bursty"] * 2))
    assert compared > 1000
    print(f"{fmt} {epilogue}: {compared} bytes compared")


def test_a_streamed_softmax_ends_however_slow_the_bus():
    # Rows of 91 against banks of 64: B is read again for each row and pass, millions of cycles for
    # few rows. It must never take longer than its beats and their stalls.
    machine = small_accelerator("posit8")
    rng = np.random.default_rng(91)
    builder = ProgramBuilder(machine.config)
    a, b = builder.constant(rng.standard_normal((4, 80))), builder.constant(
        rng.standard_normal((91, 80)))
    out = builder.empty(4, 91)
    builder.gemm(a, b, out, Epilogue(softmax=True), b_transposed=True)
    memory, address = builder.build()
    assert compare(machine, Case(memory, address, 0, (out,), "4x80x91"), "bursty", 6) == 4 * 91
    ideal, heavy = (machine.run(memory.copy(), address, stalls=PROFILES[name], seed=6,
                                max_cycles=LIMIT).cycles for name in ("ideal", "heavy"))
    assert ideal < heavy < 8 * ideal
    print(f"{heavy} cycles, {ideal} without stalls")


def test_longer_pipelines():
    machine = small_accelerator("fp8", pe_latency=2, lane_latency=4, sum_ways=4)
    rng = np.random.default_rng(2)
    compared = sum(compare(
        machine, random_case(machine.config, rng, epilogue=EPILOGUES[index % len(EPILOGUES)]),
        ["ideal", "heavy", "bursty"][index % 3], index) for index in range(PROGRAMS))
    assert compared > 20 * PROGRAMS
    print(f"latencies 2, 4, 4 ways: {PROGRAMS} programs, {compared} bytes compared")


@pytest.mark.parametrize("fmt", ["posit8", "bf16"])
def test_rows_of_several_bursts(fmt):
    machine = tiny(fmt)
    rng = np.random.default_rng(700)
    compared = sum(compare(machine, long_rows_case(machine.config, rng), profile, index)
                   for index, profile in enumerate(["ideal", "light", "heavy", "bursty"]))
    assert compared > 4 * 300
    print(f"{fmt}: {compared} bytes compared")


def test_chunks_narrower_than_a_panel():
    """With usual buffers, whose panels are wider than a quarter of N."""
    machine = Accelerator(AcceleratorConfig("posit8", dim=4))
    rng = np.random.default_rng(32)
    compared = sum(compare(machine, random_case(machine.config, rng, largest=90), profile, index)
                   for index, profile in enumerate(["ideal", "light", "bursty"] * 3))
    assert compared > 5000
    print(f"{compared} bytes compared")


@pytest.mark.parametrize("buffers", [{}, {"input_depth": 64}], ids=str)
@pytest.mark.parametrize("b_transposed", [False, True])
def test_spans_shallower_than_a_panel(b_transposed, buffers):
    """128 rows of scores leave 8 K-tiles of a bank, where a panel of B stored N×K has 32; 64 rows
    leave one of a small bank, where a group of A has four."""
    machine = Accelerator(AcceleratorConfig("posit8", dim=4, **buffers))
    rng = np.random.default_rng(8)
    builder = ProgramBuilder(machine.config)
    a, b = builder.constant(rng.standard_normal((128, 90))), builder.constant(
        rng.standard_normal((13, 90) if b_transposed else (90, 13)))
    out = builder.empty(128, 13)
    builder.gemm(a, b, out, Epilogue(softmax=True), b_transposed=b_transposed)
    memory, address = builder.build()
    assert compare(machine, Case(memory, address, 0, (out,), "128x90x13"), "ideal", 6) == 128 * 13


def test_dim_16():
    machine = Accelerator(AcceleratorConfig("posit8", dim=16))
    rng = np.random.default_rng(16)
    compared = sum(compare(machine, random_case(machine.config, rng, largest=70), profile,
                                   index)
                   for index, profile in enumerate(["ideal", "light", "bursty", "heavy"]))
    assert compared > 1000
    print(f"dim 16: {compared} bytes compared")


@pytest.mark.parametrize("fault, message", [
    ("bit", ": 1 bytes differ"), ("stray", "written 1 times, not 0"),
    ("twice", "written 2 times, not 1"), ("missing", "written 0 times, not 1")])
def test_comparison_sees_one_wrong_byte(fault, message, monkeypatch):
    # The negative control: the honest machine passes; with one byte of its result flipped, or one
    # byte written at the wrong place or not once, it must not.
    machine = small_accelerator("posit8")
    case = random_case(machine.config, np.random.default_rng(5))
    honest = machine.run
    first = case.outputs[0].address - case.base

    def spoiled(memory, *arguments, **options):
        result = honest(memory, *arguments, **options)
        written = result.written.copy()
        if fault == "bit":
            memory[first] ^= 1
        elif fault == "stray":
            written[case.address - case.base] += 1
        else:
            written[first] = 2 if fault == "twice" else 0
        return replace(result, written=written)

    assert compare(machine, case, "ideal", 0) > 0
    monkeypatch.setattr(machine, "run", spoiled)
    with pytest.raises(AssertionError, match=message):
        compare(machine, case, "ideal", 0)
