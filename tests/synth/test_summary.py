"""The screen that `make` ends with tells what the Verilog holds."""

import re

import pytest

import synth.summary
from gen.block import design_block
from gen.design import Design, Module, Port
from hdl.spec.config import AcceleratorConfig
from synth.flow import Flow
from synth.library import library_named
from synth.summary import main, ports_of, summary

BUS = Design("ottava", {"ottava": Module("ottava", "", (
    Port("aclk", "input", 1, role="clock"),
    Port("m_axi_gmem_araddr", "output", 64, bus="m_axi_gmem", role="araddr"),
    Port("m_axi_gmem_arvalid", "output", 1, bus="m_axi_gmem", role="arvalid"),
    Port("interrupt", "output", 1, role="interrupt")))})


def test_ports_are_grouped_by_bus():
    assert ports_of(BUS) == [
        ("aclk", 1, 1), ("m_axi_gmem_*", 2, 65), ("interrupt", 1, 1)]


def test_instances_and_gates_are_those_of_the_array():
    made = design_block("array", AcceleratorConfig(dim=8))
    report = Flow(library_named()).measure(made)
    text = summary(made, report, "array.v")
    assert f"array.v: {len(made.text):,} bytes of Verilog-2005, top module array" in text
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
    monkeypatch.setattr(synth.summary, "design", None)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith(message) and error.count("\n") == 1
