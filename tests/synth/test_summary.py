"""The screen that `make` ends with tells what the Verilog holds."""

import re

import pytest

import synth.summary
from gen.block import generate_block
from hdl.spec.config import AcceleratorConfig
from synth.flow import Flow
from synth.hierarchy import Hierarchy
from synth.library import library_named
from synth.summary import main, ports_of, summary

BUS = """\
module ottava(aclk, m_axi_gmem_araddr, m_axi_gmem_arvalid, interrupt);
  input aclk;
  wire aclk;
  output [63:0] m_axi_gmem_araddr;
  wire [63:0] m_axi_gmem_araddr;
  output m_axi_gmem_arvalid;
  wire m_axi_gmem_arvalid;
  output interrupt;
  wire interrupt;
endmodule
"""


def test_ports_are_grouped_by_bus():
    assert ports_of(Hierarchy(BUS, "ottava")) == [
        ("aclk", 1, 1), ("m_axi_gmem_*", 2, 65), ("interrupt", 1, 1)]


def test_instances_and_gates_are_those_of_the_array():
    config = AcceleratorConfig(dim=8)
    verilog = generate_block("array", config)
    report = Flow(library_named()).measure(verilog, "array")
    text = summary(config, verilog, report, "array.v")
    assert f"array.v: {len(verilog):,} bytes of Verilog-2005, top module array" in text
    assert re.search(r"^pe_posit8_bf16 +64 ", text, re.MULTILINE)
    assert re.search(r"^decoder_posit8 +16 ", text, re.MULTILINE)
    assert f"gate-equivalents {report.gates:,.0f}" in text
    assert "fmt=posit8 dim=8" in text
    assert len(text.splitlines()) <= 40


@pytest.mark.parametrize("arguments, message", [
    (["--fmt", "posit9"], "synth.summary: error: format must be one of"),
    (["--dim", "0"], "synth.summary: error: dim must be a power of two from 4 to 128, not 0"),
    (["--dim", "3.5"], "synth.summary: error: dim must be a power of two from 4 to 128, not '3.5'"),
    (["-o", "/"], "synth.summary: error: output must be a writable file, not '/'"),
    (["-o", "/dev/null/x/acc.v"], "synth.summary: error: output must be in a folder that can be"),
])
def test_errors_are_one_line_before_any_work(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(synth.summary, "generate", None)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith(message) and error.count("\n") == 1
