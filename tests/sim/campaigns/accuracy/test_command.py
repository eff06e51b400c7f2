import json
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from compiler.checkpoints import digits
from sim.campaigns.accuracy import command, measure
from sim.campaigns.accuracy.cells import PLAIN, TABLES, Cell, Table
from sim.campaigns.accuracy.chart import Axis, chart
from sim.campaigns.accuracy.draw import drawings
from sim.campaigns.accuracy.measure import measured
from sim.campaigns.accuracy.ranges import digits as kept_digits
from sim.campaigns.accuracy.ranges import range_lines
from sim.verify import arithmetic
from support.require import module, require

KEPT = json.loads((Path(__file__).parents[4] / "docs/accuracy.json").read_text())
CELLS = (Cell("digits", PLAIN, count=8), Cell("digits", count=8), Cell("digits", "e4m3", count=8))


@pytest.fixture
def build(tmp_path, monkeypatch):
    require(digits.images)
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path))
    return tmp_path


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(TABLES, "quick", Table("some images", lambda: iter(CELLS)))


@pytest.mark.parametrize("fmt", ["bf16", "posit8", "e4m3"])
def test_figures_that_are_kept_come_out_again(build, monkeypatch, fmt, tmp_path):
    """Of images, which take a second; of sentences, `make accuracy-quick` sees to that."""
    wanted = [entry for entry in KEPT["quick"] if entry["cell"]["task"] == "digits"
              and entry["cell"].get("fmt", "posit8") in (PLAIN, fmt)]
    assert len(wanted) == 2
    figures = tmp_path / "figures.json"
    cells = [Cell(**entry["cell"]) for entry in wanted]
    monkeypatch.setitem(TABLES, "quick", Table("images", lambda: iter(cells)))
    figures.write_text(json.dumps({"quick": wanted}))
    assert command.main(["quick", "--fresh", "--check", "--jobs", "1",
                         "--figures", str(figures)]) == 0


def test_a_run_goes_on_where_it_was(build, small, capsys, monkeypatch):
    figures = build / "figures.json"
    options = ["quick", "--jobs", "1", "--figures", str(figures)]
    assert command.main([*options, "--write"]) == 0
    first = capsys.readouterr().out
    assert "| posit8 | 1.0000 / 0 / " in first and "3 cells, 24 examples" in first
    parts = list((build / "accuracy").glob("*.npy"))
    assert len(parts) == 3
    made = []
    right = measure.computed
    monkeypatch.setattr(measure, "computed", lambda *part: (made.append(part), right(*part))[1])
    parts[0].unlink()
    assert command.main([*options, "--check"]) == 0
    assert "figures compared: 3 cells, 0 differ" in capsys.readouterr().out
    assert len(made) == 1
    monkeypatch.setattr(measure, "digest_of", lambda names: "others")
    assert command.main([*options, "--check"]) == 0 and len(made) == 4
    assert command.main(["quick", "--report", "--figures", str(figures)]) == 0
    assert "table ranges: " in capsys.readouterr().out and len(made) == 4


def test_another_arithmetic_is_told(build, small, capsys, monkeypatch):
    """The negative control: one ulp of a sum in a hundred."""
    figures = build / "figures.json"
    options = ["quick", "--fresh", "--jobs", "1", "--figures", str(figures)]
    assert command.main([*options, "--write"]) == 0
    capsys.readouterr()
    right = arithmetic.accumulate.product

    def spoiled(config, a, b):
        found = right(config, a, b)
        found.ravel()[::100] *= 1 + 2.0 ** -7
        return found

    monkeypatch.setattr(arithmetic.accumulate, "product", spoiled)
    assert command.main([*options, "--check"]) == 1
    said = capsys.readouterr().out
    assert "figures compared: 3 cells, 2 differ" in said
    assert "quick: digits posit8 acc bf16 fusion residual pwl first 8: {" in said


