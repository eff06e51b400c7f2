"""``python -m sim.train_demo``: both formats, and its verdict."""

import pytest

from compiler.checkpoints import digits
from sim import train_demo
from support.require import require


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "code"), [(3, 1), (800, 0)])
def test_both_formats_learn_and_too_few_steps_are_told(steps, code, tmp_path, capsys):
    require(digits.images)
    assert train_demo.main(["--steps", str(steps), "--out", str(tmp_path)]) == code
    out = capsys.readouterr().out
    assert all(f"{fmt}: " in out and (tmp_path / f"{fmt}.svg").exists()
               for fmt in train_demo.FORMATS)
