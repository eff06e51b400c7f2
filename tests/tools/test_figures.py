"""Figures of the pages are those of docs/figures.json, and those are what their commands print."""

import json

import pytest

from sim.campaigns import softmax_rate, throughput
from sim.campaigns.softmax_rate import Rate
from sim.campaigns.throughput import Measurement
from sim.cycles.bound import Bound
from tools import figures
from tools.figure_sources import SOURCES, Source
from tools.figures import main, pages, quoted

PAGE = """# A page

`python -m trial.run` takes <!-- = trial.cycles -->1<!-- / --> cycles.

| a | b |
|---|---|
| x | <!-- = trial.use -->old<!-- / --> |

<!-- = trial.report -->

    old

<!-- / -->

The end.
"""
FILE = {"trial": {"command": "python -m trial.run --option 1", "values": {
    "cycles": "6,598", "use": "73.7 %", "report": ["    first", "    second"]}}}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A page, its figures, and a source that prints what ``printed`` says."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("# Nothing\n")
    (tmp_path / "docs/page.md").write_text(PAGE)
    (tmp_path / "docs/figures.json").write_text(json.dumps(FILE))
    source = Source(FILE["trial"]["command"], lambda output: json.loads(output))
    monkeypatch.setattr(figures, "SOURCES", {"trial": source})
    monkeypatch.setattr(figures, "measured", lambda source: dict(FILE["trial"]["values"]))
    return tmp_path


def text(tree):
    return (tree / "docs/page.md").read_text()


def test_the_pages_are_those_of_the_file(capsys):
    assert main(["--check"]) == 0, capsys.readouterr().out


def test_cheap_figures_are_what_their_commands_print(capsys):
    assert main(["--check", "cheap"]) == 0, capsys.readouterr().out
    assert "run again, 0 differ" in capsys.readouterr().out


@pytest.mark.slow
def test_all_figures_are_what_their_commands_print(capsys):
    assert main(["--check", "all"]) == 0, capsys.readouterr().out


def test_marked_text_alone_is_rewritten(tree):
    assert main([], tree) == 0
    written = PAGE.replace("-->1<", "-->6,598<").replace("-->old<", "-->73.7 %<")
    assert text(tree) == written.replace("    old\n", "    first\n    second\n")
    assert main(["--check"], tree) == 0


def test_a_page_that_differs_is_told_and_left_alone(tree, capsys):
    assert main(["--check"], tree) == 1
    assert "docs/page.md differs from docs/figures.json" in capsys.readouterr().out
    assert text(tree) == PAGE


def test_a_command_that_prints_something_else_is_told(tree, monkeypatch, capsys):
    assert main([], tree) == 0
    values = FILE["trial"]["values"] | {"cycles": "7,000"}
    monkeypatch.setattr(figures, "measured", lambda source: values)
    assert main(["--check"], tree) == 0
    assert main(["--check", "tri*"], tree) == 1
    assert "trial.cycles is '7,000', in the file '6,598'" in capsys.readouterr().out
    assert main(["--renew", "trial"], tree) == 0
    assert "takes <!-- = trial.cycles -->7,000<!-- / --> cycles" in text(tree)


@pytest.mark.parametrize("old, new, message", [
    ("trial.use", "trial.none", "a mark must name a figure of docs/figures.json and be closed, "
     "not 'trial.none'"),
    ("old<!-- / -->", "old", "a mark must name a figure of docs/figures.json and be closed"),
    ("python -m trial.run", "python -m other",
     "page.md must name the command of trial.cycles, 'python -m trial.run'")])
def test_a_wrong_mark_is_one_line(tree, capsys, old, new, message):
    (tree / "docs/page.md").write_text(PAGE.replace(old, new))
    with pytest.raises(SystemExit) as stopped:
        main(["--check"], tree)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1


def test_an_unknown_source_is_one_line(tree, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--check", "frob"], tree)
    assert stopped.value.code == 2
    assert ("NAMES must select sources of trial, or those with '-*' after them, not 'frob'"
            in capsys.readouterr().err)


def test_a_failing_command_is_one_line_and_changes_nothing(tree, capsys, monkeypatch):
    def fails(source):
        raise RuntimeError(f"{source.command}: exit code 1: no such thing")

    monkeypatch.setattr(figures, "measured", fails)
    with pytest.raises(SystemExit):
        main(["--renew", "trial"], tree)
    assert "exit code 1: no such thing" in capsys.readouterr().err
    assert text(tree) == PAGE and json.loads((tree / "docs/figures.json").read_text()) == FILE


def test_a_source_that_nobody_quotes_is_told(tree, capsys):
    (tree / "docs/page.md").write_text("# Nothing\n")
    assert main(["--check"], tree) == 1
    assert "trial is quoted by no page" in capsys.readouterr().out


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_refuses_other_output(name):
    with pytest.raises(ValueError):
        SOURCES[name].values("nothing of the kind\n")


def test_figures_of_throughput_are_those_of_its_tables():
    bound = Bound(8_000, "array")
    stalls = {"stall_input": 75, "stall_weight": 116, "stall_accumulator": 3}
    told = throughput.table([Measurement(16, 128, 2, 17_000, bound, 16_384, stalls)])
    alone = SOURCES["throughput"].values("\n".join(told))
    both = SOURCES["throughput"].values("\n".join([
        *told, *softmax_rate.table([Rate("fused", 16, 128, 8, 20_480, bound, 2_048)])]))
    assert alone["gemm-128x2"] == "96.4 %" and "softmaxes" not in alone
    assert alone["gemms"][-1] == "| 128 | 2 | 8,500 | 96.4 % | 75 / 116 | 422 |"
    assert both == alone | {"softmax-fused-128x8": "80.0 %", "softmaxes": [
        *both["softmaxes"][:2], "| fused | 128 | 8 | 2,560 | 80.0 % |"]}


def test_every_source_is_quoted():
    assert quoted(figures.ROOT) == set(SOURCES) and len(pages(figures.ROOT)) > 20
