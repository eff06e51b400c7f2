"""Sweeps: which builds, what is kept of them, the frontier; the page's script in an engine."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hdl.spec.surroundings import Surroundings
from support.require import module, require
from synth import sweep, sweep_cells
from synth.flow import Flow, Mapped
from synth.fpga import Placed
from synth.sweep_cells import AREA_ALONE, Cell, cells, frontier

ROOT = Path(__file__).resolve().parents[2]


def cell(fmt="posit8", dim=4, period=AREA_ALONE, target="asic"):
    return Cell(fmt, dim, 4, "bf16", "pwl", "softmax", period, target, "ottava")


def result(area, gmacs, **more):
    return {"area": float(area), "gmacs": gmacs, "ns": 10.0, "period": 10.0, "meets": True,
            "slowest": "a<b", **more}


def test_every_build_is_one_cell():
    found, refused = cells(["posit8", "bf16"], [4, 8], [None, 4, 8], ["bf16", "fp32"],
                           [AREA_ALONE, 12.5], ["asic"], None, "softmax", "ottava")
    # posit8: two accumulators, D = 4 with L = 4 (twice, and 8 refused), D = 8 with 8, 4.
    assert {(one.fmt, one.acc, one.dim, one.lanes) for one in found} == {
        *(("posit8", acc, dim, lanes) for acc in ("bf16", "fp32")
          for dim, lanes in ((4, 4), (8, 4), (8, 8))),
        *(("bf16", "fp32", dim, lanes) for dim, lanes in ((4, 4), (8, 4), (8, 8)))}
    assert len(found) == 2 * 9 and len({one.key for one in found}) == len(found)
    assert refused == 2 * 3 + 3  # bf16 with sums in bf16; of all else L = 8 of D = 4
    assert {one.softmax for one in found} == {"approx_shifted", "pwl"}


def test_what_is_all_refused_is_an_error():
    with pytest.raises(ValueError, match=r"^lanes must be .* not 8$"):
        cells(["posit8"], [4], [8], [None], [AREA_ALONE], ["asic"], None, "softmax", "ottava")


def test_a_build_for_an_fpga_is_what_the_target_makes_usual(monkeypatch):
    found, _ = cells(["posit8"], [4], [None], [None, "bf16"], [AREA_ALONE], ["asic", "fpga"], None,
                     "softmax", "ottava")
    assert [(one.target, one.acc, one.config.pe_latency, one.library) for one in found] == [
        ("asic", "bf16", 1, "ottava"), ("fpga", "exact", 3, ""), ("fpga", "bf16", 2, "")]

    def designed(config, sram, surroundings):
        assert (config, sram) == (found[1].config, "uncollided")
        assert surroundings == Surroundings(target="fpga", address_bits=32)
        return "text"

    def placed(made, period_ns):
        assert (made, period_ns) == ("text", 10.0)
        cells = {"TRELLIS_COMB": (900, 1000), "TRELLIS_FF": (70, 1000), "DP16KD": (3, 10),
                 "MULT18X18D": (2, 10)}
        return Placed(cells, 20, 40.0, [("logic", 25.0, "build.core.a_TRELLIS_FF_Q"),
                                        ("setup", 0.0, "build.core.b_LUT4_Z")])

    monkeypatch.setattr(sweep_cells, "design", designed)
    monkeypatch.setattr(sweep_cells, "place", placed)
    assert sweep_cells._result(found[1], 1) == (found[1], {
        "luts": 900, "registers": 50, "block_rams": 3, "multipliers": 2, "area": 900.0,
        "ns": 25.0, "slowest": "core.a", "period": 25.0, "meets": True, "gmacs": 16 / 25})


def test_a_library_that_changed_is_another_one(tmp_path):
    path = tmp_path / "own.lib"
    keys = set()
    for area in (1, 2):
        path.write_text(f"cell(NAND2) {{ area : {area}; }}")
        sweep_cells._library.cache_clear()
        keys.add(replace(cell(), library=str(path)).key)
    assert len(keys) == 2


def test_the_frontier_is_of_each_target():
    small, fast, beaten, equal = cell(), cell(dim=8), cell("fp8"), cell("e4m3")
    other = cell("bf16", target="fpga")
    results = {small: result(10, 1.0), fast: result(40, 4.0), beaten: result(41, 4.0),
               equal: result(10, 1.0), other: result(99, 0.1)}
    assert frontier(results) == {small, fast, equal, other}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs the command without any tool: an area of D and the format's length; tells which cells
    were measured."""
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path / "build"))
    asked = []

    def measured(one, jobs):
        asked.append(one)
        return one, result(one.dim ** 2 * len(one.fmt), one.dim ** 2 / 10, memory_bits=64)

    monkeypatch.setattr(sweep_cells, "_result", measured)

    def go(*arguments):
        asked.clear()
        code = sweep.main(["--jobs", "1", "--quiet", "-o", str(tmp_path / "page.html"), *arguments])
        return code, list(asked)

    return go


