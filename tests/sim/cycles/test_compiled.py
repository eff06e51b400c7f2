"""Where compiled code is kept."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sim.cycles.compiled import kept_folder

ROOT = Path(__file__).resolve().parents[3]
USE = """
import numba
import numpy as np
from sim.cycles import machine, nest
from sim.cycles.compiled import kept_folder

@numba.njit
def move(loops):
    return nest.move(loops[0], True, False)

loops = np.recarray(1, nest.NEST)
loops[0].idle = 1
assert move(loops) == -1 and loops[0].idle == 0
print(kept_folder())
"""


@pytest.fixture
def installed(tmp_path):
    """A copy of the packages that nobody may write, and its files with their times."""
    root = tmp_path / "site"
    for name in ("hdl", "gen", "compiler", "sim"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in root.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield root
    for path in root.rglob("*"):
        if path.is_dir():
            path.chmod(0o755)


def contents(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def start(root, where, **environment):
    inherited = {name: value for name, value in os.environ.items()
                 if name not in ("NUMBA_CACHE_DIR", "OTTAVA_BUILD")}
    return subprocess.Popen(
        [sys.executable, "-c", USE], cwd=where, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env=inherited | {
            "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"} | environment)


def test_nothing_is_written_beside_the_sources_and_processes_do_not_meet(installed, tmp_path):
    before, where = contents(installed), tmp_path / "elsewhere"
    where.mkdir()
    runs = [start(installed, where, XDG_CACHE_HOME=str(tmp_path / "cache")) for _ in range(2)]
    folders = set()
    for run in runs:
        out, err = run.communicate(timeout=600)
        assert run.returncode == 0, err
        folders.add(out.strip())
    folder, = map(Path, folders)
    assert folder.parent == tmp_path / "cache/ottava/build/numba"
    assert list(folder.rglob("nest.move-*.nbc"))
    assert contents(installed) == before
    assert not list(where.iterdir())


@pytest.mark.parametrize("variable, parent", [("NUMBA_CACHE_DIR", "kept"),
                                              ("OTTAVA_BUILD", "kept/numba")])
def test_the_folder_may_be_chosen(variable, parent, tmp_path):
    run = start(ROOT, tmp_path, **{variable: str(tmp_path / "kept")})
    out, err = run.communicate(timeout=600)
    assert run.returncode == 0, err
    assert Path(out.strip()).parent == tmp_path / parent


def test_without_a_folder_every_process_compiles_anew(tmp_path):
    (tmp_path / "file").touch()
    run = start(ROOT, tmp_path, OTTAVA_BUILD=str(tmp_path / "file/build"))
    out, err = run.communicate(timeout=600)
    assert (run.returncode, out) == (0, "None\n"), err


def test_other_sources_have_another_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("OTTAVA_BUILD", str(tmp_path / "build"))
    found = []
    for name, text in (("unit.py", "@compiled\n"), ("report.py", "one = 1\n"),
                       ("unit.py", "@compiled\n\n")):
        (tmp_path / name).write_text(text)
        kept_folder.cache_clear()
        found.append(kept_folder(tmp_path))
    kept_folder.cache_clear()
    assert found[0] == found[1] != found[2]
