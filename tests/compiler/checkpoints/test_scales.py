"""Files of scales: what is read is what was written, and damage is one line."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from compiler.calibration import _counts, _magnitude, _scale
from compiler.checkpoints.scales import Scales, ScalesError

GOOD = {"a.input": np.ones(1, np.float32), "a.weight": np.arange(1, 4, dtype=np.float32)}


def test_a_file_is_read_as_it_was_written(tmp_path):
    Scales(GOOD, {"model": "x"}).save(tmp_path / "s")
    read = Scales.load(tmp_path / "s")
    assert read.about == {"model": "x"} and set(read.codes) == set(GOOD)
    assert all(np.array_equal(read.codes[name], own) for name, own in GOOD.items())
    assert read.of("a.input") == 1 and read.of_weights("a", 3).size == 3
    assert read.of_weights("b", 3) is None


@pytest.mark.parametrize("write, message", [
    (lambda path: path.write_bytes(b"x" * 40), "must be a whole file of scales"),
    (lambda path: save_file(GOOD, path), "must be a file of scales, not other safetensors"),
    (lambda path: save_file(GOOD, path, {"scales": "{"}), "must be a whole file of scales"),
    (lambda path: save_file(GOOD, path, {"scales": "[1]"}), "version of scales must be 1"),
    (lambda path: save_file(GOOD, path, {"scales": '{"version": 2}'}), "version of scales must"),
    (lambda path: save_file({}, path, {"scales": '{"version": 1}'}), "must be tensors of fp32"),
    (lambda path: save_file({"a": np.ones(1)}, path, {"scales": '{"version": 1}'}),
     "must be tensors of fp32"),
    *((lambda path, own=own: save_file({"a": np.float32(own)}, path, {"scales": '{"version": 1}'}),
       "scales of a must be a row of numbers above 0")
      for own in ([0], [-1], [np.nan], [[1]], []))])
def test_damage_is_one_line(write, message, tmp_path):
    path = tmp_path / "s"
    write(path)
    with pytest.raises(ScalesError, match=message) as told:
        Scales.load(path)
    assert "\n" not in str(told.value) and str(path) in str(told.value)


def test_every_cut_of_a_file_is_refused(tmp_path):
    path = tmp_path / "s"
    Scales(GOOD).save(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ScalesError):
            Scales.load(path)


@pytest.mark.parametrize("percentile", [100, 99, 50])
def test_a_scale_is_rounded_up(percentile):
    """Against sorting: no more items are beyond 127 codes than may be, and BF16 below there are."""
    rng = np.random.default_rng(percentile)
    for _ in range(50):
        x = rng.standard_t(2, 400).astype(np.float32) * 2.0 ** rng.integers(-20, 20)
        top = _magnitude(_counts(x), percentile)
        allowed = 400 - int(np.ceil(400 * percentile / 100))
        assert (np.abs(x) > top).sum() <= allowed < (np.abs(x) > top * (1 - 2 ** -7)).sum()
        scale = float(_scale(top)[0])
        assert top / 127 <= scale <= top / 127 * (1 + 2 ** -7)
    assert _scale(_magnitude(_counts(np.zeros(3, np.float32)), percentile))[0] == 1
