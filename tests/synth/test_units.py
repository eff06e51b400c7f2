"""Gates by unit: their sum is the whole, none is counted twice."""

import pytest

from gen.design import Design, Module
from synth.flow import Flow, Mapped, Report
from synth.hierarchy import Hierarchy
from synth.units import apart, breakdown, main, parts

CELLS = {
    "top": {"top__core": 1, "top__bus": 1, "fifo": 2},
    "top__core": {"top__core__array": 1, "top__core__unit": 1, "fifo": 1},
    "top__core__array": {"pe_a": 9, "fifo": 3}, "top__core__unit": {"lane_b": 5},
    "top__bus": {"fifo": 6}, "fifo": {}, "pe_a": {"pe_a__mac": 1}, "pe_a__mac": {},
    "lane_b": {}}
GATES = {"top": 1, "top__core": 2, "top__core__array": 3, "top__core__unit": 4, "top__bus": 5,
         "fifo": 10, "pe_a": 100, "lane_b": 1000}


@pytest.fixture
def described():
    return Design("top", {name: Module(name, "", (), cells) for name, cells in CELLS.items()})


def report(described, gates):
    units = {name: Mapped(name, 0, size, 0, 0) for name, size in gates.items()}
    return Report("top", units, {name: described.counts[name] for name in units}, 77)


def test_units_of_top_and_core(described):
    assert parts(described) == {"bus": "top__bus", "array": "top__core__array",
                                "unit": "top__core__unit"}


def test_units_pes_and_lanes_are_mapped_apart(described):
    assert apart(described) == {"top__bus", "top__core__array", "top__core__unit", "pe_a", "lane_b"}


def test_every_gate_is_in_one_row(described):
    found = breakdown(described, report(described, GATES))
    assert found.gates == {"PEs": 900, "lanes": 5000, "bus": 65, "array": 33, "unit": 4,
                           "between the units": 1 + 2 + 30}
    assert found.whole == report(described, GATES).gates and found.memory_bits == 77
    assert found.overhead == found.whole - 5900


def test_what_is_wanted_apart_is_a_unit(described):
    few = Design("top", {**described.modules, "top__bus": Module("top__bus", "", (), {"fifo": 1})})
    assert "top__bus" not in Hierarchy(few, ["no such module"]).units
    tree = Hierarchy(few, ["top__bus"])
    assert "top__bus" in tree.units and "top__bus" in tree.unit("top").boxes


def test_table_of_a_build(capsys, monkeypatch):
    monkeypatch.setattr(Flow, "map_unit", lambda flow, unit, script: Mapped(
        unit.name, 1, len(unit.text), 0, 1))  # every byte of a text is a gate
    assert main(["--dim", "4", "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line[:22].strip(): line[22:].split() for line in lines if line[22:].strip()}
    gates = {name: float(words[0].replace(",", "")) for name, words in rows.items()
             if len(words) == 2 and words[1].endswith("%")}
    overhead = gates.pop("neither PE nor lane")
    whole = float(rows["all"][0].replace(",", ""))
    assert {"PEs", "lanes", "array", "unit", "reader", "between the units"} <= set(gates)
    assert sum(gates.values()) == pytest.approx(whole, abs=len(gates))
    assert whole - overhead == pytest.approx(gates["PEs"] + gates["lanes"], abs=2)
    assert gates["PEs"] % 16 == 0 and gates["lanes"] % 4 == 0 and overhead > gates["PEs"] > 0


def test_a_size_that_is_not_allowed_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--dim", "4", "5"])
    assert stop.value.code == 2
    assert "dim must be a power of two from 4 to 128, not 5" in capsys.readouterr().err
