"""Kept areas and delays: those of the builds as they are, and what moves from them is told."""

import json

import pytest

from synth.flow import Flow, Mapped
from synth.hierarchy import Unit
from synth.library import library_named
from tools import history
from tools.history import BUILDS, FOLDER, LIMIT, Row, State, main, measured, rows_of

TINY = ("shifter", "banks")  # mapped in a second
FIRST = {"reader": ("reader", 1000.0, 10.0), "drain": ("drain", 500.0, 5.0)}


@pytest.mark.first
def test_nothing_has_grown_unexplained(capsys):
    assert main(["--quiet"]) == 0, capsys.readouterr().out
    assert f"history: {len(BUILDS)} builds, " in capsys.readouterr().out


@pytest.mark.slow
def test_every_row_is_as_the_file_says(capsys):
    assert main(["--quiet", "--anew"]) == 0, capsys.readouterr().out


def test_small_rows_are_mapped_as_the_file_says():
    flow = Flow(library_named("ottava"))
    every = rows_of(BUILDS["posit8"])
    kept = json.loads((FOLDER / "posit8.json").read_text())
    for row, state in measured(flow, {row: every[row] for row in TINY}).items():
        now = kept[row]["now"]
        if every[row].text(flow) == now["text"]:
            assert state == State(now["gates"], now["ns"])
        assert state.gates <= (1 + LIMIT) * kept[row]["states"][-1]["gates"]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """The command on one build of rows with text, gates and ns; exit code and lines."""
    def go(rows, *arguments):
        figures = {text: (gates, ns) for text, gates, ns in rows.values()}

        def map_unit(flow, unit, script):
            assert script == "clock"
            gates, ns = figures[unit.text]
            return Mapped(unit.name, 1, gates / 2, 0.0, ns)

        monkeypatch.setattr(history, "BUILDS", {"small": BUILDS["posit8"]})
        monkeypatch.setattr(history, "rows_of", lambda config: {
            row: Row({Unit(f"{row}_unit", text): 2}) for row, (text, _, _) in rows.items()})
        monkeypatch.setattr(Flow, "map_unit", map_unit)
        try:
            code = main(["--quiet", *arguments], tmp_path)
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr()
        return code, (said.out or said.err).splitlines()

    assert go(FIRST)[0] == 1  # new, and in no file
    assert go(FIRST, "--renew")[0] == 2 and not list(tmp_path.iterdir())
    assert go(FIRST, "--renew", "--because", "first")[0] == 0
    return go


@pytest.fixture
def kept(tmp_path):
    return lambda row: json.loads((tmp_path / "small.json").read_text())[row]


def test_what_has_not_changed_is_not_mapped(run):
    assert run(FIRST) == (0, ["history: 1 builds, 2 rows, 0 mapped, 0 beyond what is explained"])


def test_small_steps_are_compared_with_what_was_explained(run, kept):
    one, two = FIRST | {"reader": ("one", 1020.0, 10.2)}, FIRST | {"reader": ("two", 1040.0, 10.2)}
    assert run(one) == (0, ["history: 1 builds, 2 rows, 1 mapped, 0 beyond what is explained"])
    assert run(one, "--renew")[0] == 0 and run(one)[1][-1].split(", ")[2] == "0 mapped"
    assert [state["gates"] for state in kept("reader")["states"]] == [1000.0]
    code, lines = run(two)
    assert code == 1 and lines[0].startswith(
        "small reader: 1,000.0 -> 1,040.0 gate-equivalents (+4.0%): explain it by ")
    before = kept("reader")
    code, lines = run(two, "--renew")
    assert code == 2 and "--because must say why small reader: 1,000.0 -> 1,040.0" in lines[0]
    assert kept("reader") == before
    assert run(two, "--renew", "--because", "wider")[0] == 0 and run(two)[0] == 0
    assert kept("reader")["states"] == [
        {"gates": 1000.0, "ns": 10.0, "because": "first"},
        {"gates": 1040.0, "ns": 10.2, "because": "wider"}]
    assert len(kept("drain")["states"]) == 1


@pytest.mark.parametrize("rows, told", [
    (FIRST | {"drain": ("longer", 500.0, 5.2)}, "small drain: 5.0 -> 5.2 ns (+4.0%)"),
    (FIRST | {"third": ("third", 7.0, 1.0)}, "small third: new, 7.0 gate-equivalents, 1.0 ns"),
    ({"reader": FIRST["reader"]}, "small drain: gone")])
def test_what_needs_a_reason(run, rows, told):
    code, lines = run(rows)
    assert code == 1 and lines[0].startswith(f"{told}: explain it by ")
    assert run(rows, "--renew", "--because", "so it is")[0] == 0 and run(rows)[0] == 0


def test_what_became_smaller_is_right_and_is_kept_with_its_reason(run, kept):
    less = FIRST | {"reader": ("less", 900.0, 10.0)}
    assert run(less)[0] == 0 and run(less, "--renew")[0] == 2
    assert run(less, "--renew", "--because", "one adder")[0] == 0
    code, lines = run(FIRST)
    assert code == 1 and "900.0 -> 1,000.0 gate-equivalents (+11.1%)" in lines[0]


def test_a_file_that_says_something_else_is_found_by_mapping_anew(run):
    other = {row: (text, gates + 1, ns) for row, (text, gates, ns) in FIRST.items()}
    assert run(FIRST, "--anew")[0] == 0 and run(other)[0] == 0
    code, lines = run(other, "--anew")
    assert code == 1 and lines[-1] == (
        "history: 1 builds, 2 rows, 2 mapped, 2 beyond what is explained")


@pytest.mark.parametrize("arguments", [("--because", "x"), ("--renew", "--because", " "),
                                       ("--renew", "--anew")])
def test_wrong_arguments_are_one_line(run, arguments):
    code, lines = run(FIRST, *arguments)
    assert code == 2 and len(lines) == 1
