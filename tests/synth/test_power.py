"""Energies: on a netlist that is counted by hand, beside simulators and analysers of others."""

import json
import re
import subprocess

import numpy as np
import pytest

from compiler.checkpoints import small
from gen.block import design_block
from hdl.spec.config import AcceleratorConfig
from support.require import command, require
from synth import power
from synth.energy import leakage, spent
from synth.expression import parse
from synth.flow import Flow
from synth.gates import Gates
from synth.liberty import liberty
from synth.library import Library, library_named
from synth.sta import sta_command, sta_energy
from synth.toggles import Trace, _ticks, timed
from synth.unit_power import MappingDiffers, measured_units

# Two cells: pJ, pF and ns of every figure are the same for all loads and slews but the delay.
LIBERTY = """
library(hand) { /* no foundry's */
  time_unit : "1ns"; voltage_unit : "1V"; capacitive_load_unit (1,pf); leakage_power_unit : "1nW";
  nom_voltage : 2;
  lu_table_template(two) { variable_1 : input_net_transition;
    variable_2 : total_output_net_capacitance; index_1 ("0.1, 0.3"); index_2 ("0, 1"); }
  power_lut_template(one) { variable_1 : input_transition_time; index_1 ("0.1"); }
  cell(NAND2) { area : 1; cell_leakage_power : 3;
    pin(A) { direction : input; capacitance : 0.5; }
    pin(B) { direction : input; capacitance : 0.25; }
    pin(Y) { direction : output; function : "(A B)'";
      timing() { related_pin : "A"; TIMES } timing() { related_pin : "B"; TIMES }
      internal_power() { related_pin : "A"; ENERGY(8, 16) }
      internal_power() { related_pin : "B"; ENERGY(2, 4) } } }
  cell(DFF) { area : 6; cell_leakage_power : 5;
    ff(IQ, IQN) { next_state : "D"; clocked_on : "CK"; }
    pin(CK) { direction : input; capacitance : 0.125; clock : true;
      internal_power() { ENERGY(1, 3) } }
    pin(D) { direction : input; capacitance : 0.0625; internal_power() { ENERGY(0.5, 0.25) } }
    pin(Q) { direction : output; function : "IQ"; timing() { related_pin : "CK"; TIMES }
      internal_power() { related_pin : "CK"; ENERGY(32, 64) } } } }
"""
TIMES = "".join(f'{name}(two) {{ values ("0.1, 0.2", "0.1, 0.2"); }} ' for name in (
    "cell_rise", "cell_fall", "rise_transition", "fall_transition"))


def hand(folder):
    text = re.sub(r"ENERGY\(([\d.]+), ([\d.]+)\)",
                  r'rise_power(one) { values ("\1"); } fall_power(one) { values ("\2"); }',
                  LIBERTY.replace("TIMES", TIMES))
    path = folder / "hand.lib"
    path.write_text(text)
    return Library("hand", path)


def module(cells, **ports):
    return {"ports": {name: {"direction": direction, "bits": bits}
                      for name, (direction, bits) in ports.items()},
            "cells": {name: {"type": kind, "connections": {pin: [bit] for pin, bit in pins.items()}}
                      for name, (kind, pins) in cells.items()}}


# y = NAND of a and of b a cycle ago.
SMALL = module({"gate": ("NAND2", {"A": 10, "B": 13, "Y": 12}),
                "flop": ("DFF", {"CK": 9, "D": 11, "Q": 13})},
               clk=("input", [9]), a=("input", [10]), b=("input", [11]), y=("output", [12]))
A, B = (np.array(column) for column in ([0, 1, 1, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 1, 1, 1]))


