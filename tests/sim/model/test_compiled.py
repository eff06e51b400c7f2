"""Where the model's compiled code is kept: never next to the sources."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CALL = """
import numpy as np
from sim.model.compiled import round_all
from compiler.training.gradients.compiled import round_words
ones = np.ones(3)
assert (round_all(ones, 45, 2.0**-126, 2.0**128) == 1).all()
words = np.array([0x3F80FFFF], np.uint32)
round_words(words, words)
assert words[0] == 0x3F810000
"""


def kept(folder):
    """(file, time of its last change) of compiled code below ``folder``."""
    return {(path, path.stat().st_mtime_ns) for suffix in ("nbi", "nbc")
            for path in folder.rglob(f"*.{suffix}")}


def call(**variables):
    others = {name: value for name, value in os.environ.items()
              if name not in ("NUMBA_CACHE_DIR", "OTTAVA_BUILD", "XDG_CACHE_HOME")}
    subprocess.run([sys.executable, "-c", CALL], check=True, cwd=ROOT, env=others | variables)


@pytest.mark.parametrize("variable, folder", [
    ("NUMBA_CACHE_DIR", ""), ("OTTAVA_BUILD", "numba"), ("XDG_CACHE_HOME", "ottava/numba")])
def test_code_is_kept_where_it_is_told_and_used_again(variable, folder, tmp_path):
    sources = [ROOT / "sim/model", ROOT / "compiler/training"]
    before = [kept(source) for source in sources]
    call(**{variable: str(tmp_path)})
    found = kept(tmp_path / folder)
    assert len(found) >= 4 and found == kept(tmp_path), "an index and code of each function"
    call(**{variable: str(tmp_path)})
    assert kept(tmp_path) == found
    assert [kept(source) for source in sources] == before


def test_without_a_folder_it_is_compiled_anew(tmp_path):
    before = kept(ROOT / "sim/model")
    blocked = tmp_path / "file"
    blocked.write_text("")
    call(OTTAVA_BUILD=str(blocked))
    assert kept(ROOT / "sim/model") == before and blocked.read_text() == ""
