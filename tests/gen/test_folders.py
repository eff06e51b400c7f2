"""Files without a place of their own go to the checkout's build/, or to the user's cache."""

import subprocess
import sys
from pathlib import Path

import pytest

import gen.cli.folders
from gen.cli.folders import build_folder, cache_folder, checkout

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """As if the sources lay in a site-packages, with somebody's project file next to them."""
    (tmp_path / "site/gen/cli").mkdir(parents=True)
    (tmp_path / "site/pyproject.toml").touch()
    monkeypatch.setattr(gen.cli.folders, "__file__", str(tmp_path / "site/gen/cli/folders.py"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("OTTAVA_BUILD", raising=False)
    return tmp_path


def test_a_checkout_builds_inside_itself_wherever_one_stands(monkeypatch, tmp_path):
    monkeypatch.delenv("OTTAVA_BUILD", raising=False)
    monkeypatch.chdir(tmp_path)
    assert checkout() == ROOT and build_folder() == ROOT / "build"


def test_an_installed_package_builds_in_the_cache(installed):
    assert checkout() is None
    assert cache_folder() == installed / "cache/ottava"
    assert build_folder() == installed / "cache/ottava/build"


def test_a_checkout_that_cannot_be_written_builds_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("OTTAVA_BUILD", raising=False)
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != ROOT)
    assert build_folder() == tmp_path / "ottava/build"


def test_the_environment_comes_first(installed, monkeypatch):
    monkeypatch.setenv("OTTAVA_BUILD", "elsewhere")
    monkeypatch.chdir(installed)
    assert build_folder() == installed / "elsewhere"


def test_downloads_go_to_the_home_folder_without_a_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache/ottava"


def test_pages_are_of_a_checkout_alone(tmp_path):
    code = ("import sys, gen.docs; gen.docs.checkout = lambda: None; "
            "sys.exit(gen.docs.main(['--check']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "pages must be those of a checkout" in done.stderr
