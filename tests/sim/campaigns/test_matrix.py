"""The support matrix: its cells, a sample of it on RTL, and the page that tells of all."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from compiler.checkpoints import small
from compiler.lowering.heads import lower
from hdl.spec.config import ACCUMULATORS, SOFTMAX_MODES, AcceleratorConfig
from hdl.spec.formats import FORMATS
from sim.campaigns import matrix
from sim.campaigns.cells import Cell, cells, refusals, sample
from sim.campaigns.matrix import CellResult, main, page_file, run_cell, support_page
from sim.verify.compare import compare
from sim.verify.runner import ImageRun, RunError, on_machine, on_rtl
from sim.verify.starts import machine_start
from support.builds import tiny

SHARED = ("fp8", "bf16")  # of these other tests compile whole accelerators, of the others none does


def test_cells_are_all_that_the_configuration_accepts():
    every = cells()
    assert len(every) == len(set(every)) >= 39
    assert {cell.fmt for cell in every} == set(FORMATS)
    assert [cell for cell in every if cell.fmt == "bf16"] == [
        Cell("bf16", "fp32", mode) for mode in SOFTMAX_MODES]
    refused = refusals()
    assert len(every) + sum(map(len, refused.values())) == (
        len(FORMATS) * len(ACCUMULATORS) * len(SOFTMAX_MODES))
    assert any("an integer sum is exact as it is" in reason for reason in refused)
    assert {cell.fmt for cell in every} - {cell.fmt for cell in cells(functions="training")} == {
        "int8"}


def test_the_sample_touches_everything():
    chosen = sample(cells())
    assert len(chosen) == len(FORMATS) and set(chosen) <= set(cells())
    assert {cell.fmt for cell in chosen} == set(FORMATS)
    assert {cell.acc for cell in chosen} == set(ACCUMULATORS)
    assert {cell.softmax for cell in chosen} == set(SOFTMAX_MODES)
    assert chosen[0].config(4) == AcceleratorConfig(chosen[0].fmt, dim=4)


def bytes_of_a_head(fmt):
    return 12 * (4 * 16 + 12) * FORMATS[fmt].storage_bits // 8


@pytest.mark.first
@pytest.mark.parametrize("formats", [
    [fmt for fmt in FORMATS if fmt not in SHARED],
    pytest.param(list(FORMATS), marks=pytest.mark.slow)], ids=["own", "all"])
def test_the_sample_on_rtl(formats, tmp_path, capsys):
    result = tmp_path / "matrix.json"
    assert main(["--sample", "--small", "--tokens", "12", "--fmt", *formats,
                 "-o", str(result)]) == 0
    record = json.loads(result.read_text())
    assert len(record["cells"]) == len(formats) and all(c["passed"] for c in record["cells"])
    compared = sum(map(bytes_of_a_head, formats))
    assert f"{len(formats)} of {len(formats)} cells passed, {compared} bytes compared, " \
           "0 mismatches" in capsys.readouterr().out


@pytest.mark.parametrize("fmt", SHARED)
def test_a_head_on_a_build_that_others_share(fmt):
    """In the place of a cell's build: each that is not compiled saves 17 s of a processor."""
    config = tiny(fmt).config
    program = lower(config, small.load(12), [0])
    found = compare(program, on_rtl(program.image, config, quiet=True))
    assert (found.total, found.mismatches) == (bytes_of_a_head(fmt), 0)


@pytest.mark.parametrize("name, message", [
    ("O", "1 differ"), ("WQ", "1 differ"), (None, "AXI rules broken")])
def test_a_wrong_byte_fails_its_cell(name, message, monkeypatch, tmp_path, capsys):
    # The negative control, in this process: what differs on the RTL is told and counted.
    def spoiled(image, config, *, seed):
        if name is None:
            raise RunError("AXI rules broken 1 times, first: wlast is missing")
        wrong = image.memory.copy()
        wrong[image.tensor(name).address - image.base] ^= 1
        return ImageRun("RTL", wrong, cycles=7, written=np.zeros_like(wrong),
                        wanted=image.memory)

    monkeypatch.setattr(matrix, "ProcessPoolExecutor", lambda jobs, **_: ThreadPoolExecutor(jobs))
    monkeypatch.setattr(matrix, "on_rtl", spoiled)
    result = tmp_path / "matrix.json"
    assert main(["--small", "--fmt", "fp8", "--softmax", "pwl", "-o", str(result)]) == 1
    out = capsys.readouterr().out
    assert f"FAILED  fp8 {ACCUMULATORS[0]} pwl" in out and message in out
    assert not any(cell["passed"] for cell in json.loads(result.read_text())["cells"])
    assert "wrote docs" not in out


