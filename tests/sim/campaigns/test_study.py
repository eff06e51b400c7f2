import json
from dataclasses import replace

import pytest

from compiler.checkpoints import digits
from hdl.spec.config import SOFTMAX_MODES
from sim.campaigns.study import command, measure
from sim.campaigns.study.cells import GROUPS, STUDY_TASKS, Cell, cells_of
from sim.campaigns.study.report import completed, earlier, summaries, table
from support.require import require

TASK = "digits-negative-transposed"


@pytest.fixture
def build(tmp_path, monkeypatch):
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path))
    return tmp_path


@pytest.fixture
def images():
    return require(digits.images)


def test_cells_fill_in_what_is_usual():
    assert Cell(TASK).softmax == "approx_shifted" and Cell(TASK).backward == "centred"
    assert Cell(TASK, "fp8").softmax == "pwl" and Cell(TASK, "fp8").backward == "ordinary"
    assert (Cell(TASK).rank, Cell(TASK).steps, Cell("movie-reviews").rank) == (4, 1050, 8)
    plain = Cell(TASK, "fp32", masters="pair")
    assert plain.masters == "float" and not plain.scaling


def test_every_group_asks_one_question():
    for name in GROUPS:
        cells = cells_of(name, TASK, 3)
        assert len(set(cells)) == len(cells) >= 4 and {cell.seed for cell in cells} == {3}
    # The exact run, and every mode of the softmax with every form of its backward pass.
    assert len(cells_of("backward", TASK, 0)) == 1 + 4 * len(SOFTMAX_MODES)
    both = {(cell.fmt, cell.softmax) for cell in cells_of("formats", TASK, 0)}
    assert {(fmt, mode) for fmt in ("posit8", "posit8es2", "fp8")
            for mode in ("pwl", "approx_shifted")} < both
    assert len(cells_of("formats", "movie-reviews", 0)) == 5
    for name in ("backward", "masters", "rank"):
        short = cells_of(name, "movie-reviews", 0)
        assert {(cell.steps, cell.batch) for cell in short} == {(58, 16)}
    assert (Cell("movie-reviews").steps, Cell("movie-reviews").batch) == (466, 32)


@pytest.mark.parametrize("changes, message", [
    ({"task": "mnist"}, "task must be one of .*, not 'mnist'"),
    ({"fmt": "int3"}, "format must be one of .*, not 'int3'"),
    ({"softmax": "exact"}, "softmax must be one of .*, not 'exact'"),
    ({"backward": "eq4"}, "backward must be one of ordinary, centred, eq5, eq5_max, not 'eq4'"),
    ({"masters": "fp32"}, "masters must be one of float, single, pair, not 'fp32'")])
def test_other_cells_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Cell(**{"task": TASK} | changes)


def test_a_run_is_made_once(build, images, capsys, monkeypatch):
    monkeypatch.setitem(GROUPS, "backward", lambda task: iter(
        [replace(Cell(task, fmt), steps=20, batch=16) for fmt in ("fp32", "posit8")]))
    path = build / "study.json"
    assert command.main(["backward", "--task", TASK, "--seeds", "1", "-o", str(path)]) == 0
    first = capsys.readouterr().out
    assert "2 runs, 0 of them made before" in first and "2 of 2: " in first
    entries = json.loads(path.read_text())["parts"][0]["entries"]
    assert [entry["cell"]["fmt"] for entry in entries] == ["fp32", "posit8"]
    assert entries[1]["cosine"] > 0.9 and "cosine" not in entries[0]
    assert entries[0]["last_losses"][0] < 6 and entries[0]["failed"] == 0
    assert command.main(["backward", "--task", TASK, "--seeds", "1"]) == 0
    assert "2 runs, 2 of them made before" in capsys.readouterr().out
    monkeypatch.setattr(measure, "sources", lambda: "others")
    assert measure.kept(replace(Cell(TASK, "posit8"), steps=20, batch=16)) is None
    assert measure.kept(replace(Cell(TASK, "posit8"), steps=20, batch=16), True) is not None


def test_a_run_that_ends_early_says_so(build, images):
    cell = replace(Cell(TASK, "fp32"), steps=8, batch=16, rate=1e30)
    result = measure.measure(cell)
    assert "loss" in result["failed"] and result["last_loss"] > 0
    text = table(summaries([(cell, result)]))
    assert "1 (1 ended early)" in text


