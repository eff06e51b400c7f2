"""Each tool finds the fault that it is there for, and passes sound Verilog."""

from types import SimpleNamespace

import pytest

import synth.lint
from gen.block import generate_block
from hdl.spec.config import AcceleratorConfig
from support.require import require
from synth.lint import MODULES, TOOLS, LintFault, lint_file, main

FAULTS = {
    "Verilator": "module top(input [3:0] a, output [1:0] y);\n  assign y = a;\nendmodule\n",
    MODULES: "module top(input [3:0] a, output [3:0] y);\n  wire [3:0] w;\n"
             "  assign y = a & w;\nendmodule\n",
    "Icarus": "module top(input a, output logic y);\n  always_comb y = a;\nendmodule\n",
    "Yosys": "module top(input a, output y);\n  wire w;\n  assign y = a & w;\nendmodule\n",
}


def lint(tool, path):
    require(lint_file, tool, path, "top")


@pytest.mark.parametrize("tool", TOOLS)
def test_fault_is_found(tool, tmp_path):
    path = tmp_path / "fault.v"
    path.write_text(FAULTS[tool])
    with pytest.raises(LintFault):
        lint(tool, path)


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("fmt", ["posit8", "bf16"])
def test_generated_verilog_passes(tool, fmt, tmp_path):
    path = tmp_path / "top.v"
    path.write_text(generate_block("mac", AcceleratorConfig(fmt=fmt)).replace("module mac(",
                                                                             "module top("))
    lint(tool, path)


# What only a design as a whole shows: of every statement, some size is read in that way.
LOOP = """module half(input a, b, output y);
  assign y = a & b;
endmodule
module top(input a, output y);
  wire u;
  half one(.a(a), .b(y), .y(u));
  half two(.a(a), .b(u), .y(y));
endmodule
"""


@pytest.mark.parametrize("tool, found", [("Verilator", True), (MODULES, False)])
def test_a_loop_through_modules_is_found_in_the_whole(tool, found, tmp_path):
    path = tmp_path / "loop.v"
    path.write_text(LOOP)
    if found:
        with pytest.raises(LintFault, match="UNOPTFLAT"):
            lint(tool, path)
    else:
        lint(tool, path)


@pytest.mark.parametrize("more, whole", [
    ([], {("posit8", "4x4"), ("posit8", "4x4", "bus", "4"), ("fp8", "4x4"), ("bf16", "4x4"),
          ("int8_fixed", "4x4")}),
    (["--whole"], {(fmt, size) for fmt in ("posit8", "fp8", "bf16") for size in ("4x4", "16x16")}
     | {("int8_fixed", "4x4")}),
    (["--fmt", "int8", "--lane", "fixed", "--dim", "4"], {("int8_fixed", "4x4")}),
    (["--fmt", "bf16", "fp8", "--dim", "8"], {("bf16", "8x8"), ("fp8", "8x8")})])
def test_every_design_is_read_by_every_tool(more, whole, tmp_path, monkeypatch, capsys):
    read = []

    def noted(tool):
        return lambda path, top: read.append((tool, *path.stem.split("-")[1:])) or []

    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path))
    monkeypatch.setattr(synth.lint, "generated", lambda config, top: SimpleNamespace(text=""))
    monkeypatch.setattr(synth.lint, "TOOLS", {tool: noted(tool) for tool in TOOLS})
    assert main(more) == 0
    by_tool = {tool: {key[1:] for key in read if key[0] == tool} for tool in TOOLS}
    flat = {(fmt, *size) for fmt, acc, *size in by_tool["Verilator"] if acc != "exact"}
    assert flat == whole
    large = {("posit8", "bf16", "16x16"), ("fp8", "bf16", "16x16"), ("bf16", "fp32", "16x16")}
    assert by_tool[MODULES] == (set() if more else large)
    assert by_tool["Icarus"] == by_tool["Yosys"] == by_tool["Verilator"] | by_tool[MODULES]
    assert not by_tool["Verilator"] & by_tool[MODULES]
    assert f"lint: {3 * len(by_tool['Icarus'])} passed, 0 failed" in capsys.readouterr().out


@pytest.mark.parametrize("more, told", [([], True), (["--quiet"], False)])
def test_progress_is_told(more, told, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("gen.cli.line._AFTER", 0.0)
    monkeypatch.setattr("gen.cli.line._LINES_EVERY", 0.0)
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path))
    monkeypatch.setattr(synth.lint, "generated", lambda config, top: SimpleNamespace(text=""))
    monkeypatch.setattr(synth.lint, "TOOLS", dict.fromkeys(TOOLS, lambda path, top: []))
    assert main(["--fmt", "bf16", "--dim", "4", *more]) == 0
    error = capsys.readouterr().err.splitlines()
    assert len(error) == (4 if told else 0) and (not told or "3 of 3 checks" in error[-1])


def stopped(arguments, capsys, monkeypatch):
    """What a run that ends with code 2 before it generates anything says."""
    monkeypatch.setattr(synth.lint, "generated", None)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    assert ended.value.code == 2 and captured.out == ""
    return captured.err


@pytest.mark.parametrize("arguments, message", [
    (["--dim", "4", "3.5"], "dim must be a power of two from 4 to 128, not '3.5'"),
    (["--fmt", "int4"], "--fmt must be one of posit8, "),
    (["--fmt", "posit8", "posit9"], "--fmt must be one of posit8, "),
])
def test_errors_are_one_line(arguments, message, capsys, monkeypatch):
    error = stopped(arguments, capsys, monkeypatch)
    assert error.startswith(f"synth.lint: error: {message}") and error.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys, monkeypatch):
    (tmp_path / "build").write_text("a file")
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path / "build"))
    error = stopped([], capsys, monkeypatch)
    assert error.startswith("synth.lint: error: output must be in a folder that can be made, not ")
    assert str(tmp_path / "build" / "lint") in error and error.count("\n") == 1
