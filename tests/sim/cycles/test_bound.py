"""The lower bound: below the cycles of all cases and of random programs, and never far."""

import ast
from pathlib import Path

import numpy as np
import pytest

from compiler.program.builder import ProgramBuilder
from compiler.program.instruction import Instruction, instruction_words
from compiler.program.records import commands
from hdl.spec.commands import Destination, Opcode, Operand, Post, Reduce
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.lists import random_list_case
from sim.campaigns.programs import long_rows_case, random_case
from sim.cycles import bound
from sim.cycles.bound import Bound, program_bound, work_bound
from sim.cycles.cases import cases
from sim.cycles.simulate import IDEAL, Memory, simulate

DIMS = (4, 8, 16)
LIMITS = {
    "gemm of few rows": ((1.46, 1.46, 1.60), (
        "gemm 1×1×1", "gemm a tile", "gemm 2 rows", "gemm 3×5×7", "gemm Aᵀ, one row")),
    "gemm": ((1.04, 1.22, 1.90), (
        "gemm 48³", "gemm 70×50×45", "gemm Aᵀ", "gemm Bᵀ", "gemm Bᵀ at odd addresses", "gemm Cᵀ",
        "gemm scale, bias, ReLU", "gemm bias of all items", "gemm BF16 bias and result",
        "gemm BF16 result transposed", "gemm bias, GELU")),
    "gemm with edges": ((1.28, 1.52, 2.43), (
        "gemm 33×17×45 at odd addresses", "gemm Aᵀ Bᵀ Cᵀ", "gemm exp", "gemm means")),
    "gemm with a long side": ((1.18, 1.31, 1.99), (
        "gemm one K-tile", "gemm one row tile", "gemm one column tile", "gemm long K",
        "gemm a row vector", "gemm a column vector")),
    "gemm in spans of K": ((1.53, 2.29, 2.42), (
        "gemm K beyond a bank", "gemm K of many spans", "gemm Aᵀ, K beyond a bank")),
    "gemm drained in strips": ((2.01, 1.94, 1.91), (
        "gemm Cᵀ, one K-tile", "gemm bias of all items, one K-tile")),
    "gemm with passes": ((1.68, 2.07, 2.35), (
        "gemm softmax", "gemm softmax, one K-tile", "gemm softmax, mask",
        "gemm softmax, transposed", "gemm bias, residual", "gemm passes through the bank")),
    "gemm of streamed rows": ((4.70, 6.86, 6.80), ("gemm softmax of streamed rows",)),
    "vector": ((1.10, 1.16, 1.24), (
        "vector copy", "vector copy at odd addresses", "vector to BF16", "vector from BF16",
        "vector BF16 to BF16", "vector GELU to BF16", "vector reciprocal")),
    "vector with Y": ((1.11, 1.24, 1.27), ("vector scale and bias", "vector sum")),
    "vector that reduces": ((1.10, 1.17, 1.25), (
        "vector softmax", "vector softmax of streamed rows", "vector means",
        "vector means, transposed")),
    "vector that reduces with Y": ((1.67, 1.67, 1.69), (
        "vector softmax, mask", "vector LayerNorm", "vector RMSNorm",
        "vector RMSNorm of streamed rows", "vector passes through the bank")),
    "vector of short rows": ((1.73, 1.76, 1.58), ("vector LayerNorm of rows of one tile",)),
    "vector of long rows": ((1.04, 1.07, 1.14), ("vector long rows",)),
    "vector of an item": ((2.33, 2.29, 2.20), (
        "vector copy of an item", "vector LayerNorm of an item")),
    "vector transpose": ((2.48, 2.53, 2.18), ("vector transpose", "vector transpose to BF16")),
    "vector gather": ((3.34, 3.11, 2.78), (
        "vector gather", "vector gather of an item", "vector gather of BF16",
        "vector gather of wide rows")),
    "programs": ((1.28, 1.91, 2.99), (
        "program: 4 GEMMs", "program: 4 GEMMs, fenced", "program: 5 copies",
        "program: GEMM, copy, GEMM", "program: softmaxes", "program: attention",
        "program: mixed")),
    "programs of small GEMMs": ((2.66, 2.06, 1.79), ("program: 8 small GEMMs",)),
    "layer": ((0, 0, 1.13), (
        "layer: projections", "layer: 3 heads' probabilities", "layer: 3 heads",
        "layer: output, residual", "layer: feed-forward up, GELU",
        "layer: feed-forward down, residual")),
    "norm of a layer": ((0, 0, 1.35), ("layer: norm",)),
}
"""Families of cases: most cycles in those of the bound at dim 4, 8 and 16, and their names."""
CONFIG = AcceleratorConfig("posit8", dim=4)
STORE = instruction_words([Instruction(destination=Destination.MEMORY)])


