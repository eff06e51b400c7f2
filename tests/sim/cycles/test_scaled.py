"""Cycles of what builds alone have whose rows have scales."""

import pytest

from sim.campaigns.regression import TINY
from sim.cycles.cases import cases
from sim.cycles.check import build, compare, table

NAMES = [name for name in cases(4, "scales") if name not in cases(4)]


@pytest.mark.parametrize("fmt, options", [
    ("int8", TINY), *(pytest.param(fmt, options, marks=pytest.mark.slow) for fmt, options in (
        ("int8", {}), ("posit8", {"lanes": 4, "dim": 8, "lane_latency": 2}), ("bf16", TINY)))],
    ids=str)
def test_to_the_cycle_on_rtl(fmt, options):
    rows = compare(build(fmt, **{"dim": 4, "functions": "scales"} | options), NAMES)
    print("\n".join(table(rows)))
    assert len(rows) == len(NAMES) == 16
    assert all(row.rtl == row.model and not row.differing and not row.fails for row in rows)
