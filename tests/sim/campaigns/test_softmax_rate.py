"""Elements of a softmax per cycle, by the hardware's own counters."""

import pytest

from hdl.spec.config import AcceleratorConfig
from sim.campaigns.softmax_rate import CASES, LEAST, Rate, measure, table
from sim.cycles.bound import Bound
from sim.harness.accelerator import Accelerator


@pytest.mark.first
@pytest.mark.parametrize("kind, rows, commands", CASES)
def test_a_softmax_is_as_fast_as_promised(kind, rows, commands):
    rate = measure(Accelerator(AcceleratorConfig("posit8", dim=16)), kind, rows, commands)
    print("\n".join(table([rate])))
    assert rate.share >= LEAST
    assert 1 <= rate.bound.ratio(rate.cycles) <= 1.12


def test_shares_are_of_what_the_lanes_can():
    bound = Bound(4000, "lanes")
    rate = Rate("fused", 16, 128, 2, 4096, bound, 4096)
    assert (rate.elements_per_cycle, rate.share) == (8, 1)
    assert Rate("alone", 16, 128, 2, 6144, bound, 6144).share == 1
    line = table([rate])[1]
    assert "100.00%" in line and " 1.024 " in line