@pytest.mark.parametrize("breaks", [False, True])
def test_a_build_that_trains_is_given_a_step(breaks, monkeypatch):
    """Programs on the machine model in the RTL's place: calibration and a step, and what a
    difference in them does."""
    def start(config):
        run = machine_start(config)

        def counted(memory, address, base):
            if breaks and counted.programs == 3:
                raise RunError("1 of 9 bytes differ from the machine model's")
            counted.programs += 1
            return replace(run(memory, address, base), cycles=1, compared=memory.size)

        counted.programs = 0
        return counted

    monkeypatch.setattr(matrix, "on_rtl", lambda image, config, *, seed: replace(
        on_machine(image, config), cycles=7, written=np.zeros_like(image.memory)))
    monkeypatch.setattr(matrix, "built", lambda config: config)
    monkeypatch.setattr(matrix, "rtl_start", start)
    monkeypatch.setattr(matrix, "compare", lambda program, run: SimpleNamespace(
        total=8, mismatches=0))
    result = run_cell(Cell("fp8", "bf16", "approx_shifted"), 4, 12, False, functions="training")
    assert result.passed == (not breaks) and ("bytes differ" in (result.error or "")) == breaks
    if not breaks:
        # To start; two micro-batches for the scales and two for the step, and what ends each.
        assert result.step_cycles == 7 and result.step_bytes > 7 * 10_000


def test_a_cell_without_bytes_has_not_passed():
    assert not CellResult(cells()[0], "small layer").passed
    assert CellResult(cells()[0], "small layer", compared=1).passed


def test_the_page_in_the_docs_covers_what_is_supported():
    text = page_file().read_text()
    every = cells()
    assert f"Passed: {len(every)} of {len(every)} cells" in text and "failed" not in text
    for fmt, acc in {(cell.fmt, cell.acc) for cell in every}:
        assert f"| `{fmt}` | `{acc}` | " in text
    for reason in refusals():
        assert reason in text


def test_the_page_tells_what_passed_and_what_is_refused():
    every = cells()
    page = support_page([CellResult(c, "small layer", 8, 0, 9) for c in every[:-1]]
                        + [CellResult(every[-1], "small layer", 8, 1, 9)], 4, 12)
    assert page.count("8 / 9") == len(every) - 1 and page.count("**failed**") == 1
    assert f"Passed: {len(every) - 1} of {len(every)} cells" in page
    for reason in refusals():
        assert reason in page


def test_the_page_of_builds_that_train_has_their_steps():
    results = [CellResult(c, "small layer", 8, 0, 9, step_bytes=1000, step_cycles=70)
               for c in cells()]
    page = support_page(results, 4, 12, "training")
    assert page.count("8 / 9, 1,000 / 70") == len(results)
    assert f"{1008 * len(results):,} bytes" in page and "--functions training" in page
    assert page_file("training").name == "support-training.md"


@pytest.mark.parametrize("arguments, message", [
    (["--fmt", "int4"], "--fmt must be one of posit8, posit8es0"),
    (["--dim", "5"], "dim must be a power of two"),
    (["--fmt", "bf16", "--acc", "bf16"], "must leave at least one supported cell"),
    (["--small", "--jobs", "0"], "--jobs must be an integer from 1 up, not 0"),
    (["--small", "--tokens", "0"], "--tokens must be an integer from 1 up")])
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--small"])
    captured = capsys.readouterr()
    assert stopped.value.code == 2 and message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_a_page_that_cannot_be_written_is_refused_before_the_work(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(matrix, "page_file", lambda functions: tmp_path / "file/support.md")
    monkeypatch.setattr(matrix, "_run", lambda *arguments: pytest.fail("the work has begun"))
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stopped:
        main(["--small", "-o", str(tmp_path / "matrix.json")])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and "support.md" in error and error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--functions", "training", "--sample"]])
def test_every_cell_on_rtl(more, tmp_path):
    assert main([*more, "-o", str(tmp_path / "matrix.json")]) == 0