def test_a_sweep_goes_on_where_it_was(run, tmp_path, monkeypatch, capsys):
    assert len(run("--dim", "4", "--fmt", "posit8", "fp8")[1]) == 2
    code, asked = run("--dim", "4", "8", "--fmt", "posit8", "fp8")
    assert code == 0 and [one.dim for one in asked] == [8, 8]
    assert run("--dim", "4", "8", "--fmt", "posit8", "fp8")[1] == []
    assert len(run("--dim", "4", "--fresh", "--fmt", "posit8", "fp8")[1]) == 2
    monkeypatch.setattr(sweep_cells, "digest_of", lambda names: "other sources")
    assert len(run("--dim", "4", "--fmt", "posit8", "fp8")[1]) == 2
    text = capsys.readouterr().out
    assert re.search(r"^\* asic   fp8 .* 48 +64  a<b$", text, re.M)
    assert re.search(r"^  asic   posit8 .* 96 +64  a<b$", text, re.M)
    rows = json.loads((tmp_path / "page.json").read_text())
    assert [(row["fmt"], row["best"]) for row in rows] == [("fp8", True), ("posit8", False)]


def test_the_page_is_one_file(run, tmp_path):
    run("--dim", "4", "8", "--fmt", "posit8", "fp8", "bf16")
    page = (tmp_path / "page.html").read_text()
    assert not re.search(r"(?:src|href)=|https?://(?!www\.w3\.org/2000/svg)|@import|fetch\(", page)
    data = json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', page,
                                re.DOTALL)[1])
    assert len(data["rows"]) == 6 and data["about"].startswith("6 builds, ")
    assert "<" not in json.dumps(data["columns"]) and "a<b" in {row["slowest"]
                                                              for row in data["rows"]}


def test_what_a_build_is_measured_by(monkeypatch):
    """A whole build, each byte of whose units is a gate, a PE's path the longest."""
    asked = []

    def mapped(flow, unit, script):
        asked.append((script, flow.period_ns, flow.jobs))
        return Mapped(unit.name, 1, len(unit.text), 0, 8.0 if unit.name.startswith("pe_") else 2.0)

    monkeypatch.setattr(Flow, "map_unit", mapped)
    slow, fast = (sweep_cells._result(cell(period=period), 3) for period in (5.0, 20.0))
    assert slow[0] == cell(period=5.0) and set(asked) == {("timed", 4.5, 3), ("timed", 19.5, 3)}
    found = fast[1]
    assert found["pes"] % 16 == 0 and found["lanes_gates"] % 4 == 0
    assert found["gates"] > found["pes"] + found["lanes_gates"] > 0
    assert found["area"] == pytest.approx(found["gates"] + 0.3 * found["memory_bits"])
    assert (found["ns"], found["slowest"][:3]) == (8.5, "pe_")
    assert (found["meets"], found["gmacs"]) == (True, 16 / 20)
    assert (slow[1]["meets"], slow[1]["gmacs"]) == (False, pytest.approx(16 / 8.5))


# ---- the script

