"""Files of users with anything in them: CSV and JSON are read, or refused in one line."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.settings import Settings, read_json
from compiler.training.data import DataError, read_csv
from support.properties import examples

WORDS = ["text", "label", "a", "b", ",", ",", "\n", "\n", '"', '""', " ", "\r\n", "é", "\0", ";",
         "text,label\n", "good,1\n", "bad,0\n"]


def test_any_csv_is_read_or_refused_in_one_line(tmp_path):
    path, read = tmp_path / "data.csv", []

    @examples(400)
    @given(st.one_of(st.lists(st.sampled_from(WORDS), max_size=20).map("".join).map(str.encode),
                     st.lists(st.sampled_from(WORDS), max_size=4).map(
                         lambda words: "text,label\ngood,1\nbad,0\nfine,1\nno,0\n"
                                       + "".join(words)).map(str.encode),
                     st.binary(max_size=60)))
    def run(content):
        path.write_bytes(content)
        try:
            found = read_csv(path)
        except DataError as error:
            assert "\n" not in str(error)
            read.append(False)
            return
        read.append(True)
        assert len(found.texts) == len(found.labels) == len(found.lines) >= 4
        assert all(text.strip() for text in found.texts) and len(found.classes) >= 2
        assert sorted(set(found.labels.tolist())) == list(range(len(found.classes)))

    run()
    print(f"{len(read)} files, {sum(read)} read")
    assert 20 < sum(read) < len(read)


@st.composite
def tables(draw):
    """Texts, with commas, quotes and line ends, and labels of which none stands alone."""
    plain = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1,
                    max_size=12).filter(str.strip)
    labels = draw(st.lists(st.sampled_from(["no", "yes", "perhaps"]), min_size=2, max_size=6))
    labels = [*labels, *labels, "no", "no", "yes", "yes"]
    return [(draw(plain), label) for label in labels]


def test_every_table_that_is_written_is_read_again(tmp_path):
    import csv

    path, cases = tmp_path / "data.csv", []

    @examples(100)
    @given(tables())
    def run(rows):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([("text", "label"), *rows])
        found = read_csv(path)
        assert found.texts == tuple(text for text, _ in rows)
        assert [found.classes[number] for number in found.labels] == [label for _, label in rows]
        cases.append(len(rows))

    run()
    assert len(cases) >= 100


def plain_values(depth=3):
    leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5))
    return st.recursive(leaves, lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
        max_leaves=2 ** depth)


def test_any_json_is_read_or_refused_in_one_line(tmp_path):
    path, read = tmp_path / "config.json", []

    @examples(300)
    @given(st.one_of(st.binary(max_size=40), plain_values().map(json.dumps).map(str.encode),
                     st.integers(1, 100_000).map(lambda count: b"[" * count),
                     st.integers(1, 20_000).map(lambda count: b"1" * count)))
    def run(content):
        path.write_bytes(content)
        try:
            found = read_json(path, dict)
        except CheckpointError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            read.append(False)
            return
        read.append(True)
        assert isinstance(found, dict)

    run()
    print(f"{len(read)} files, {sum(read)} read")
    assert 0 < sum(read) < len(read)


@examples(300)
@given(st.dictionaries(st.sampled_from(["size", "rate"]), plain_values()))
def test_settings_are_checked_whatever_they_are(values):
    settings = Settings(values, "config.json")
    for ask, name, sound in (
            (settings.count, "size", lambda value: isinstance(value, int) and value >= 1),
            (settings.positive, "rate", lambda value: value > 0 and math.isfinite(value))):
        try:
            assert sound(ask(name))
        except CheckpointError as error:
            assert "\n" not in str(error) and name in str(error)


def test_a_wrong_reader_is_seen(tmp_path):
    # The control: what only one of the properties' kinds of files shows.
    path = tmp_path / "config.json"
    path.write_bytes(b"[" * 100_000)
    with pytest.raises((RecursionError, ValueError)):
        json.loads(path.read_text())
