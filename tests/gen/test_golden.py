"""The Verilog of yesterday: digests of what ``gen.top`` writes."""

import json

import pytest

from hdl.spec.config import ACCUMULATORS, FUNCTION_SETS, SOFTMAX_MODES
from hdl.spec.formats import FORMATS
from tools import golden

BUILDS = golden.builds()
SAMPLE = golden.sample(BUILDS)


@pytest.mark.parametrize("build", [
    build if build in SAMPLE else pytest.param(build, marks=pytest.mark.slow) for build in BUILDS],
    ids=str)
def test_verilog_is_that_of_its_digest(build):
    assert golden.digest(build) == golden.known()[str(build)]


@pytest.mark.parametrize("build", [
    build if build is SAMPLE[0] else pytest.param(build, marks=pytest.mark.slow)
    for build in SAMPLE], ids=str)
def test_circuit_is_that_of_its_digest(build):
    assert golden.structure(build) == golden.known("structure")[str(build)]


def test_every_build_has_a_digest_and_the_sample_touches_every_choice():
    assert set(golden.known()) == set(map(str, BUILDS)) and len(BUILDS) == 198
    assert len(set(golden.known().values())) == len(BUILDS)
    circuits = golden.known("structure")
    assert set(circuits) == set(map(str, SAMPLE)) and len(set(circuits.values())) == len(SAMPLE)
    for name, choices in (("fmt", FORMATS), ("acc", ACCUMULATORS), ("softmax", SOFTMAX_MODES),
                          ("functions", FUNCTION_SETS)):
        assert {getattr(build, name) for build in SAMPLE} == set(choices)
    assert len(SAMPLE) == len(FORMATS) + 4  # that train, with scales, fixed lanes, fused columns


def test_a_changed_byte_is_told(monkeypatch, capsys, tmp_path):
    found = {str(build): "0" * 64 for build in SAMPLE}
    known = found | {str(SAMPLE[2]): "1" * 64}
    monkeypatch.setattr(golden, "FILE", tmp_path / "verilog.json")
    golden.FILE.write_text(json.dumps({name: {"verilog": value, "structure": "2" * 64}
                                       for name, value in known.items()}))
    monkeypatch.setattr(golden, "digests", lambda chosen, jobs, of: found)
    assert golden.main(["verilog", "--sample"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out == [f"differs: {SAMPLE[2]}",
                   f"{len(SAMPLE)} builds, 1 differ from the {len(SAMPLE)} digests of the file"]
    monkeypatch.setattr(golden, "digests", lambda chosen, jobs, of: known)
    assert golden.main(["verilog", "--sample"]) == 0


def test_renewing_one_kind_leaves_the_other(monkeypatch, tmp_path):
    before = golden.FILE.read_text()
    monkeypatch.setattr(golden, "FILE", tmp_path / "verilog.json")
    golden.FILE.write_text(before)
    golden.renew("verilog", golden.known())
    assert golden.FILE.read_text() == before
    structure, changed = golden.known("structure"), {str(build): "3" * 64 for build in BUILDS}
    assert len(structure) == len(SAMPLE)
    golden.renew("verilog", changed)
    assert golden.known() == changed and golden.known("structure") == structure