def test_a_netlist_counted_by_hand(tmp_path):
    gates = Gates(SMALL, liberty(hand(tmp_path)))
    trace = Trace(gates, {"a": A, "b": B})
    # q: 0 1 1 0 0 0 1 1; y: 1 0 0 1 1 1 1 1. a changes 4 times, b 2, q 3 (up, down, up).
    assert list(trace.output("y")) == [1, 0, 0, 1, 1, 1, 1, 1]
    found, cycles = spent(trace), 7
    # y falls by a and q at once: mean of 16 and 4. It rises by both: mean of 8 and 2.
    # The flop: rises, fall, rise of 32, 64, 32; its D falls and rises; its clock 7 times both.
    assert found.clock * cycles == pytest.approx(7 * (1 + 3))
    assert found.internal * cycles == pytest.approx(
        10 + 5 + (32 + 64 + 32) + (0.5 + 0.25) + 7 * (1 + 3))
    # ½ · C · 2²: q drives a B, y nothing; a an A, b a D, the clock a CK twice a cycle.
    assert found.switching * cycles == pytest.approx(2 * 3 * 0.25)
    assert found.inputs * cycles == pytest.approx(2 * (4 * 0.5 + 2 * 0.0625 + 14 * 0.125))
    assert leakage(gates) == pytest.approx((3 + 5) * 1e-6)


def test_pulses_are_counted_by_delay(tmp_path):
    # NAND of a and of a by a NAND of a and b: with b high, a pulse at every rise of a.
    late = module({"inverse": ("NAND2", {"A": 10, "B": 11, "Y": 12}),
                   "gate": ("NAND2", {"A": 10, "B": 12, "Y": 13})},
                  a=("input", [10]), b=("input", [11]), y=("output", [13]))
    gates = Gates(late, liberty(hand(tmp_path)))
    trace = Trace(gates, {"a": np.array([0, 1, 0, 1, 1, 0]), "b": 1})
    inverse, y = gates.gates[0].nets["Y"], gates.gates[1].nets["Y"]
    # The first gate's delay, 0.125 ns with a pin of 0.25 pF, is longer than the second's, 0.1: the
    # pulse passes. After a fall of a, y stays.
    assert [_ticks(gates, gate, "Y") for gate in gates.gates] == [6, 5]
    assert (trace.toggles(y), trace.toggles(inverse)) == (0, 4)
    assert (timed(trace)[y], timed(trace)[inverse]) == (4, 4)
    assert spent(trace).glitches * 5 == pytest.approx(4 * (12 + 3) / 2)


@pytest.fixture
def osu018():
    return Flow(require(library_named, "osu018"))


def test_delays_are_those_of_a_simulator(osu018, tmp_path):
    """Icarus counts the same toggles, net by net, where each gate is an ``assign`` with its delay,
    and sees the same settled values."""
    require(command, "iverilog")
    gates = Gates(osu018.netlist(design_block("decoder", AcceleratorConfig())),
                  liberty(osu018.library))
    codes = np.random.default_rng(5).integers(0, 256, 300)
    trace = Trace(gates, {"code": codes})
    lines = ["`timescale 1ns/1ns", "module bench;", "reg [7:0] code = 0;", "integer file;"]
    lines += [f"wire n{net} = code[{index}];" for index, net in enumerate(gates.inputs["code"])]
    for gate in gates.gates:
        own = {pin: f"n{net}" for pin, net in gate.nets.items()}
        lines.append(f"wire n{gate.nets['Y']}; assign #{_ticks(gates, gate, 'Y')} "
                     f"n{gate.nets['Y']} = {gate.cell.pins['Y'].function.over(own)};")
    nets = [net for net in range(gates.count) if net not in (Gates.ZERO, Gates.ONE)]
    lines += [f"integer c{net} = 0; always @(n{net}) c{net} = c{net} + 1;" for net in nets]
    lines += ["integer i; reg [7:0] given [0:299];", "initial begin",
              f'$readmemh("{tmp_path}/codes", given);', "code = given[0]; #1000;",
              *(f"c{net} = 0;" for net in nets),
              "for (i = 1; i < 300; i = i + 1) begin code = given[i]; #1000; end",
              *(f'$display("{net} %0d %b", c{net}, n{net});' for net in nets), "$finish; end",
              "endmodule"]
    (tmp_path / "codes").write_text("\n".join(f"{code:x}" for code in codes))
    (tmp_path / "bench.v").write_text("\n".join(lines))
    subprocess.run(["iverilog", "-o", tmp_path / "bench", tmp_path / "bench.v"], check=True)
    said = subprocess.run(["vvp", tmp_path / "bench"], check=True, stdout=subprocess.PIPE,
                          text=True).stdout
    found = {int(net): (int(count), int(value)) for net, count, value in
             re.findall(r"^(\d+) (\d+) ([01])$", said, re.M)}
    counts = timed(trace)
    assert found == {net: (counts[net], trace.nets[net] >> 299 & 1) for net in nets}
    assert sum(counts) > sum(map(trace.toggles, nets)) > 5000
    print(f"{len(nets)} nets, {sum(counts)} toggles")


