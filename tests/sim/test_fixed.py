"""Lanes of integers: no float in the netlist, sums of any order, every byte on RTL, refusals."""

import re
from functools import cache

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder, read
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from gen.top import generate
from hdl.spec.commands import (
    HEADER,
    HEADER_BYTES,
    Destination,
    Feature,
    Operand,
    Post,
    Reduce,
    unpack,
)
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16
from sim import run
from sim.campaigns.integer_program import integer_program
from sim.campaigns.lists import random_list_case
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import LIMIT, compare, small_accelerator
from sim.cycles.check import measure
from sim.harness.accelerator import Accelerator
from sim.model.machine import Machine
from sim.model.rounding import round_to
from sim.verify.fixed import Fixed
from support.random_programs import compare_random
from support.seeds import seed_of

FLOATS = re.compile(r"^module \w*(float_(add|multiply|max|accumul)|reduce_(first|node)_|exp_|"
                    r"inverse_sqrt|accumulator_round)\w*", re.MULTILINE)
RUN = ["digits-integer", "--fmt", "int8", "--scales", "static", "--dim", "4"]


@cache
def fixed_machine():
    return small_accelerator("int8", lane_kind="fixed")


def test_no_unit_of_floats_is_in_the_netlist():
    """Nor anything that lanes of BF16 have by these names."""
    found = {kind: FLOATS.findall(generate(AcceleratorConfig("int8", dim=4, lane_kind=kind)))
             for kind in ("fixed", "bf16")}
    print(f"bf16: {len(found['bf16'])} modules of floats, fixed: {len(found['fixed'])}")
    assert not found["fixed"] and len(found["bf16"]) > 5


def test_cycles_are_those_of_the_model():
    """Of a whole program, each cause of a stall too."""
    config = AcceleratorConfig("int8", dim=4, lane_kind="fixed")
    image = integer_program(config).image
    found = measure(Accelerator(config), "digits-integer", image.memory, image.address)
    print(f"{found.rtl} cycles, {found.model} of the model; differ: {found.differing}")
    assert found.rtl == found.model > 40_000 and not found.differing


def test_digits_on_rtl(capsys):
    assert run.main([*RUN, "--lane", "fixed", "--on", "rtl", "--quiet"]) == 0
    out = capsys.readouterr().out
    compared, wrong = map(int, re.search(r"bytes compared: (\d+), mismatches: (\d+)", out).groups())
    others, strange = map(int, re.search(r"other (\d+) bytes of memory: (\d+) wrong", out).groups())
    assert compared > 4000 and others > 30_000 and wrong == strange == 0


@pytest.mark.parametrize("model, more", [
    ("digits-integer", []), ("char-integer", ["--text", "The film", "--decode", "2"])])
def test_every_byte_is_what_the_definition_gives(model, more, capsys):
    given = [model, "--fmt", "int8", "--lane", "fixed", "--scales", "static", "--on", "machine"]
    assert run.main([*given, "--quiet", *more]) == 0
    out = capsys.readouterr().out
    compared, wrong = map(int, re.search(r"bytes compared: (\d+), mismatches: (\d+)", out).groups())
    cosines = [float(own) for own in re.findall(r"(?:layer|head) .*cosine to fp32 ([\d.]+)", out)]
    assert compared > 4000 and wrong == 0 and len(cosines) > 2 and min(cosines) > 0.999


@pytest.mark.parametrize("model, part", [
    ("digits-integer", "mean"), ("digits-integer", "_by_magnitude"), ("digits-integer", "sums"),
    ("char-integer", "table_rows"), ("char-integer", "polynomial_shares")])
def test_what_is_computed_otherwise_is_seen(model, part, capsys, monkeypatch):
    own = getattr(Fixed, part)
    monkeypatch.setattr(Fixed, part, lambda self, *given: own(self, *given) * 1.25)
    given = [model, "--fmt", "int8", "--lane", "fixed", "--scales", "static", "--on", "machine"]
    assert run.main([*given, "--quiet", *(["--text", "T"] if model[0] == "c" else [])]) == 1


@pytest.mark.parametrize("profile", ["ideal", "heavy"])
def test_random_programs(profile):
    compare_random(fixed_machine(), profile, 40)


@pytest.mark.parametrize("profile", ["ideal", "heavy"])
def test_random_lists(profile):
    machine, rng = fixed_machine(), np.random.default_rng(seed_of("fixed", profile))
    compared = sum(compare(machine, random_list_case(machine.config, rng), profile, index,
                           rewrites=True)
                   for index in range(60))
    print(f"fixed {profile}: 60 lists, {compared} bytes compared")
    assert compared > 3000


def sums(config, x):
    """Of each row of ``x`` the sum, its mean, and one over its magnitudes, as stored."""
    builder = ProgramBuilder(config, BASE)
    rows, columns = x.shape
    out = builder.empty(rows, 1, "bf16"), builder.empty(rows, 1, "bf16"), builder.empty(
        rows, 1, "bf16")
    given = builder.constant(x, "bf16")
    for tensor, fields in zip(out, ({"post": Post.NONE}, {"post": Post.MEAN},
                                    {"post": Post.INVERSE, "magnitude": True}), strict=True):
        builder.vector(given, tensor, Epilogue(
            scale=0.0, inverse_n=1 / columns, row_result=True, instructions=(
                Instruction(reduce=Reduce.SUM, **fields),
                Instruction(multiply=Operand.IMM0, add=Operand.R0,
                            destination=Destination.MEMORY))))
    memory, address = builder.build(seed=1, spare=64)
    return Case(memory, address, BASE, out, "sums")