def test_tables_show_what_differs():
    def result(accuracy):
        return {"accuracy": accuracy, "last_loss": 0.5, "failed": None, "seconds": 1.0,
                "sources": "own", "cosine": 0.9, "worst_cosine": 0.8, "leak": 0.01,
                "curve": [1.0, accuracy]}

    cells = [Cell(TASK, seed=seed, backward=form) for form in ("eq5", "centred")
             for seed in range(3)]
    entries = summaries([(cell, result(0.1 * index)) for index, cell in enumerate(cells)])
    assert [entry["seeds"] for entry in entries] == [3, 3]
    assert entries[0]["accuracies"] == pytest.approx([0, 0.1, 0.2])
    lines = table(entries).splitlines()
    assert "softmax approx_shifted" in lines[0] and "backward" not in lines[0]
    assert lines[2].startswith("| backward | seeds") and len(lines) == 6
    assert "0.1000 ± 0.0816 | 0.0000" in lines[4]


def test_curves_are_compared_with_the_exact_run_of_their_seed():
    def result(*curve):
        return {"accuracy": 0.5, "last_loss": 0.5, "failed": None, "seconds": 1.0, "sources": "own",
                "cosine": 0.9, "worst_cosine": 0.8, "leak": 0.01, "curve": list(curve)}

    plain, own = (lambda seed: Cell(TASK, "fp32", seed=seed)), (lambda seed: Cell(TASK, seed=seed))
    results = [(plain(0), result(2.0, 1.0)), (own(0), result(2.1, 1.0)),
               (plain(1), result(3.0, 1.0)), (own(1), result(3.0, 1.25))]
    exact, entry = summaries(results)
    assert entry["from_fp32"] == 0.25 and "from_fp32" not in exact
    assert "| 0.250 |" in table([exact, entry])
    # An exact run of other updates or another seed is none.
    for other in (replace(plain(0), steps=7), plain(5)):
        _, entry = summaries([(other, result(2.0, 1.0)), (own(0), result(2.1, 1.0))])
        assert "from_fp32" not in entry


def test_what_has_more_runs_in_an_earlier_file_is_taken_from_it(tmp_path):
    def result(accuracy, sources):
        return {"accuracy": accuracy, "last_loss": 0.5, "failed": None, "seconds": 1.0,
                "sources": sources, "cosine": 0.9, "worst_cosine": 0.8, "leak": 0.01,
                "curve": [1.0]}

    every = cells_of("backward", TASK, 0)
    old = summaries([(replace(cell, seed=seed), result(0.1, "old")) for cell in every[:3]
                     for seed in range(2)])
    for entry in old:
        del entry["sources"]
    gone = {"cell": {"task": TASK, "fmt": "posit8", "steps": 7}, "seeds": 9}
    path = tmp_path / "study.json"
    path.write_text(json.dumps({"sources": ["old"], "parts": [
        {"group": "backward", "task": TASK, "entries": [gone, *old]}]}))
    own = summaries([(every[2], result(0.2, "own"))]
                    + [(replace(every[1], seed=seed), result(0.3, "own")) for seed in range(2)]
                    + [(every[5], result(0.4, "own"))])
    found = completed(own, "backward", TASK, earlier(path))
    assert [(entry["accuracy"], entry["sources"]) for entry in found] == [
        (pytest.approx(accuracy), [sources]) for accuracy, sources in (
            (0.1, "old"), (0.3, "own"), (0.1, "old"), (0.4, "own"))]
    assert completed(own, "backward", "digits-transposed", earlier(path)) == []


@pytest.mark.parametrize("content", [None, "", "[]", '{"parts": 3}', '{"parts": [{"group": 1}]}'])
def test_another_file_is_no_earlier_study(content, tmp_path, capsys):
    path = tmp_path / "other.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SystemExit) as ended:
        command.main(["backward", "--report", "--earlier", str(path)])
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and "earlier must be" in error


@pytest.mark.parametrize("arguments, message", [
    (["speed"], "group must be one of backward, formats, .*, not 'speed'"),
    (["--task", "mnist"], f"task must be one of {', '.join(STUDY_TASKS)}, not 'mnist'"),
    (["--seeds", "0"], "seeds must be at least 1, not 0")])
def test_wrong_arguments_are_one_line_and_exit_code_2(arguments, message, capsys):
    import re
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.count("\n") == 1 and re.search(message, error)
