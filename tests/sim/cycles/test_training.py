"""Cycles of what builds alone have that train: the largest magnitude costs none, scalars a few."""

import pytest

from compiler.program.builder import ProgramBuilder
from compiler.program.epilogue import Epilogue
from compiler.program.instruction import Instruction
from compiler.program.scalar import Scalar
from hdl.spec.commands import Destination, Reduce
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.regression import TINY
from sim.cycles.cases import cases
from sim.cycles.check import build, compare, table
from sim.cycles.simulate import simulate

CONFIG = AcceleratorConfig("posit8", dim=4, functions="training")
NAMES = [name for name in cases(4, "training") if name not in cases(4)]
STORE = Instruction(destination=Destination.MEMORY)


def cycles(epilogue, config=CONFIG, m=16, k=40, n=520):
    builder = ProgramBuilder(config)
    given = epilogue(builder) if callable(epilogue) else epilogue
    builder.gemm(builder.empty(m, k), builder.empty(k, n), builder.empty(m, n), given)
    builder.end()
    return simulate(config, list(builder.commands)).cycles


@pytest.mark.parametrize("options", [
    TINY, *(pytest.param(options, marks=pytest.mark.slow)
            for options in ({}, {"lanes": 4, "dim": 8, "lane_latency": 2}))], ids=str)
def test_to_the_cycle_on_rtl(options):
    rows = compare(build("posit8", **{"dim": 4, "functions": "training"} | options), NAMES)
    print("\n".join(table(rows)))
    assert len(rows) == len(NAMES) == 14
    assert all(row.rtl == row.model and not row.differing and not row.fails for row in rows)


@pytest.mark.parametrize("n", [45, 520, 520 * 4])
def test_the_largest_magnitude_costs_no_cycle_of_a_product(n):
    """Rows of 520 · 4 do not fit a bank: one that reduced them would take every pass anew."""
    plain, amax = (cycles(Epilogue(instructions=(STORE,), amax=amax), n=n)
                   for amax in (False, True))
    by_rows = cycles(Epilogue(instructions=(
        Instruction(reduce=Reduce.MAX), STORE)), n=n)
    print(f"n {n}: {plain} without, {amax} with, {by_rows} by rows")
    assert amax == plain
    assert by_rows > 1.05 * plain


def test_scalars_wait_for_memory_once():
    """Both words are asked for at once, after the check: hidden where a command works before."""
    def scaled(*flags):
        def epilogue(builder):
            item = builder.empty(1, 1, "bf16")
            one, other = (Scalar(item) if flag else 1.0 for flag in flags)
            return Epilogue(one, imm1=other, instructions=(STORE,))
        return epilogue

    none, one, two = (cycles(scaled(*flags)) for flags in ((0, 0), (1, 0), (1, 1)))
    print(f"{none}, one scalar {one - none} more, two {two - none}")
    assert 30 < one - none < 50 and one < two <= one + 2

    def several(flag):
        builder = ProgramBuilder(CONFIG)
        table, a, b = builder.empty(1, 1, "bf16"), builder.empty(24, 40), builder.empty(40, 60)
        for _ in range(4):
            builder.gemm(a, b, builder.empty(24, 60), Epilogue(Scalar(table) if flag else 1.0))
        builder.end()
        return simulate(CONFIG, list(builder.commands)).cycles

    assert several(True) - several(False) == one - none  # the first command's alone