def program(config, case):
    builder = ProgramBuilder(config)
    case(builder)
    memory, address = builder.build()
    return [fields for _, fields in commands(memory, address)]


def measured(dim, memory=IDEAL):
    """ACTIVE cycles of every case on ``memory``, and the bound on an ideal one."""
    config = AcceleratorConfig("posit8", dim=dim)
    for name, case in cases(dim).items():
        fields = program(config, case)
        yield (name, simulate(config, fields, memory=memory).active,
               program_bound(config, fields, IDEAL.latency).cycles)


def judged(rows, dim):
    """Cases below the bound, and cases beyond their family's limit."""
    limits = {name: most[DIMS.index(dim)] for most, names in LIMITS.values() for name in names}
    return ([name for name, cycles, least in rows if cycles < least],
            [name for name, cycles, least in rows if cycles > limits[name] * least])


@pytest.mark.parametrize("dim", DIMS)
def test_cycles_of_every_kind_of_command_are_near_the_bound(dim):
    rows = list(measured(dim))
    named = [name for most, names in LIMITS.values() for name in names if most[DIMS.index(dim)]]
    assert sorted(named) == sorted(cases(dim))
    assert judged(rows, dim) == ([], [])
    print(f"dim {dim}: {len(rows)} cases, ratios {min(c / b for _, c, b in rows):.3f} to "
          f"{max(c / b for _, c, b in rows):.3f}")


@pytest.mark.parametrize("dim", DIMS)
def test_a_bound_twice_too_high_is_found(dim):
    rows = [(name, cycles, 2 * least) for name, cycles, least in measured(dim)]
    below, _ = judged(rows, dim)
    assert len(below) > 0.75 * len(rows)
    assert {"gemm 70×50×45", "vector copy", "vector softmax", "program: 4 GEMMs"} <= set(below)


@pytest.mark.parametrize("dim", DIMS)
def test_a_slower_execution_is_found(dim):
    rows = list(measured(dim, Memory(outstanding=1)))
    below, beyond = judged(rows, dim)
    assert not below
    assert len(beyond) > 0.5 * len(rows)
    assert {"gemm 48³", "vector copy", "vector sum", "program: 4 GEMMs"} <= set(beyond)


BUILDS = [
    ("posit8", {"dim": 4}), ("fp8", {"dim": 8, "lanes": 4, "bus_bytes": 4}),
    ("bf16", {"dim": 4, "bus_bytes": 64, "lane_latency": 2}),
    ("posit8", {"dim": 16, "lanes": 4, "pe_latency": 2, "acc": "exact"}),
    ("posit8", {"dim": 4, "input_depth": 64, "weight_depth": 8, "acc_depth": 16, "row_depth": 4}),
]


@pytest.mark.parametrize("fmt, options", BUILDS)
@pytest.mark.parametrize("latency", [1, 30, 200])
def test_no_random_program_is_below_the_bound(fmt, options, latency):
    config, rng = AcceleratorConfig(fmt, **options), np.random.default_rng([11, latency])
    ratios = []
    for index in range(40):
        case = (random_case(config, rng, rounds=2), random_list_case(config, rng),
                random_case(config, rng, largest=40), long_rows_case(config, rng))[index % 4]
        fields = [found for _, found in commands(case.memory, case.address, case.base)]
        run = simulate(config, fields, memory=Memory(latency=latency), address=case.address)
        assert run.bound.cycles <= run.active, case.label
        ratios.append(run.bound.ratio(run.active))
    print(f"{fmt} {options}, latency {latency}: {len(ratios)} programs, "
          f"ratios {min(ratios):.3f} to {max(ratios):.3f}")
    assert min(ratios) < 2.5


def gemm(m, k, n, **changes):
    return {"opcode": Opcode.GEMM, "m": m, "k": k, "n": n, "a_stride": k, "b_address": 1 << 16,
            "b_stride": n, "c_address": 1 << 20, "c_stride": n, "instructions": STORE} | changes


def vector(m, n, **changes):
    return {"opcode": Opcode.VECTOR, "m": m, "k": 1, "n": n, "a_stride": n, "c_address": 1 << 20,
            "c_stride": n, "instructions": STORE} | changes