def test_opensta_agrees_on_cells_of_two_inputs(osu018):
    """Where a cell's input has one way to its output, both methods mean the same."""
    require(sta_command)
    cells = {"flop": ("DFFPOSX1", {"CLK": 9, "D": 12, "Q": 13}),
             "nand": ("NAND2X1", {"A": 10, "B": 11, "Y": 12}),
             "inverter": ("INVX1", {"A": 13, "Y": 14})}
    gates = Gates(module(cells, clk=("input", [9]), a=("input", [10]), b=("input", [11]),
                         y=("output", [14])), liberty(osu018.library))
    rng = np.random.default_rng(1)
    trace = Trace(gates, {name: rng.integers(0, 2, 500) for name in "ab"})
    internal, switching = sta_energy(osu018.library, trace)
    ours = spent(trace)
    assert switching == pytest.approx(ours.switching, rel=0.01) and switching > 0.01
    assert internal == pytest.approx(ours.internal, rel=0.01) and internal > 0.1


def test_units_at_work_give_the_models_words(osu018):
    require(sta_command)
    config = AcceleratorConfig(dim=8, functions="softmax")
    units = ("decoder", "pe", "exp", "encoder")
    found = dict(zip(units, measured_units(osu018, [(config, unit) for unit in units],
                                           small.load(24), 0), strict=True))
    assert {name: one.compared for name, one in found.items()} == {
        "decoder": 24 * 64, "pe": 24 * 4 * 4, "exp": 24 * 24, "encoder": 24 * 24}
    for name, one in found.items():
        print(f"{name}: {one.compared} words, {one.difference:+.1%}")
        assert abs(one.difference) < 0.25 and one.spent.total >= one.spent.settled > 0
    assert abs(found["pe"].difference) < 0.15
    assert found["pe"].spent.settled > 5 * found["decoder"].spent.settled


def test_one_wrong_gate_is_found(osu018, tmp_path, monkeypatch):
    """The kept result of the right netlist does not serve the wrong one either."""
    require(sta_command)
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path))
    case = [(AcceleratorConfig(dim=8, functions="softmax"), "encoder")]
    measured_units(osu018, case, small.load(8), 0)
    right = Flow.netlist

    def wrong(flow, design):
        made = right(flow, design)
        if design.top == "encoder":
            bits = made["ports"]["result"]["bits"]
            cell = next(cell for cell in made["cells"].values()
                        if cell["type"] == "XNOR2X1" and cell["connections"]["Y"][0] in bits)
            cell["type"] = "XOR2X1"
        return made

    monkeypatch.setattr(Flow, "netlist", wrong)
    with pytest.raises(MappingDiffers, match=r"^encoder: \d+ of 64 words of result differ"):
        measured_units(osu018, case, small.load(8), 0)


