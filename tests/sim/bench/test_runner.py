"""The bench runner: a wrong design fails, wrong names are one line, every bench has its module."""

import re
from dataclasses import replace
from importlib.util import find_spec

import pytest

from gen.block import design_block
from gen.top import design as accelerator
from hdl.spec.config import AcceleratorConfig
from sim.bench.__main__ import main
from sim.bench.catalog import BENCHES, Bench, Job, jobs
from sim.bench.runner import run
from support.require import command, require
from support.sabotage import inverted

CONFIG = AcceleratorConfig("posit8", dim=4)


@pytest.fixture
def icarus():
    require(command, "iverilog", "vvp")


def broken(port, design=design_block):
    """A block whose output ``port`` has its lowest bit inverted."""
    return lambda toplevel, config: inverted(design(toplevel, config), port)


@pytest.mark.usefixtures("icarus")
@pytest.mark.parametrize("name, port", [("decoder", "sign"), ("encoder", "result"),
                                        ("mac", "psum_o")])
def test_a_wrong_design_fails(name, port, tmp_path, monkeypatch):
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path))
    report = run(Job(replace(BENCHES[name], generate=broken(port)), CONFIG, "icarus"), 1)
    assert not report.passed
    assert "AssertionError" in report.message


@pytest.mark.usefixtures("icarus")
@pytest.mark.parametrize("port, message", [
    ("m_axi_gmem_wdata", "bytes differ"),
    pytest.param("m_axi_gmem_wlast", "assert last ==", marks=pytest.mark.slow)])
def test_a_wrong_accelerator_fails(port, message, tmp_path, monkeypatch):
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path))
    wrong = broken(port, lambda toplevel, config: accelerator(config, toplevel))
    report = run(Job(replace(BENCHES["top"], generate=wrong), CONFIG, "icarus"), 1)
    assert not report.passed and message in report.message


@pytest.mark.slow
@pytest.mark.usefixtures("icarus")
@pytest.mark.parametrize("bus_bytes", [4, 8, 32, 64])
def test_a_bus_of_every_width(bus_bytes):
    config = replace(CONFIG, bus_bytes=bus_bytes, input_depth=64, weight_depth=64, acc_depth=64)
    report = run(Job(BENCHES["top"], config, "icarus"), 1)
    print(report)
    assert report.passed and report.cases > 1000, report.message


# A word that is taken before it is there, a write that nobody answers in a reset, an interrupt that
# is up after the write that cleared it.
CROSSING_FAULTS = {
    "early word": (r"\.d\(read_answer\)", ".d(read_request)"),
    "no answer": (r"else if \(\w+\) write_answer <= 1'h1;", ""),
    "late interrupt": (r"if \(doing\[1\]\) write_answer", "if (doing[0]) write_answer")}


@pytest.mark.slow
@pytest.mark.usefixtures("icarus")
@pytest.mark.parametrize("fault", CROSSING_FAULTS)
def test_a_wrong_crossing_fails(fault, tmp_path, monkeypatch):
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path))
    job = next(job for job in jobs(["clocks"], ["icarus"], None) if job.surroundings.control_clock)
    text, times = re.subn(*CROSSING_FAULTS[fault], job.verilog)
    assert times == 1
    monkeypatch.setattr(Job, "verilog", text)
    assert not run(job, 1).passed


@pytest.mark.usefixtures("icarus")
def test_a_bench_without_cases_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path))
    monkeypatch.setattr(Bench, "module", "sim.bench.support")
    report = run(Job(BENCHES["decoder"], CONFIG, "icarus"), 1)
    assert not report.passed


@pytest.mark.parametrize("arguments, message", [
    (["--test", "frobnicator"], "--test must be one of decoder, encoder"),
    (["--sim", "modelsim"], "--sim must be one of icarus, verilator, not 'modelsim'"),
    (["--fmt", "fp9"], "--fmt must be one of posit8"),
    (["--jobs", "0"], "--jobs must be an integer from 1 up, not 0"),
])
def test_wrong_arguments_are_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    captured = capsys.readouterr()
    assert stop.value.code == 2
    assert message in captured.err and captured.err.count("\n") == 1 and not captured.out


def test_every_bench_has_its_module():
    for bench in BENCHES.values():
        assert find_spec(bench.module), bench.name


def test_every_bench_runs_on_both_simulators_in_three_formats():
    found = {(job.bench.name, job.simulator, job.config.fmt)
             for job in jobs(list(BENCHES), ["icarus", "verilator"], None)}
    for name in BENCHES:
        for simulator in ("icarus", "verilator"):
            # Clocks and resets are the same in every format.
            for fmt in ("posit8", "bf16") if name != "clocks" else ("posit8",):
                assert (name, simulator, fmt) in found
