"""The lists of docs/extending.md: their files exist, and are as many as the headings say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/extending.md"
MOST = {"A command bit": 10}


def walks(text):
    """{heading: (its count, paths of the table's first column, those marked as new)}"""
    found = {}
    for part in text.split("\n## ")[1:]:
        title, count = re.match(r"(.+): (\d+) files\n", part).groups()
        cells = [line.split(" | ")[0] for line in part.splitlines()
                 if line.startswith("| `")]
        paths = [path for cell in cells for path in re.findall(r"`([^`]+)`", cell)]
        new = {path for cell in cells for path in re.findall(r"`([^`]+)` \*new\*", cell)}
        found[title] = int(count), paths, new
    return found


WALKS = walks(PAGE.read_text())


def wrong(walk):
    count, paths, new = walk
    absent = [path for path in paths if path not in new and not (ROOT / path).is_file()]
    there = [path for path in new if (ROOT / path).exists()]
    return [*absent, *there, *(["count"] if count != len(set(paths)) else [])]


@pytest.mark.parametrize("title", WALKS)
def test_each_list_is_whole(title):
    assert wrong(WALKS[title]) == []
    assert len(WALKS[title][1]) <= MOST.get(title, 99)


def test_there_are_five_and_a_wrong_one_is_found():
    assert len(WALKS) == 5 and sum(len(paths) for _, paths, _ in WALKS.values()) == 44
    count, paths, new = WALKS["A command bit"]
    assert wrong((count, [*paths[1:], "hdl/no_such.py"], new)) == ["hdl/no_such.py"]
    assert wrong((count, paths[1:], new)) == ["count"]
    assert wrong((count, paths, new | {paths[0]})) == [paths[0]]


def test_every_path_in_the_text_is_there():
    named = {path for path in re.findall(r"`((?:\w+/)+[\w.]*)`", PAGE.read_text())}
    absent = {path for path in named if not (ROOT / path).exists()}
    assert absent == {"tests/sim/test_negated.py"} and len(named) > 30
