"""The committed vectors: what the models give, whole, and able to show a changed definition."""

import json
from collections import Counter
from dataclasses import replace

import pytest

from hdl.spec.config import SOFTMAX_MODES, AcceleratorConfig, accumulators
from hdl.spec.formats import FORMATS, POSIT8
from tools import golden
from tools.vectors import lanes as lane_vectors
from tools.vectors import operands
from tools.vectors.every import RESULTS, UNITS, again, different, draw
from tools.vectors.store import FOLDER, Group, load, number, save, value, word


@pytest.mark.parametrize("unit", UNITS)
def test_models_give_what_is_committed(unit):
    file = load(unit)
    wrong = list(different(unit, file))
    assert not wrong, "\n".join(wrong[:5])
    cases = sum(len(group.cases) for group in file.groups)
    print(f"{unit}: {cases} cases in {len(file.groups)} groups")
    assert cases >= 200
    width = 1 + len(file.fields)
    for group in file.groups:
        assert all(len(case) == width for case in group.cases)
        assert len(group.cases) >= {"rows": 20, "gemm": 8}.get(unit, 170), str(group)


def test_files_are_these_units_and_the_readme_tells_of_each():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(UNITS)
    text = (FOLDER / "README.md").read_text()
    for unit in UNITS:
        assert f"`{unit}`" in text
    for fmt in FORMATS.values():
        if fmt.storage_bits == 8:
            acc = "int32" if fmt.integer else "exact"
            bits = AcceleratorConfig(fmt.name, acc=acc, dim=4).acc_bits
            assert f"{bits} " in text.split("Widths are")[1].split(".\n")[0]


def test_every_format_accumulator_and_mode_has_its_cases():
    macs = {(group.choice["format"], group.choice["accumulator"]) for group in load("mac").groups}
    gemms = {(group.choice["format"], group.choice["accumulator"])
             for group in load("gemm").groups}
    assert gemms == {(name, acc) for name, fmt in FORMATS.items() for acc in accumulators(fmt)}
    assert macs == {(name, acc) for name, acc in gemms if acc != "fused"}
    encodings = {encoding.name for fmt in FORMATS.values() for encoding in fmt.encodings}
    assert {group.choice["encoding"] for group in load("decoder").groups} == encodings
    assert {group.choice["encoding"] for group in load("encoder").groups} == encodings
    modes = {(group.choice["lane"], group.choice.get("softmax")) for group in load("exp").groups}
    assert modes == {(lane, mode) for lane in ("bf16", "fp32") for mode in SOFTMAX_MODES}


def test_classes_are_all_there():
    kinds = {unit: Counter(case[0] for group in load(unit).groups for case in group.cases)
             for unit in UNITS}
    assert min(kinds["mac"][kind] for kind in ("corner", "tie", "cancellation", "NaR")) >= 70
    assert min(kinds["encoder"][kind] for kind in ("special", "boundary", "saturation")) >= 80
    assert min(kinds["rounding"][kind] for kind in ("tie", "NaR", "zero", "largest")) >= 6
    assert {"masked", "all masked", "NaR", "zeros", "cancellation"} <= kinds["rows"].keys()


def test_a_changed_definition_is_found(monkeypatch):
    # Each is a change that models and hardware, reading one definition, would both follow.
    other = replace(POSIT8, flush_log2=-12)
    monkeypatch.setitem(operands.ENCODINGS, "posit8", other)
    assert list(different("encoder")) and not list(different("decoder"))
    monkeypatch.undo()
    monkeypatch.setattr(lane_vectors, "lane_config", lambda choice: AcceleratorConfig(
        lane_vectors.FORMAT[choice["lane"]], dim=4, softmax=choice.get("softmax"),
        exp_epsilon=143))
    found = list(different("exp"))
    assert found and not any(" pwl" in line.split(":")[0] for line in found)


@pytest.mark.parametrize("unit", UNITS)
def test_one_wrong_digit_is_found(unit):
    file = load(unit)
    case = file.groups[-1].cases[3]
    wrong = json.loads(json.dumps(case[-1]).replace("0", "1", 1)) if "0" in json.dumps(
        case[-1]) else "0"
    assert wrong != case[-1]
    case[-1] = wrong
    assert len(list(different(unit, file))) == 1


def test_drawing_again_gives_the_committed_files(tmp_path):
    for unit in ("encoder", "lane", "rows"):
        path = save(draw(unit), tmp_path)
        assert path.read_text() == (FOLDER / path.name).read_text()


def test_words_and_numbers_read_back():
    assert [word(-1, 9), word(5, 8), number("1ff")] == ["1ff", "05", 511]
    for real in (0.0, -0.0, 1.5, -2.0 ** -40, 3.0):
        assert float.fromhex(value(real)).hex() == real.hex()
    assert value(0.375) == "0x1.8p-2" and value(float("nan")) == "nan"
    group = Group({"encoding": "posit8"}, [["x", "40"]])
    assert again("decoder", Group({"encoding": "posit8"}, [["x", "40", ""]])) == [["0x1p+0"]]
    assert group.column(("code",), "code") == ["40"] and RESULTS["gemm"] == 2


def test_the_command_checks_and_refuses(capsys, monkeypatch):
    monkeypatch.setattr(golden, "UNITS", ("rows",))
    assert golden.main(["vectors"]) == 0
    assert capsys.readouterr().out == "1 units, 336 cases, 0 differ from what the models give\n"
    file = load("rows")
    file.groups[0].cases[0][-1] = ["0000"]
    monkeypatch.setattr(golden, "load", lambda unit: file)
    assert golden.main(["vectors"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("differs: rows bf16 maximum: ") and "1 differ" in out
    with pytest.raises(SystemExit) as stopped:
        golden.main(["--renew", "--sample"])
    assert stopped.value.code == 2
