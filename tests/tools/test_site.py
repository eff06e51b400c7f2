"""The site builds without a warning, and a link to nowhere is one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def site(root, *arguments):
    return subprocess.run([sys.executable, root / "tools/site.py", "-o", root / "made/site",
                           *arguments], cwd=root, capture_output=True, text=True,
                          env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"})


@pytest.fixture
def tree(tmp_path):
    """A copy of all pages, with the packages next to them."""
    for name in ("docs", "examples", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ("hdl", "gen", "compiler", "sim", "synth"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_all_pages_build_without_a_warning(tree):
    done = site(tree, "--pages")
    assert done.returncode == 0, done.stderr
    pages = {path.name for path in (tree / "made/site").rglob("*.html")}
    assert pages >= {f"{path.stem}.html" for path in (ROOT / "docs").rglob("*.md")}
    assert pages >= {"index.html", "CHANGELOG.html", "CONTRIBUTING.html"}
    front = (tree / "made/site/index.html").read_text()
    assert "Posit8 and FP8 systolic arrays" in front and "docs/numerics.html#lanes" in front


def test_every_broken_link_is_told_and_fails(tree):
    page = tree / "docs/models.md"
    broken = ("[nothing](absent.md)", "[no heading](cycles.md#missing)", "![none](absent.svg)")
    page.write_text("\n\n".join([page.read_text(), *broken]))
    done = site(tree, "--pages")
    assert done.returncode == 1
    for fault in ("absent.md", "missing", "absent.svg"):
        assert any("models.md" in line and fault in line for line in done.stderr.splitlines())


@pytest.mark.slow
def test_the_docstrings_of_all_modules_build_without_a_warning(tree):
    done = site(tree)
    assert done.returncode == 0, done.stderr
    page = (tree / "made/site/api/hdl.drain.html").read_text()
    assert "hdl.drain.block_reader.BlockReader" in page and "the bank’s read port" in page