FENCE = {"opcode": Opcode.FENCE}
WIDE = AcceleratorConfig("posit8", dim=4, bus_bytes=4)
NORM = instruction_words([
    Instruction(reduce=Reduce.SUM, post=Post.MEAN),
    Instruction(add=Operand.R0, subtract=True, destination=Destination.BUFFER),
    Instruction(multiply=Operand.Y, destination=Destination.MEMORY)])


@pytest.mark.parametrize("config, program, cycles, limit", [
    # 30 to memory, a tile of 4 lines, a row, 8 through the array, 5 lanes, 30 to the answer.
    (CONFIG, [gemm(1, 1, 1)], 30 + 4 + 1 + 8 + 5 + 30, "array"),
    # Twenty tiles of 100 rows after the first tile's lines.
    (CONFIG, [gemm(100, 20, 16)], 30 + 4 + 20 * 100 + 8 + 5 + 30, "array"),
    # Tiles of 2 rows take the 4 cycles of their lines.
    (CONFIG, [gemm(2, 20, 16)], 30 + 20 * 4 + 2 + 8 + 5 + 30, "array"),
    # Rows of 3 elements are a beat of 4 lanes each, and so are words that fill the bank.
    (CONFIG, [vector(50, 3)], 30 + 50 + 5 + 30, "fill"),
    # Rows of 6 elements are two words of 4, though their bytes are 75 beats of 4 together.
    (WIDE, [vector(50, 6)], 30 + 100 + 5 + 30, "fill"),
    (WIDE, [vector(100, 16, y0_address=1 << 24, y0_stride=16, instructions=instruction_words([
        Instruction(add=Operand.Y, destination=Destination.MEMORY)]))],
     30 + 800 + 5 + 30, "read"),
    # BF16 takes its ports twice as long.
    (CONFIG, [vector(50, 16, x_wide=1, a_stride=32)], 30 + 400 + 5 + 30, "fill"),
    (CONFIG, [vector(50, 16, c_wide=1, c_stride=32)], 30 + 5 + 400 + 30, "results"),
    # Columns of a transposed C leave in two beats each, while 5 rows come in 11 lines each.
    (CONFIG, [vector(5, 41, c_transposed=1, c_stride=5)], 30 + 5 + 41 * 2 + 30, "results"),
    # Three passes; a row waits for the tree of 4 lanes and for what is written back.
    (CONFIG, [vector(1, 4, instructions=NORM)], 30 + 5 + 2 + 5 + 5 + 30, "latency"),
    (CONFIG, [vector(90, 9, instructions=NORM)], 30 + 3 * 3 * 90 + 5 + 30, "lanes"),
    # Commands overlap, fences part.
    (CONFIG, [gemm(100, 4, 4)] * 3, 30 + 4 + 300 + 8 + 5 + 30, "array"),
    (CONFIG, [gemm(100, 4, 4), FENCE, vector(1, 1), FENCE], 177 + 66, "array"),
    (CONFIG, [FENCE], 0, "latency"),
])
def test_bounds_by_hand(config, program, cycles, limit):
    assert program_bound(config, program, 30) == Bound(cycles, limit)


def test_work_amid_other_commands_has_no_latency():
    assert work_bound(CONFIG, [gemm(100, 20, 16)] * 2) == Bound(4000, "array")
    assert work_bound(CONFIG, [gemm(100, 4, 4), FENCE, vector(7, 4)]) == Bound(107, "array")
    assert work_bound(CONFIG, [FENCE]) == Bound(0, "latency")


def test_beats_are_counted_once():
    rng = np.random.default_rng(5)
    for _ in range(300):
        bus = int(rng.choice([4, 16, 64]))
        rows = [(int(rng.integers(0, 300)), int(rng.integers(0, 40)), int(rng.integers(1, 9)),
                 int(rng.integers(1, 50))) for _ in range(rng.integers(1, 4))]
        held = {byte // bus for address, stride, count, size in rows for index in range(count)
                for byte in range(address + stride * index, address + stride * index + size)}
        assert bound._beats(rows, bus) == len(held)


def test_it_shares_nothing_with_the_control_or_its_model():
    tree = ast.parse(Path(bound.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import)
                 for name in node.names}
    assert {name for name in imported if name.split(".")[0] in ("hdl", "sim", "compiler", "gen")} \
        == {"hdl.spec.commands", "hdl.spec.config"}
