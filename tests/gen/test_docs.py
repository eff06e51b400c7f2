"""The pages that follow from hdl/spec are those in docs/, and a change of the spec is seen."""

import re
from dataclasses import replace

import pytest

import gen.docs
from gen.docs import PAGES, main, stale
from hdl.spec.commands import COMMAND, HEADER, INSTRUCTION, ErrorCause, Opcode
from hdl.spec.registers import COUNTERS, REGISTERS


def test_pages_are_fresh():
    assert not stale(), f"docs/ must follow hdl/spec: run `make docs` ({', '.join(stale())})"


def test_a_changed_field_makes_its_page_stale(tmp_path, monkeypatch, capsys):
    for name, page in PAGES.items():
        (tmp_path / name).write_text(page(), encoding="utf-8")
    assert stale(tmp_path) == []
    monkeypatch.setitem(gen.docs.COMMAND, "m", replace(COMMAND["m"], doc="changed"))
    assert stale(tmp_path) == ["commands.md"]
    monkeypatch.setattr(gen.docs, "DOCS", tmp_path)
    monkeypatch.setattr(gen.docs, "stale", lambda: stale(tmp_path))
    assert main(["--check"]) == 1
    assert "docs/commands.md is stale: run `make docs`" in capsys.readouterr().out
    assert main([]) == 0
    assert "changed" in (tmp_path / "commands.md").read_text() and stale(tmp_path) == []
    assert main(["--check"]) == 0


@pytest.mark.parametrize("page, names", [
    ("registers.md", [item.name for item in REGISTERS]),
    ("commands.md", [f"`{name}`" for table in (HEADER, COMMAND, INSTRUCTION) for name in table]),
    ("commands.md", [item.name for kind in (Opcode, ErrorCause) for item in kind]),
    ("counters.md", [name for name, _ in COUNTERS])])
def test_every_name_has_a_row(page, names):
    rows = re.findall(r"^\| .* \|$", PAGES[page](), re.M)
    assert names and all(any(f"| {name} |" in row for row in rows) for name in names)
