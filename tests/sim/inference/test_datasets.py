import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.checkpoints import load
from compiler.checkpoints.arrays import ArrayError
from compiler.checkpoints.digits import DRAWN
from compiler.checkpoints.samples import bert, llama, vit
from sim.inference.datasets import SetError, read_set
from support.properties import examples


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_tables(tmp_path):
    path = written(tmp_path, "x.csv", '﻿text,label,other\n"good, film",1,x\n\nbad,0,y\n')
    found = read_set(path, bert())
    assert [dict(row.values) for row in found.rows] == [
        {"text": "good, film", "label": "1"}, {"text": "bad", "label": "0"}]
    assert found.rows[1].where.endswith("line 4") and len(found.digest) == 64
    assert len(read_set(path, bert(), limit=1).rows) == 1
    renamed = read_set(path, bert(), {"context": "other"})
    assert renamed.rows[0].values["context"] == "x"


def test_lines(tmp_path):
    rows = [{"text": "Where?", "context": "In Rome.", "answers": {"text": ["Rome"], "start": [3]}},
            {"ids": [1, 2, 3], "label": 2}]
    path = written(tmp_path, "x.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    found = read_set(path, bert())
    assert found.rows[0].texts("answers") == ["Rome"] and found.rows[1].values["ids"] == [1, 2, 3]


def test_arrays(tmp_path):
    np.savez(tmp_path / "ids.npz", ids=np.array([[1, 2], [3, -1]]), labels=np.array([0, 1]))
    found = read_set(tmp_path / "ids.npz", llama())
    assert found.rows[1].values["ids"].tolist() == [3, -1] and found.rows[1].values["label"] == 1
    np.savez(tmp_path / "images.npz", images=np.stack([*DRAWN.values()]), labels=np.arange(10))
    found = read_set(tmp_path / "images.npz", load("digits-vit"))
    assert found.rows[3].values["patches"].shape == (16, 4)


@pytest.mark.parametrize("name, content, message", [
    ("x.txt", "a", "must be a file that ends in .csv, .jsonl, .json, .npz, not"),
    ("x.csv", "", "must hold at least one row"), ("x.csv", "text\n", "must hold at least one row"),
    ("x.csv", b"text\n\xff\n", "must be UTF-8, but has byte 0xff"),
    ("x.csv", "text,label\na,1,2\n", "line 2: a row must have at most 2 fields"),
    ("x.csv", "text\n" + "a" * ((1 << 24) + 1), "line 2: field larger than"),
    ("x.jsonl", "{}\n[1]\n", "line 2 must be a JSON object, not list"),
    ("x.jsonl", "{", "line 1 must be a JSON object: Expecting"),
    ("x.jsonl", "[" * 100_000, "line 1 must be a JSON object"),
    ("x.npz", "no archive", "must be a whole .npz file")])
def test_damage_is_one_line(name, content, message, tmp_path):
    with pytest.raises((SetError, ArrayError), match=message) as caught:
        read_set(written(tmp_path, name, content), bert())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model, arrays, message", [
    (bert, {"labels": np.ones(3)}, "must hold an array 'ids' for random BERT, not labels"),
    (bert, {"ids": np.ones((2, 3), int), "labels": np.ones(3)}, "label must have 2 rows, as ids"),
    (bert, {"ids": np.array(3)}, "ids must have 0 rows"),
    (vit, {"patches": np.ones((2, 9, 3))}, "patches must be N × positions × 7 finite numbers"),
    (vit, {"patches": np.full((2, 9, 7), np.nan)}, "finite numbers"),
    (vit, {"images": np.ones((2, 9, 9))}, "images must be N × 8 × 8 pixels")])
def test_arrays_that_do_not_fit(model, arrays, message, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(SetError, match=message):
        read_set(tmp_path / "x.npz", model())


@pytest.mark.parametrize("row, ask, message", [
    ({}, lambda row: row.text("text"), "text must be a text, not None"),
    ({"text": "  "}, lambda row: row.text("text"), "text must be a text, not '  '"),
    ({"answers": [1]}, lambda row: row.texts("answers"), "a text or several, not .1."),
    ({"score": "x"}, lambda row: row.number("score"), "a finite number, not 'x'"),
    ({"score": float("inf")}, lambda row: row.number("score"), "a finite number, not inf"),
    ({"label": "maybe"}, lambda row: row.label(("no", "yes"), 2), "one of no, yes, or a number"),
    ({"label": 2}, lambda row: row.label((), 2), "a number from 0 to 1, not 2"),
    ({"label": 0.5}, lambda row: row.label((), 2), "a number from 0 to 1, not 0.5"),
    ({"label": True}, lambda row: row.label((), 2), "a number from 0 to 1, not True")])
def test_values_that_cannot_be(row, ask, message, tmp_path):
    path = written(tmp_path, "x.jsonl", json.dumps({"ids": 1} | row))
    with pytest.raises(SetError, match=message):
        ask(read_set(path, bert()).rows[0])


def test_labels_by_name_and_number(tmp_path):
    path = written(tmp_path, "x.csv", "text,label\na, yes \nb,0\nc,1.0\n")
    rows = read_set(path, bert()).rows
    assert rows[0].label(("no", "yes"), 2) == 1 and rows[1].label(("no", "yes"), 2) == 0
    with pytest.raises(SetError, match="not '1.0'"):
        rows[2].label(("no", "yes"), 2)


@pytest.mark.parametrize("suffix", (".csv", ".jsonl"))
def test_any_bytes_are_read_or_refused(suffix, tmp_path):
    read = []

    @examples(200, suffix)
    @given(st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(
        ["text,label\n", '{"text": "a"}\n', "a,1\n", '"', "{", "\n", "é", "\0", "[]"]),
        max_size=8).map("".join).map(str.encode)))
    def run(content):
        try:
            read_set(written(tmp_path, f"x{suffix}", content), bert())
            read.append(True)
        except SetError as error:
            assert "\n" not in str(error)
            read.append(False)

    run()
    assert 0 < sum(read) < len(read)
