"""The flow, on netlists whose cells can be counted by hand."""

import pytest

import synth.flow
from synth.flow import Flow
from synth.foreign import foreign
from synth.library import library_named
from synth.yosys import YosysError

NAND = """\
module nand2(a, b, y);
  input a;
  input b;
  output y;
  assign y = ~(a & b);
endmodule
"""


def row(times, name="top"):
    cells = "".join(f"  nand2 u{index} (\n    .a(a[{index}]),\n    .b(b[{index}]),\n"
                    f"    .y(y[{index}])\n  );\n" for index in range(times))
    vector = f"[{times - 1}:0]"
    return (f"module {name}(a, b, y);\n  input {vector} a;\n  input {vector} b;\n"
            f"  output {vector} y;\n{cells}endmodule\n")


@pytest.fixture
def flow(tmp_path, monkeypatch):
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path))
    return Flow(library_named())


def test_a_nand_is_one_gate(flow):
    report = flow.measure(foreign(NAND, "nand2"))
    assert (report.gates, report.cells, report.register_gates) == (1, 1, 0)
    assert report.delay == pytest.approx(0.036)  # parasitic delay of two, no load


def test_flattened_and_multiplied_instances_add_up_alike(flow):
    few, many = (flow.measure(foreign(NAND + row(times), "top")) for times in (4, 9))
    assert (few.gates, many.gates) == (4, 9)
    assert set(few.units) == {"top"}
    assert many.units["top"].gates == 0 and many.counts["nand2"] == 9
    assert many.units["top"].cells == 0 and (few.cells, many.cells) == (4, 9)


def test_registers_are_told_apart(flow):
    text = ("module r(clk, d, q);\n  input clk;\n  input [2:0] d;\n  output reg [2:0] q;\n"
            "  always @(posedge clk) q <= ~d;\nendmodule\n")
    report = flow.measure(foreign(text, "r"))
    assert report.register_gates == 3 * 6
    assert report.gates == 3 * 6 + 3 * 0.5


def test_memory_macros_have_bits_and_no_gates(flow):
    text = ("module ottava_sram_x(clk, a, y);\n  input clk;\n  input [2:0] a;\n"
            "  output reg [3:0] y;\n  reg [3:0] storage [7:0];\n"
            "  always @(posedge clk) y <= storage[a];\nendmodule\n"
            "module top(clk, a, y);\n  input clk;\n  input [2:0] a;\n  output [3:0] y;\n"
            "  ottava_sram_x ram (\n    .clk(clk),\n    .a(a),\n    .y(y)\n  );\nendmodule\n")
    report = flow.measure(foreign(text, "top"))
    assert (report.memory_bits, report.gates) == (32, 0)


def test_cache_is_used_and_keyed_by_text(flow, monkeypatch):
    flow.measure(foreign(NAND, "nand2"))
    calls = []
    run = synth.flow.run_yosys
    monkeypatch.setattr(synth.flow, "run_yosys", lambda script: calls.append(1) or run(script))
    assert flow.measure(foreign(NAND, "nand2")).gates == 1 and not calls
    assert flow.measure(foreign(NAND.replace("~(a & b)", "~a"), "nand2")).gates == 0.5 and calls


def test_what_a_library_cannot_map_is_an_error(flow):
    latch = ("module l(e, d, q);\n  input e;\n  input d;\n  output reg q;\n"
             "  always @* if (e) q = d;\nendmodule\n")
    with pytest.raises(YosysError, match="D latches are not supported"):
        flow.measure(foreign(latch, "l"))


def test_broken_verilog_is_an_error(flow):
    with pytest.raises(YosysError, match="syntax error"):
        flow.measure(foreign("module x(a);\n  input a;\n  assign = ;\nendmodule\n", "x"))


def test_unknown_script():
    with pytest.raises(ValueError, match=r"^script must be one of quick, best, not 'slow'$"):
        Flow(library_named(), "slow")