ROWS = [{"target": "asic", "fmt": fmt, "acc": "bf16", "dim": dim, "lanes": 4, "period": 10.0,
         "area": float(dim * dim * size), "gmacs": dim * dim / time, "slowest": "a<b"}
        for fmt, size, time in (("posit8", 11, 10), ("fp8", 10, 9), ("bf16", 30, 20))
        for dim in (4, 8, 16)]
ROWS.append({**ROWS[0], "target": "fpga", "area": 9000.0, "luts": 9000})
COLUMNS = [{"name": "fmt", "title": "format", "text": True}, {"name": "area", "title": "area"},
           {"name": "luts", "title": "LUTs"}, {"name": "slowest", "title": "slowest", "text": True}]


@pytest.fixture(scope="module")
def script():
    """Calls a function of the page with JSON."""
    racer = require(module, "py_mini_racer")
    text = sweep.page([], "")
    engine = racer.MiniRacer()
    engine.eval(re.findall(r"<script>(.*?)</script>", text, re.DOTALL)[0])
    engine.eval(f"var rows = {json.dumps(ROWS)}, columns = {json.dumps(COLUMNS)};")
    return lambda expression: json.loads(engine.eval(f"JSON.stringify({expression})"))


def test_rows_are_filtered(script):
    assert script("filtered(rows, {})") == ROWS
    assert script('filtered(rows, {fmt: ["fp8", "bf16"], dim: ["8"]})') == [
        row for row in ROWS if row["fmt"] != "posit8" and row["dim"] == 8]
    assert script('filtered(rows, {fmt: [], target: ["fpga"]})') == ROWS[-1:]
    assert script('filtered(rows, {fmt: ["int8"]})') == []


def test_rows_are_sorted(script):
    assert script('sorted(rows, "area", false)') == sorted(ROWS, key=lambda row: row["area"])
    assert [row["fmt"] for row in script('sorted(rows, "fmt", true)')] == sorted(
        (row["fmt"] for row in ROWS), reverse=True)
    assert script('sorted(rows, "luts", false)')[0] == ROWS[-1]  # what lacks it comes last


def test_the_pages_frontier_is_the_commands(script):
    results = {cell(row["fmt"], row["dim"], target=row["target"]): row for row in ROWS}
    best = frontier(results)
    assert script("frontier(rows)") == [row for one, row in results.items() if one in best]
    assert 1 < len(best) < len(ROWS)


def test_what_is_drawn_is_sound(script):
    table = script('body(rows, columns, frontier(rows))')
    assert table.count("<tr") == len(ROWS) and "a&lt;b" in table and "a<b" not in table
    assert table.count('class="best"') == len(script("frontier(rows)"))
    assert script('head(columns, "area", true)').count("aria-sort=\"descending\"") == 1
    drawing = script('plot(rows, frontier(rows), "asic")')
    dots = [(float(x), float(y)) for x, y in re.findall(
        r'<circle cx="([\d.]+)" cy="([\d.]+)" r="[46]" fill="[^"]+"><title>', drawing)]
    assert len(dots) == len(ROWS) - 1 and "NaN" not in drawing
    assert all(70 <= x <= 620 and 30 <= y <= 350 for x, y in dots)
    # Larger is further right, faster further up.
    asic = ROWS[:-1]
    assert [x for x, _ in sorted(dots)] == [x for _, (x, _) in sorted(
        zip([row["area"] for row in asic], dots, strict=True))]
    assert sorted(range(9), key=lambda i: -dots[i][1]) == sorted(
        range(9), key=lambda i: asic[i]["gmacs"])
    assert script('plot(rows, [], "elsewhere")') == ""


@pytest.mark.slow
def test_a_build_is_measured(tmp_path, monkeypatch):
    """By the project's own cells."""
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path))
    done = subprocess.run([sys.executable, "-m", "gen.ottava", "sweep", "--fmt", "posit8", "--dim",
                           "4", "--quiet"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    row, = json.loads((tmp_path / "sweep.json").read_text())
    assert row["best"] and 100_000 < row["gates"] < 300_000 and row["memory_bits"] > 100_000
    assert row["area"] == pytest.approx(row["gates"] + 0.3 * row["memory_bits"])
    assert row["gmacs"] == pytest.approx(16 / row["ns"])
