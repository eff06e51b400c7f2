"""The cycle model against the generated Verilog: cycles, and every cause of a stall."""

import pytest

from sim.cycles.bound import Bound
from sim.cycles.cases import cases
from sim.cycles.check import TOLERANCE, CheckedCase, build, compare, table
from sim.cycles.simulate import Memory
from sim.harness.dram import Dram

BUILDS = [
    ("posit8", {"dim": 4}),
    pytest.param("posit8", {"dim": 8}, marks=pytest.mark.slow),
    pytest.param("posit8", {"dim": 16}, marks=pytest.mark.slow),
    pytest.param("posit8", {"dim": 16, "lanes": 4, "bus_bytes": 8}, marks=pytest.mark.slow),
    pytest.param("bf16", {"dim": 8, "bus_bytes": 32, "lane_latency": 2}, marks=pytest.mark.slow),
    pytest.param("fp8", {"dim": 8, "acc": "exact", "pe_latency": 2}, marks=pytest.mark.slow),
    pytest.param("fp8", {"dim": 4, "acc": "exact", "pe_latency": 3, "lane_latency": 4,
                         "sum_ways": 4, "bus_bytes": 4}, marks=pytest.mark.slow),
    pytest.param("posit8", {"dim": 4, "input_depth": 64, "weight_depth": 64, "acc_depth": 16,
                            "row_depth": 8}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("fmt, options", BUILDS)
def test_cycles_of_every_kind_of_command(fmt, options):
    rows = compare(build(fmt, **options))
    print("\n".join(table(rows)))
    assert len(rows) == len(cases(options["dim"])) >= 40
    assert all(abs(row.error) <= TOLERANCE for row in rows)
    assert all(1 <= row.bound.ratio(row.rtl) < 10 for row in rows)
    assert not any(row.fails for row in rows)


def test_a_difference_is_told():
    row = CheckedCase("gemm", 8, 1000, 1030, Bound(800, "array"),
                     {"tiles": (4, 4), "stall_input": (7, 9)})
    assert row.error == pytest.approx(0.03) and row.fails
    lines = table([row, CheckedCase("copy", 8, 500, 500, Bound(500, "fill"), {"tiles": (0, 0)})])
    assert lines[1].split()[5:] == ["800", "1.25", "array", "stall_input"]
    assert lines[-1] == ("2 compared, 1 beyond 2%, the worst 3.00%, memory ideal, latency 30; "
                         "1 to the cycle; 0 below the bound")
    assert "memory DRAM of 4 cycles a burst" in table([row], Memory(dram=Dram()))[-1]


def test_fewer_cycles_than_the_bound_are_told():
    row = CheckedCase("gemm", 8, 1000, 1000, Bound(1001, "array"), {})
    assert row.fails
    assert table([row])[-1].endswith("1 below the bound")
