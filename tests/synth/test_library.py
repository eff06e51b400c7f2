"""The project's own cells, and how libraries are found."""

import itertools
from pathlib import Path

import pytest

import synth.library
from synth.cells import CELLS, liberty
from synth.library import Library, LibraryMissing, library_named

TRUTH = {
    "INV": lambda a: not a, "BUF": lambda a: a,
    "NAND2": lambda a, b: not (a and b), "NAND3": lambda a, b, c: not (a and b and c),
    "NAND4": lambda a, b, c, d: not (a and b and c and d),
    "NOR2": lambda a, b: not (a or b), "NOR3": lambda a, b, c: not (a or b or c),
    "AND2": lambda a, b: a and b, "OR2": lambda a, b: a or b,
    "AOI21": lambda a, b, c: not ((a and b) or c),
    "AOI22": lambda a, b, c, d: not ((a and b) or (c and d)),
    "OAI21": lambda a, b, c: not ((a or b) and c),
    "OAI22": lambda a, b, c, d: not ((a or b) and (c or d)),
    "MUX2": lambda a, b, s: b if s else a,
    "XOR2": lambda a, b: a != b, "XNOR2": lambda a, b: a == b,
}


def evaluate(function, values):
    text = function.replace("!", " not ").replace("*", " and ").replace("+", " or ")
    return bool(eval(text, {}, values))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_function_is_what_the_name_says(cell):
    for values in itertools.product((False, True), repeat=len(cell.inputs)):
        expected = bool(TRUTH[cell.name](*values))
        assert evaluate(cell.function, dict(zip(cell.inputs, values, strict=True))) == expected


def test_file_is_what_the_table_makes():
    assert Path(library_named().path).read_text() == liberty()


def test_nand2_is_one_gate_equivalent():
    assert library_named().nand2 == ("NAND2", 1.0)


def test_smallest_nand2_of_another_library_counts(tmp_path):
    path = tmp_path / "other.lib"
    path.write_text('library(x) { cell (NAND2X2) { area : 9; }\ncell ("NAND2X1") {\narea : 6;}\n'
                    "cell(AND2X1) { area : 1; } cell(BAND2) { area : 2; } }")
    assert library_named(liberty=str(path)).nand2 == ("NAND2X1", 6.0)


def test_digest_follows_the_text(tmp_path):
    one, two = tmp_path / "one.lib", tmp_path / "two.lib"
    one.write_text("a"), two.write_text("b")
    assert Library("x", one).digest != Library("x", two).digest


def test_errors_name_the_value(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"^library must be one of ottava, osu018, not 'sky130'$"):
        library_named("sky130")
    with pytest.raises(ValueError, match=r"^liberty must be a Liberty file, not '/none/such'$"):
        library_named(liberty="/none/such")
    empty = tmp_path / "empty.lib"
    empty.write_text("library(x) { }")
    with pytest.raises(ValueError, match=r"whose name holds NAND2, not .*empty\.lib$"):
        library_named(liberty=str(empty))
    monkeypatch.setattr(synth.library, "OSU018_FOLDERS", ())
    with pytest.raises(LibraryMissing, match=r"^library osu018 is not here: `make setup`"):
        library_named("osu018")