def test_report(osu018, tmp_path, monkeypatch, capsys):
    require(sta_command)
    monkeypatch.setattr(power, "UNITS", ("decoder", "pe", "encoder", "lane"))
    output = tmp_path / "power.json"
    assert power.main(["--small", "--tokens", "8", "--dim", "4", "--fmt", "posit8", "-o",
                       str(output)]) == 0
    text, record = capsys.readouterr().out, json.loads(output.read_text())
    whole = record["pairings"]["as published"]["posit8"]["whole"]
    units = record["pairings"]["as published"]["posit8"]["units"]
    times = {"pe": 16, "decoder": 8, "encoder": 4, "lane": 4}
    assert whole["ours"] == pytest.approx(sum(
        times[name] * (one["spent"]["internal"] + one["spent"]["switching"])
        for name, one in units.items()))
    assert abs(whole["sta"] / whole["ours"] - 1) < 0.15
    assert re.search(r"^words compared with the models: [\d,]+, mismatches: 0$", text, re.M)
    rows = re.findall(r"^posit8  (\w+) ", text, re.M)
    assert rows == 2 * ["decoder", "pe", "encoder", "lane", "approx_shifted"]


def test_a_wrong_word_ends_with_1(osu018, tmp_path, monkeypatch, capsys):
    require(sta_command)

    def differs(*rest):
        raise MappingDiffers("pe: 1 of 2 words of psum_o differ")

    monkeypatch.setattr(power, "measured_units", differs)
    assert power.main(["--small", "-o", str(tmp_path / "power.json")]) == 1
    assert capsys.readouterr().err == "synth.power: error: pe: 1 of 2 words of psum_o differ\n"
    assert not (tmp_path / "power.json").exists()


@pytest.mark.parametrize("text, meant", [
    ("A", "{A}"), ("!A", "~{A}"), ("A'", "~{A}"), ("A B", "({A} & {B})"),
    ("A+B C", "({A} | ({B} & {C}))"), ("A^B*C", "(({A} ^ {B}) & {C})"),
    ("!(A B)|C", "(~({A} & {B}) | {C})"), ("(A)(B)'", "({A} & ~{B})")])
def test_functions_of_liberty(text, meant):
    assert parse(text).text == meant
    assert parse(text).names == set(re.findall(r"\w+", meant))


@pytest.mark.parametrize("text", ["", "A+", "(A", "A)", "A-B", "1"])
def test_what_is_no_function(text):
    with pytest.raises(ValueError, match=r"^function must be of names, ! & \| \^ and brackets"):
        parse(text)


@pytest.mark.parametrize("cells, message", [
    ({"x": ("LATCH", {"D": 10, "Q": 12})}, "x must be a gate or a flop .* not LATCH"),
    ({"x": ("NAND2", {"A": 10, "B": 12, "Y": 12})}, "gates must not form a loop, but x does"),
    ({"x": ("DFF", {"CK": 10, "D": 10, "Q": 12}), "y": ("DFF", {"CK": 11, "D": 10, "Q": 13})},
     "a netlist must have one clock, on its rising edge, not 2")])
def test_netlists_that_cannot_run(tmp_path, cells, message):
    with pytest.raises(ValueError, match=message):
        Gates(module(cells, a=("input", [10]), b=("input", [11]), y=("output", [12])),
              liberty(hand(tmp_path)))


def test_inputs_that_are_missing_or_too_wide(tmp_path):
    gates = Gates(SMALL, liberty(hand(tmp_path)))
    with pytest.raises(ValueError, match=r"^inputs must be a, b, not a$"):
        Trace(gates, {"a": A})
    with pytest.raises(ValueError, match=r"^inputs must be arrays of one length, not of \[7, 8\]$"):
        Trace(gates, {"a": A, "b": B[1:]})
    with pytest.raises(ValueError, match=r"^input b must be an integer a cycle, not float64"):
        Trace(gates, {"a": A, "b": B * 1.0})


def test_what_is_no_liberty(tmp_path):
    path = tmp_path / "broken.lib"
    path.write_text("library(x) { cell(NAND2) { area : 1;")
    with pytest.raises(ValueError, match="liberty must be a whole Liberty file"):
        liberty(Library("broken", path))


def test_accumulators_that_round_no_sums(osu018):
    with pytest.raises(ValueError, match="acc must be one of bf16, fp32 .* not 'exact'"):
        measured_units(osu018, [(AcceleratorConfig(dim=4, acc="exact"), "decoder")],
                       small.load(4), 0)