def summed(config, x):
    case = sums(config, x)
    memory = case.memory.copy()
    assert Machine(config).run(memory, case.address, BASE).error is None
    return [read(memory, tensor, BASE) for tensor in case.outputs]


def test_row_sums_depend_on_no_order_and_no_width():
    """Sums that cancel: lanes of BF16 lose what is small in most orders."""
    rng = np.random.default_rng(4)
    x = rng.integers(-128, 128, (24, 63)) * 2.0 ** rng.integers(-15, 7, (24, 63))
    x[:, 1::2] = -x[:, ::2][:, :31]
    x[:, -1] = rng.integers(1, 128, 24) / 128
    orders = [rng.permutation(63) for _ in range(4)]
    differ = {}
    for kind in ("fixed", "bf16"):
        found = [summed(AcceleratorConfig("int8", dim=16, lanes=lanes, lane_kind=kind),
                        x[:, order]) for lanes in (4, 8, 16) for order in orders]
        differ[kind] = sum(not np.array_equal(a, b) for own in found
                           for a, b in zip(own, found[0], strict=True))
    exact = np.rint(x * 2.0 ** 16).sum(axis=1) / 2.0 ** 16  # float64 holds each partial sum
    words = summed(AcceleratorConfig("int8", dim=4, lane_kind="fixed"), x)[0][:, 0]
    print(f"of {3 * 12} results differ: {differ}")
    assert differ["fixed"] == 0 < differ["bf16"]
    assert np.array_equal(words, round_to(BFLOAT16, exact))
    case = sums(fixed_machine().config, x)
    assert compare(fixed_machine(), case, "light", 3) > 100


def test_saturations_are_counted():
    """Words, a reduction and codes that are clipped, on RTL as in the model."""
    machine = fixed_machine()
    builder = ProgramBuilder(machine.config, BASE)
    x = builder.constant(np.array([[300.0, -300.0, 181.0, 2.0]]), "bf16")
    out = builder.empty(1, 4, "int8")
    builder.vector(x, out, Epilogue(instructions=(
        Instruction(multiply=Operand.SELF, reduce=Reduce.SUM, destination=Destination.BUFFER),
        Instruction(add=Operand.R0, destination=Destination.MEMORY))))
    memory, address = builder.build(seed=1, spare=64)
    compare(machine, Case(memory, address, BASE, (out,), "clipped"), "light", 1)
    found = machine.run(memory, address, BASE, max_cycles=LIMIT)
    assert read(memory, out, BASE).tolist() == [[127] * 4]
    # Two squares, their sum, that and all of four words, four codes.
    assert found.counters["saturations"] == 2 + 1 + 4 + 4


def test_what_a_program_needs():
    config = AcceleratorConfig("int8", dim=4, lane_kind="fixed")
    builder = ProgramBuilder(config, BASE)
    a, b = builder.constant(np.ones((2, 3))), builder.constant(np.ones((3, 2)))
    builder.gemm(a, b, builder.empty(2, 2), Epilogue(instructions=(
        Instruction(multiply=Operand.SELF, destination=Destination.MEMORY),)))
    memory, address = builder.build(seed=0)
    header = unpack(HEADER, memory[address - BASE:address - BASE + HEADER_BYTES].tobytes())
    assert header["features"] == (Feature.INT8 | Feature.ACC_INT32 | Feature.LANE_FIXED
                                  | Feature.LINEAR)
    with pytest.raises(ValueError, match="functions must be softmax in a build that runs such "
                                         "instructions, not 'linear'"):
        builder.gemm(a, b, builder.empty(2, 2), Epilogue(softmax=True))


@pytest.mark.parametrize("given, told", [
    (["digits-vit", "--scales", "static"],
     "layer 0 attention norm takes a norm of squares, which lanes of lane fixed do not have"),
    (["digits-integer", "--scales", "row"],
     "scales must be static or a file of them with lane fixed, not 'row'"),
    (["digits-integer"], "scales must be static or a file of them with lane fixed, not 'row'"),
    (["digits-integer", "--functions", "scales"],
     "functions must be linear with lane fixed, not 'scales': its lanes have no exp, reciprocal "
     "or other function"),
    (["digits-integer", "--softmax", "approx"],
     "softmax must be pwl with lane fixed, not 'approx': its lanes have no exp, and 1/x by the "
     "table alone"),
    (["digits-integer", "--fmt", "posit8"], "lane must be bf16 for format posit8, not 'fixed'")])
def test_what_it_cannot_do_is_told_in_a_line(given, told, capsys):
    with pytest.raises(SystemExit) as ended:
        run.main(["--fmt", "int8", "--lane", "fixed", "--on", "machine", *given])
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: {told}")
