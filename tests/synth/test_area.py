"""Targets of the leaves, on OSU018 by the quick script; and the table's arithmetic."""

import json
import os

import pytest

from gen.block import design_block
from hdl.spec.config import FUNCTION_SETS, AcceleratorConfig, accumulators
from hdl.spec.formats import format_named
from support.require import require
from synth.accumulators import accumulator_table
from synth.area import Areas, figure_of_merit, main, tables
from synth.flow import Flow, Mapped, Report
from synth.hierarchy import Hierarchy
from synth.library import library_named
from synth.tables import render
from synth.yosys import YosysError


@pytest.fixture(scope="module")
def osu018():
    return Flow(require(library_named, "osu018"))


@pytest.mark.parametrize("block, fmt, softmax, gates, delay", [
    ("decoder", "posit8", "approx_shifted", 100, None),
    ("encoder", "posit8", "approx_shifted", 160, None),
    ("mac", "posit8", "approx_shifted", 1130, 11.0),
    ("exp", "posit8", "approx_shifted", 150, None),
    ("exp", "posit8", "linear", 350, None),
    # Orders of the same statements map to 58 to 68: ABC's heuristics, not the circuit.
    ("reciprocal", "posit8", "approx_shifted", 64, None),
])
def test_target(osu018, block, fmt, softmax, gates, delay):
    config = AcceleratorConfig(fmt=fmt, softmax=softmax)
    report = osu018.measure(design_block(block, config))
    print(f"{fmt} {block}: {report.gates:.0f} NAND2, {report.delay:.2f} ns")
    assert 0 < report.gates <= gates
    assert delay is None or 0 < report.delay <= delay


def test_psum_register_is_counted(osu018):
    report = osu018.measure(design_block("mac", AcceleratorConfig(fmt="posit8")))
    assert report.register_gates == 16 * 4  # sixteen DFFPOSX1 of 96/24


@pytest.fixture(scope="module")
def leaves():
    areas = Areas(Flow(library_named()), 4, None)
    areas.measure([("decoder", fmt, "pwl") for fmt in ("posit8", "bf16")])
    return areas


def test_ratio_is_that_of_the_gates(leaves):
    made = tables(leaves, ["decoder"], ["posit8", "bf16"])
    gates = made[0]["rows"][0]["gates"]
    assert gates["posit8"] != gates["bf16"]
    assert f"{gates['posit8'] / gates['bf16']:.3f}" in render(made, ["posit8", "bf16"])


def test_cells_stand_beside_the_gates(leaves):
    report = leaves.report("decoder", "posit8", "pwl")
    row = render(tables(leaves, ["decoder"], ["posit8"]), ["posit8"]).splitlines()[-1]
    assert report.cells > 0
    assert row.split() == ["decoder", f"{report.gates:,.0f}", f"{report.cells:,}",
                           f"{report.delay:.1f}"]


def test_figure_of_merit_is_the_formula():
    areas = Areas(Flow(library_named()), 4, None)
    for block in ("pe", "decoder", "encoder", "lane"):
        areas.measure([(block, "posit8", "pwl")])
    gates = {key[0]: report.gates for key, report in areas.reports.items()}
    expected = 16 * gates["pe"] + 8 * gates["decoder"] + 4 * gates["encoder"] + 4 * gates["lane"]
    assert figure_of_merit(areas, "posit8", "pwl") == pytest.approx(expected)


def test_command_line(tmp_path, capsys):
    target = tmp_path / "area.json"
    assert main(["--block", "decoder", "--fmt", "posit8", "fp8", "-o", str(target)]) == 0
    out = capsys.readouterr().out
    assert "Yosys 0." in out and "library ottava" in out and "stime" in out
    written = json.loads(target.read_text())
    assert {block["fmt"] for block in written["blocks"]} == {"posit8", "fp8"}
    assert all(sum(unit["gates"] * unit["instances"] for unit in block["units"])
               == pytest.approx(block["gates"]) for block in written["blocks"])


