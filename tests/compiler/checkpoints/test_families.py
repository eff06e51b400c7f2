"""Checkpoints as transformers writes them against what it computes of them."""

import importlib.util
import json

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.loader import families
from compiler.checkpoints.reference import encode, forward
from support.families import NAMES, stored
from tools import family_vectors

NEAR = 1e-4


def output(model, inputs):
    segments = None if inputs.segments is None else inputs.segments[0]
    encoded = None if inputs.source is None else encode(model, inputs.source.values[0])
    return forward(model, inputs.values[0], segments=segments, encoded=encoded).output


@pytest.mark.parametrize("name", NAMES)
def test_output_is_that_of_transformers(name, tmp_path):
    case = stored(name)
    model = load(case.write(tmp_path / name))
    found = output(model, case.inputs(model))
    apart = np.abs(found - case.output).max()
    print(f"{name}: {found.size} results, at most {apart:.1e} apart")
    assert found.shape == case.output.shape and apart <= NEAR and np.abs(found).max() > 0.1
    assert not model.notes


def test_every_family_is_compared():
    kinds = {json.loads((family_vectors.FOLDER / f"{name}.json").read_text())
             ["config"]["model_type"] for name in NAMES}
    assert set(NAMES) == set(family_vectors.CASES)
    print(f"{len(NAMES)} checkpoints, {len(kinds)} kinds")
    assert kinds == set(families())


def test_a_wrong_weight_is_found(tmp_path, monkeypatch):
    case, real = stored("bert"), family_vectors.weight

    def spoiled(name, shape):
        values = real(name, shape)
        if name.endswith("layer.1.output.dense.bias"):
            values[3] += 0.01
        return values

    monkeypatch.setattr(family_vectors, "weight", spoiled)
    model = load(case.write(tmp_path / "bert"))
    assert np.abs(output(model, case.inputs(model)) - case.output).max() > NEAR


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="no transformers")
@pytest.mark.parametrize("name", NAMES)
def test_transformers_still_computes_that(name):
    found = family_vectors.run(name)
    assert found["shapes"] == stored(name).values["shapes"]
    assert np.abs(np.array(found["output"]) - stored(name).output).max() <= family_vectors.NEAR
