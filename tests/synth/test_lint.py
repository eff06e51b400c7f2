"""Each tool finds the fault that it is there for, and passes sound Verilog."""

import os

import pytest

from gen.block import generate_block
from hdl.spec.config import AcceleratorConfig
from synth.lint import TOOLS, LintFault, ToolMissing, lint_file

FAULTS = {
    "Verilator": "module top(input [3:0] a, output [1:0] y);\n  assign y = a;\nendmodule\n",
    "Icarus": "module top(input a, output logic y);\n  always_comb y = a;\nendmodule\n",
    "Yosys": "module top(input a, output y);\n  wire w;\n  assign y = a & w;\nendmodule\n",
}


def lint(tool, path):
    try:
        lint_file(tool, path, "top")
    except ToolMissing as missing:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(missing))


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
