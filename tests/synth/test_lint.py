"""Each tool finds the fault that it is there for, and passes sound Verilog."""


import pytest

import synth.lint
from gen.block import generate_block
from hdl.spec.config import AcceleratorConfig
from support.require import require
from synth.lint import TOOLS, LintFault, lint_file, main

FAULTS = {
    "Verilator": "module top(input [3:0] a, output [1:0] y);\n  assign y = a;\nendmodule\n",
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
    (["--fmt", "int8"], "--fmt must be one of posit8, "),
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
