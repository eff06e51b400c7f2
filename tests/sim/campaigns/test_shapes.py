"""The campaign of random shapes: a part of it at dim 4, and that it can fail."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import FORMATS
from sim.campaigns import shapes
from sim.campaigns.regression import small_accelerator
from sim.campaigns.shapes import Flipped, Tally, builds, classes, main, run


@pytest.fixture
def inline(monkeypatch):
    monkeypatch.setattr(shapes, "ProcessPoolExecutor", lambda jobs, **_: ThreadPoolExecutor(1))


@pytest.mark.parametrize("count, least", [
    (500, 300), pytest.param(5600, 2000, marks=pytest.mark.slow)])
def test_shapes_at_dim_4(count, least, capsys):
    # Its builds are those of test_matrix.py and test_gemm.py.
    assert main(["--dim", "4", "--count", str(count)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("passed") for line in lines) == len(builds(4))
    assert " 0 builds failed" in lines[-1]
    assert int(lines[-1].split(" GEMMs of ")[1].split()[0]) >= least


@pytest.mark.slow
@pytest.mark.parametrize("dim", ["8", "16"])
def test_200_shapes_at_larger_dims(dim):
    assert main(["--dim", dim, "--count", "200"]) == 0


def test_builds_hold_every_format_and_both_kinds_of_buffers():
    configs = builds(4)
    assert {config.fmt for config in configs} == set(FORMATS)
    assert len({config.input_depth for config in configs}) == 2
    assert {config.dim for config in builds(16, ["fp8"])} == {16} and len(builds(16, ["fp8"])) == 2


def test_a_run_counts_what_it_compared():
    seen = []
    tally = run(small_accelerator("posit8"), 60, 3, seen.append)
    assert 60 <= tally.gemms < 70 and tally.programs == len(seen)
    assert tally.image == sum(case.memory.size for case in seen) > tally.results > 20 * 60
    transposes = [name for name in classes([]) if name.startswith("A")]
    for group in (transposes, ("plain", "epilogue", "softmax"), ("C narrow", "C wide")):
        assert sum(tally.kinds[name] for name in group) == tally.gemms
    assert tally.kinds["tiny buffers"] == tally.gemms and not tally.kinds["normal buffers"]
    with pytest.raises(AssertionError, match=": 1 bytes differ"):
        run(Flipped(small_accelerator("posit8"), 9), 60, 3)


def test_a_difference_or_a_missing_class_is_exit_code_1(inline, monkeypatch, capsys):
    every = Tally(gemms=9, commands=12, programs=3, results=900, image=9000)
    wanted = classes(builds(4, ["e4m3"]))
    every.kinds.update(wanted)
    lacking = Tally(gemms=9, commands=12, programs=3, results=900, image=9000)
    lacking.kinds.update(set(wanted) - {"C wide"})
    for found, code, message in (
            (every, 0, "18 GEMMs"), (lacking, 1, "FAILED  no GEMM of class 'C wide'"),
            ("4x4x4: 1 bytes differ", 1, "4x4x4: 1 bytes differ")):
        monkeypatch.setattr(shapes, "_share", lambda *_, found=found: found)
        assert main(["--fmt", "e4m3", "--count", "18"]) == code
        assert message in capsys.readouterr().out
    monkeypatch.setattr(shapes, "_share", lambda *_: every)
    assert main(["--fmt", "e4m3", "--count", "19"]) == 1  # fewer than were asked for


@pytest.mark.parametrize("arguments, message", [
    (["--count", "0"], "--count must be an integer from 1 up, not 0"),
    (["--dim", "5"], "dim must be a power of two from 4 to 128, not 5"),
    (["--fmt", "int4"], "--fmt must be one of posit8"),
    (["--jobs", "0"], "--jobs must be an integer from 1 up")])
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    captured = capsys.readouterr()
    assert stopped.value.code == 2 and message in captured.err
    assert len(captured.err.splitlines()) == 1


def test_large_dims_need_larger_weight_buffers():
    assert all(isinstance(config, AcceleratorConfig) for dim in (8, 16, 32, 64)
               for config in builds(dim))