def stopped(arguments, capsys):
    """What a run that ends with code 2 says."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    assert ended.value.code == 2 and captured.out == ""
    return captured.err


@pytest.mark.parametrize("arguments, message", [
    (["--library", "sky130"], "library must be one of ottava, osu018, not 'sky130'"),
    (["--liberty", "/none/such.lib"], "liberty must be a Liberty file, not '/none/such.lib'"),
    (["--script", "slow"], "script must be one of quick, best, not 'slow'"),
    (["--dim", "3"], "dim must be a power of two from 4 to 128, not 3"),
    (["--dim", "3.5"], "dim must be a power of two from 4 to 128, not '3.5'"),
    (["--lanes", "32"], "lanes must be a power of two from 4 to 16, not 32"),
    (["--functions", "gelu"], f"functions must be one of {', '.join(FUNCTION_SETS)}, not 'gelu'"),
    (["--acc", "fp32"], "unrecognized arguments: --acc fp32"),
    (["--softmax", "exact"], "unrecognized arguments: --softmax exact"),
    (["-o", "/"], "output must be a writable file, not '/': it is a directory"),
    (["-o", "/dev/null/x/area.json"],
     "output must be in a folder that can be made, not '/dev/null/x': Not a directory"),
])
def test_errors_are_one_line_before_any_work(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(Areas, "measure", None)
    assert stopped([*arguments, "--block", "decoder"], capsys) == f"synth.area: error: {message}\n"


@pytest.mark.parametrize("fmt", ["int4", "posit9"])
def test_format_must_be_one_that_is_compared(fmt, capsys):
    error = stopped(["--fmt", fmt], capsys)
    assert error.count("\n") == 1
    assert all(word in error for word in ("--fmt", fmt, "posit8", "fp8", "bf16"))


def test_a_failed_run_leaves_the_old_file_and_no_other(tmp_path, capsys, monkeypatch):
    def fail(*arguments):
        raise YosysError("ERROR: no such cell")

    monkeypatch.setattr(Areas, "measure", fail)
    target = tmp_path / "area.json"
    target.write_text("old")
    error = stopped(["--block", "decoder", "-o", str(target)], capsys)
    assert error == "synth.area: error: ERROR: no such cell\n"
    assert target.read_text() == "old" and os.listdir(tmp_path) == ["area.json"]


def test_target_of_integers(osu018):
    """A PE of two 8-bit registers and a product without one; the decoder is wires."""
    pe = osu018.measure(design_block("pe", AcceleratorConfig("int8")))
    print(f"int8 pe: {pe.gates:.0f} NAND2, {pe.delay:.2f} ns")
    assert pe.gates <= 640
    assert osu018.measure(design_block("decoder", AcceleratorConfig("int8"))).gates == 0


@pytest.mark.parametrize("acc, gates, delay", [("exact", 1270, 12.0), ("fp32", 2080, None)])
def test_target_of_accumulators(osu018, acc, gates, delay):
    report = osu018.measure(design_block("mac", AcceleratorConfig(acc=acc)))
    print(f"posit8 mac {acc}: {report.gates:.0f} NAND2, {report.delay:.2f} ns")
    assert 0 < report.gates <= gates
    assert delay is None or 0 < report.delay <= delay
    assert report.register_gates == 4 * AcceleratorConfig(acc=acc).acc_bits


class Stub:
    """A flow that maps nothing: every byte of a text counts as a gate."""

    @staticmethod
    def measure_all(designs):
        return [Report(top, {top: Mapped(top, size, size, 0, size / 1000)}, {top: 1},
                       Hierarchy(design).memory_bits)
                for design in designs for top, size in [(design.top, len(design.text))]]


def test_table_of_accumulators():
    table, reports = accumulator_table(Stub, "posit8es0", 4, None)
    rows = {row["block"]: row for row in table["rows"]}
    for acc in accumulators(format_named("posit8es0")):
        parts = [reports[block, acc] for block in ("array", "accumulation buffer")]
        assert rows["array and buffer"]["gates"][acc] == pytest.approx(
            sum(part.gates for part in parts))
        bits = AcceleratorConfig("posit8es0", acc=acc).acc_bits
        assert rows["memory bits"]["gates"][acc] == 2 * 512 * 4 * bits
    assert rows["column"]["gates"]["bf16"] == 4 * rows["mac"]["gates"]["bf16"]
    assert rows["column"]["delay"]["exact"] == reports["column", "exact"].delay
    assert "exact" not in rows["pe"]["delay"]
    # Nothing of fused is a MAC; its column ends with the rounding.
    assert set(rows["mac"]["gates"]) == {"bf16", "fp32", "exact"}
    assert rows["column"]["gates"]["fused"] > rows["column"]["gates"]["exact"]
    text = render([table], ["posit8"])
    assert "exact/bf16" in text and f"{rows['mac']['gates']['exact']:,.0f}" in text
