"""Where the model's compiled code is kept: never next to the sources."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sim.model import loops
from sim.model.kept import Kept

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
    return {(path, path.stat().st_mtime_ns) for suffix in ("nbi", "nbc", "o")
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
    assert len(found) >= 3 and found == kept(tmp_path), "code of each, an index of numba's"
    call(**{variable: str(tmp_path)})
    assert kept(tmp_path) == found
    assert [kept(source) for source in sources] == before


LOOP = """
import sys
import numpy as np
from sim.model.compiled import accumulate, round_all
assert (round_all(np.ones(3), 45, 2.0**-126, 2.0**128) == 1).all()
codes = np.arange(6, dtype=np.uint8).reshape(2, 3)
total = accumulate(np.ones((1, 2), np.float32), codes, 4, 16, 2.0**-126, 2.0**128, False,
                   np.arange(256, dtype=np.float32), True)
assert total.tolist() == [[3, 5, 7]]
print("numba" in sys.modules)
"""


def test_kept_code_runs_without_numba_and_damaged_code_is_compiled_anew(tmp_path):
    def numba_was_needed():
        return subprocess.run([sys.executable, "-c", LOOP], check=True, cwd=ROOT, text=True,
                              env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
                              capture_output=True).stdout.strip()

    assert numba_was_needed() == "True"
    assert numba_was_needed() == "False"
    path, = tmp_path.glob("round_all-*.o")
    whole = path.read_bytes()
    for data in (whole[:-1], whole[:40] + bytes([whole[40] ^ 1]) + whole[41:]):
        path.write_bytes(data)
        assert numba_was_needed() == "True" and path.read_bytes() != data
    assert numba_was_needed() == "False"


def test_a_loop_that_needs_numba_when_it_runs_is_refused(monkeypatch):
    def allocates(result, values):
        twice = np.zeros(values.size)
        for i in range(values.size):
            twice[i] = 2 * values[i]
        result[:] = twice

    monkeypatch.setattr(loops, "allocates", allocates, raising=False)
    with pytest.raises(AssertionError, match="must need nothing of numba .*NRT_"):
        Kept("allocates")(np.ones(3), np.ones(3))


def test_code_that_can_no_longer_be_kept_runs(tmp_path):
    script = """
import shutil
import numpy as np
from sim.model.compiled import flush_all
from sim.model.kept import folder
shutil.rmtree(folder())
assert (flush_all(np.ones(3), 2.0**-126) == 1).all()
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True,
                   env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "gone")})
    assert not (tmp_path / "gone").exists()


def test_without_a_folder_it_is_compiled_anew(tmp_path):
    before = kept(ROOT / "sim/model")
    blocked = tmp_path / "file"
    blocked.write_text("")
    call(OTTAVA_BUILD=str(blocked))
    assert kept(ROOT / "sim/model") == before and blocked.read_text() == ""
