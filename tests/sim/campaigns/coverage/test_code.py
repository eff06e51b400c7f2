from concurrent.futures import ThreadPoolExecutor

import pytest

from gen.design import Design, Module
from sim.campaigns.coverage import command
from sim.campaigns.coverage.campaign import Covered
from sim.campaigns.coverage.code import Place, hardware, merged, missing, percent, read
from sim.campaigns.coverage.spec import points

VERILOG = """module leaf(input a, input b, output o);
  assign _1 = a & b;
  always @* begin
    if (wake) begin end
    o_1 = 1'h0;
    if (_1) begin
      o_1 = 1'h1;
    end
  end
  assign o = _1 ? o_1 : b;
endmodule
"""
DESIGN = Design("leaf", {"leaf": Module("leaf", VERILOG, (), definitions={"_1": "a & b"})})


def counted(module, line, column, kind, arm, count):
    fields = {"f": "dut.v", "l": line, "n": column, "page": f"v_{kind}/{module}", "o": arm}
    text = "".join(f"\x01{name}\x02{value}" for name, value in fields.items())
    return f"C '{text}' {count}"


DATA = "\n".join([
    "# SystemC::Coverage-3", counted("leaf", 4, 5, "branch", "if", 0),
    counted("leaf", 6, 5, "branch", "if", 0), counted("leaf", 6, 6, "branch", "else", 9),
    counted("leaf", 10, 17, "branch", "cond_then", 0),
    counted("leaf", 10, 18, "branch", "cond_else", 3),
    counted("leaf", 3, 3, "line", "block", 4), counted("leaf", 3, 3, "line", "block", 5)])


def test_counts_are_read_and_instances_added_up():
    counts = read(DATA)
    assert len(counts) == 6 and counts[Place("leaf", 3, 3, "line", "block")] == 9
    counts = hardware(counts, VERILOG)
    assert (percent(counts), percent(counts, "line"), percent(counts, "branch")) == (
        (3, 5), (1, 1), (2, 4))
    other = {place: 1 for place in counts if place.arm == "if"}
    assert percent(merged([counts, other])) == (4, 5)


def test_what_is_missing_is_told_with_its_signal_and_condition():
    assert missing(hardware(read(DATA), VERILOG), DESIGN) == [
        "leaf: if of if ((a & b)) o_1 = 1'h1;",
        "leaf: cond_then of o = (a & b) ? o_1 : b;"]


def test_no_counts_are_no_coverage():
    with pytest.raises(ValueError, match="must count at least one line"):
        read("# SystemC::Coverage-3\n")


def covered(config, ran, met):
    counts = {Place("leaf", line, 1, ("line", "branch")[line % 2], "block"): int(line < ran)
              for line in range(100)}
    return Covered(config, met, counts, ["leaf: o: if of if (a)"] * (100 - ran), 3, 10, 5)


@pytest.mark.parametrize("ran, part, code", [(95, 1.0, 0), (94, 1.0, 1), (100, 0.9, 1)])
def test_too_little_is_exit_code_1(ran, part, code, monkeypatch, tmp_path, capsys):
    config = command.designs(["e4m3"])[0]
    every = points(config)
    found = covered(config, ran, set(every[:round(part * len(every))]))
    monkeypatch.setattr(command, "attempt", lambda *_: found)
    monkeypatch.setattr(command, "ProcessPoolExecutor", lambda jobs, **_: ThreadPoolExecutor(jobs))
    assert command.main(["--fmt", "e4m3", "-o", str(tmp_path / "coverage.json")]) == code
    out = capsys.readouterr().out
    assert f"code coverage {ran / 100:.1%}: {ran} of 100 lines and branches" in out
    assert ("missing: leaf: o: if of if (a) [every build]" in out) == (ran < 100)
    assert ("reached 95 %" in out) == (code == 0)


def test_a_difference_is_exit_code_1(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command, "attempt", lambda *_: "4x4x4: 1 bytes differ")
    monkeypatch.setattr(command, "ProcessPoolExecutor", lambda jobs, **_: ThreadPoolExecutor(jobs))
    assert command.main(["--fmt", "e4m3", "-o", str(tmp_path / "coverage.json")]) == 1
    assert "FAILED  e4m3: 4x4x4: 1 bytes differ" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, message", [
    (["--gemms", "0"], "--gemms must be an integer from 1 up, not 0"),
    (["--fmt", "int4"], "--fmt must be one of posit8, posit8es0")])
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    captured = capsys.readouterr()
    assert stopped.value.code == 2 and message in captured.err


@pytest.mark.slow
def test_both_figures_are_reached(tmp_path):
    assert command.main(["-o", str(tmp_path / "coverage.json")]) == 0
