"""Each front end accepts what is generated within its budget, and is heard where something is
wrong."""

from collections import Counter

import pytest

from gen.cached import generated
from hdl.spec.config import AcceleratorConfig
from support.require import require
from synth.front_ends import BUDGET, ERROR, FRONT_ENDS, Allowed, beyond, main, said
from synth.lint import FORMATS

# Seconds of each format; lint has Verilator read them all.
SLOW = {"Verilator", "Yosys", "Yosys in WebAssembly", "Yosys of Debian"}
READINGS = [pytest.param(tool, fmt, marks=pytest.mark.slow if tool in SLOW and (
    fmt != "posit8" or "Web" in tool) else ()) for tool in FRONT_ENDS for fmt in FORMATS]
# Accepted by none: a module that is not there, in text that is none.
WRONG = "module top(input a, output y);\n  missing m(.a(a), .y(y));\n  assign = ;\nendmodule\n"


@pytest.mark.parametrize("tool, fmt", READINGS)
def test_generated_verilog_keeps_the_budget(tool, fmt, tmp_path, monkeypatch):
    path = tmp_path / "acc.v"
    path.write_text(generated(AcceleratorConfig(fmt, dim=4), "ottava").text)
    found = require(said, tool, path, "ottava")
    print(f"{tool}, {fmt}: {found.total()} warnings of {len(found)} kinds")
    assert beyond(tool, found) == []
    for kind, count in found.items():  # one more is too many
        monkeypatch.setitem(BUDGET, tool, BUDGET[tool] | {kind: Allowed(count - 1, "")})
        assert beyond(tool, found) == [f"{count} of {kind}, {count - 1} allowed"]
        monkeypatch.undo()
    assert beyond(tool, Counter({"unheard-of": 1})) == ["1 of unheard-of, 0 allowed"]
    assert beyond(tool, Counter([ERROR])) == ["1 of error, 0 allowed"]


@pytest.mark.parametrize("tool", [
    pytest.param(tool, marks=pytest.mark.slow if "Web" in tool else ()) for tool in FRONT_ENDS])
def test_an_error_is_beyond_every_budget(tool, tmp_path):
    path = tmp_path / "wrong.v"
    path.write_text("module top(input a, output y);\n  assign y = a;\nendmodule\n")
    assert not require(said, tool, path, "top")[ERROR]
    path.write_text(WRONG)
    found = require(said, tool, path, "top")
    assert found[ERROR] and f"{found[ERROR]} of error, 0 allowed" in beyond(tool, found)


def test_every_kind_has_a_reason_and_every_tool_a_budget():
    assert BUDGET.keys() == FRONT_ENDS.keys()
    assert all(allowed.why and allowed.most for kinds in BUDGET.values()
               for allowed in kinds.values())


def test_a_fault_is_told_and_ends_with_1(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path))
    monkeypatch.setattr("synth.front_ends.FRONT_ENDS", {"Icarus": lambda *_: Counter(warning=2)})
    assert main(["--fmt", "posit8"]) == 1
    assert capsys.readouterr().out == ("posit8 Icarus: 0 errors, 2 warnings (warning 2)\n"
                                       "    FAILED: 2 of warning, 0 allowed\n"
                                       "front ends: 1 readings, 1 faults\n")