@pytest.mark.filterwarnings("ignore")  # of a package that is not ours
def test_workers_of_a_scheduler_compute_the_same(build):
    distributed = require(module, "distributed")
    here, told = dict(measured(CELLS)), []
    with distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False,
                                  dashboard_address=None) as cluster:
        there = dict(measured(CELLS, scheduler=cluster.scheduler_address, fresh=True,
                              tell=lambda share, where: told.append(share)))
    assert set(here) == set(there) == set(CELLS)
    assert all((here[cell] == there[cell]).all() for cell in CELLS[1:])
    assert len(told) == 3 and told[-1] == pytest.approx(1)


def test_figures_that_are_none_are_refused(tmp_path, capsys):
    path = tmp_path / "figures.json"
    for text in ("", "[]", '{"quick": [{"cell": {"tusk": 1}}]}', '{"quick": 3}'):
        path.write_text(text)
        with pytest.raises(SystemExit) as stopped:
            command.main(["--report", "--figures", str(path)])
        said = capsys.readouterr()
        assert stopped.value.code == 2 and said.err.count("\n") == 1 and not said.out
        assert "figures must be a file of them" in said.err


def test_digits_that_formats_keep():
    from hdl.spec.formats import format_named

    posit, floats = (kept_digits(format_named(name).encodings[0]) for name in ("posit8", "e4m3"))
    assert len(posit) == 126 and len(floats) == 125
    near = {name: min(own for x, own in found if 1 <= x < 1.1)
            for name, found in (("posit8", posit), ("e4m3", floats))}
    # 1 to 1 + 2^-4 and to 1 + 2^-3: half a step is lost at most.
    assert near["posit8"] == pytest.approx(-np.log10(np.log10(1 + 2.0 ** -5)))
    assert near["e4m3"] == pytest.approx(-np.log10(np.log10(1 + 2.0 ** -4)))
    _, _, *rows = range_lines()
    assert [row.split(" | ")[0] for row in rows[:2]] == ["| posit8es0", "| posit8"]


def test_a_chart_is_well_formed_and_has_every_point():
    text = chart("1 < 2", Axis("levels", ("none", "all")), Axis("error", log=True),
                 {"a & b": [(0, 0.01), (1, 0.1)], "c": [(0, 0.02), (1, 0.02)]})
    tree = ElementTree.fromstring(text)
    assert sum(item.tag.endswith("circle") for item in tree.iter()) == 4
    texts = {item.text for item in tree.iter() if item.tag.endswith("text")}
    assert {"1 < 2", "a & b", "c", "none", "all"} <= texts


def test_a_chart_tells_many_series_apart_and_cuts_no_name_off():
    names = [f"a build of many options, number {number}" for number in range(20)]
    text = chart("many", Axis("magnitude", log=True), Axis("error"),
                 {name: [(1e-9, number), (1e9, number)] for number, name in enumerate(names)})
    tree = ElementTree.fromstring(text)
    drawn = [(item.get("stroke"), item.get("stroke-dasharray")) for item in tree.iter()
             if item.tag.endswith("polyline")]
    assert len(set(drawn)) == 20 and len(drawn) == 40  # the second of each in the legend
    words = [item for item in tree.iter() if item.tag.endswith("text")]
    assert all(float(item.get("x")) + 7 * len(names[0]) < float(tree.get("width"))
               for item in words if item.text in names)
    marks = sorted(float(item.get("x")) for item in words
                   if item.get("text-anchor") == "middle" and item.text.startswith("1e"))
    assert len(marks) > 3 and all(b - a > 40 for a, b in pairwise(marks))


def test_drawings_are_of_the_figures_that_are_kept(tmp_path):
    from sim.campaigns.accuracy.tasks import TASKS

    docs = Path(__file__).parents[4] / "docs"
    record = json.loads((docs / "accuracy.json").read_text(encoding="utf-8"))
    found = drawings(record, {name: title for name, (title, _) in TASKS.items()})
    assert len(found) == 3
    for name, drawing in found.items():
        assert (docs / f"accuracy-{name}.svg").read_text(encoding="utf-8") == drawing, name
