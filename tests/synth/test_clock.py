"""Latencies that meet a period, by made-up delays; the buffered script on real cells."""

import pytest

from gen.block import design_block
from hdl.spec.config import AcceleratorConfig
from synth.clock import KNOBS, _allowed, choose, delays, main
from synth.flow import Flow, Mapped
from synth.hierarchy import Hierarchy
from synth.library import library_named

PE, LANE, REDUCE, REST = 12.0, 24.0, 20.0, 7.0


def made_up(flow, unit, script):
    """Delays as if a register more cut a path in as many parts."""
    assert script == "clock"
    delay = REST
    if unit.name.startswith("pe_"):
        delay = PE / (2 if "latency2" in unit.name else 1)
    elif unit.name.startswith("lane_"):
        delay = LANE / next((parts for parts in (4, 3, 2) if f"latency{parts}" in unit.name), 1)
    elif "__core__unit" in unit.name and "reduce_node" in unit.text:  # flattened, or boxes of it
        delay = REDUCE / (4 if "reduce_node_bf16_cut3" in unit.text
                          else 2 if "reduce_node_bf16_cut" in unit.text else 1)
    elif unit.name.startswith("reduce_"):
        delay = REST / 2
    return Mapped(unit.name, 1, 1.0, 0.0, delay)


@pytest.fixture
def flow(monkeypatch):
    monkeypatch.setattr(Flow, "map_unit", made_up)
    return Flow(library_named("ottava"))


@pytest.mark.parametrize("period, chosen", [
    (22, (1, 2, 1)), (10, (2, 3, 2))])
def test_the_least_latencies_that_meet_a_period(flow, period, chosen):
    config = AcceleratorConfig("posit8", dim=4, functions="softmax")
    found = choose(flow, config, period)
    assert tuple(getattr(found, name) for name in KNOBS) == chosen
    assert max(delays(flow, found).values()) <= period


@pytest.mark.parametrize("values, name, allowed", [
    ({"fmt": "posit8"}, "pe_latency", [1, 2]),
    ({"fmt": "posit8", "acc": "exact"}, "pe_latency", [1, 2, 3]),
    ({"fmt": "int8", "lane_kind": "fixed"}, "lane_latency", [1, 2, 3, 4]),
    ({"fmt": "int8", "lane_kind": "fixed"}, "sum_ways", [1])])
def test_latencies_that_a_build_does_not_have_are_left_out(values, name, allowed):
    found = _allowed(AcceleratorConfig(**values), name, KNOBS[name].values)
    assert [getattr(config, name) for config in found] == allowed


def test_a_path_that_no_latency_shortens_is_named(flow, capsys):
    arguments = ["--functions", "softmax", "--quiet", "--period-ns"]
    assert main([*arguments, "10"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "--pe-latency 2 --lane-latency 3 --sum-ways 2 meets 10 ns: the longest path takes 10.0 ns, "
        "in unit")
    assert main([*arguments, "6.5"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("6.5 ns is not met, at --pe-latency 2 --lane-latency 4 --sum-ways 4 "
                           "either: ") and "takes 7.0 ns; " in last


@pytest.mark.parametrize("period", ["-1", "ten"])
def test_a_period_that_is_none_is_refused(period, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--period-ns", period])
    assert stop.value.code == 2 and "period" in capsys.readouterr().err


def test_fan_out_is_buffered():
    flow = Flow(library_named("ottava"))
    made = design_block("mac", AcceleratorConfig("posit8", dim=4))
    unit = Hierarchy(made).unit("mac")
    plain, buffered = (flow.map_unit(unit, script) for script in ("quick", "clock"))
    assert buffered.gates >= plain.gates
    assert 0 < buffered.delay < 1.1 * plain.delay
