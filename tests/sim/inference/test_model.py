import json

import numpy as np
import pytest

from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.reference import forward
from compiler.checkpoints.samples import bert, inputs_for, llama, vit
from compiler.lowering.lower import lower
from compiler.program.builder import read_codes
from hdl.spec.config import AcceleratorConfig
from sim.inference import compile
from sim.inference.results import write_results
from sim.model.machine import Machine

CONFIG = AcceleratorConfig("bf16", dim=4)
MODELS = {"states": bert(), "embedding": bert(pooling="mean_l2"), "classes": vit(),
          "next token": llama(), "first": bert(pooling="first")}


def ran(model, inputs):
    program = lower(CONFIG, model, inputs)
    memory = program.memory.copy()
    assert Machine(CONFIG).run(memory, program.address).error is None
    return list(read_codes(memory, tensor) for name, tensor in program.results.items()
                if not name.endswith(("keys", "values")))[-1]


@pytest.mark.parametrize("kind", MODELS)
def test_what_a_program_of_its_own_gives(kind):
    model = MODELS[kind]
    compiled = compile(model, CONFIG)
    for length in (4, 7):
        given = inputs_for(model, length, 2, seed=length)
        found = compiled.run(given)
        assert len(found) == 2
        for result, row in zip(found, given.values, strict=True):
            wanted = ran(model, Inputs(given.kind, row[None]))
            wanted = wanted if kind == "states" else wanted[0]
            assert np.array_equal(result.codes, wanted)
            assert result.kind == ("embedding" if kind == "first" else kind)
            assert np.array_equal(result.values.view(np.uint32) >> 16, wanted)
            truth = forward(model, row).output
            truth = truth[0 if kind == "first" else slice(None) if kind == "states" else -1]
            assert np.abs(result.values - truth).max() < 0.1


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind != "classes"])
def test_inputs_of_other_lengths_side_by_side(kind):
    model = MODELS[kind]
    rows = [np.random.default_rng(length).integers(0, 40, length) for length in (3, 6, 1, 4)]
    compiled = compile(model, CONFIG)
    alone, together = compiled.run(rows), compiled.run(rows, batch=3)
    for one, other, row in zip(alone, together, rows, strict=True):
        assert one.values.shape == other.values.shape
        assert np.allclose(one.values, other.values, atol=0.05)
        assert (len(one.values) == len(row)) == (kind == "states") or one.values.ndim == 1


def test_labels_are_probabilities(tmp_path):
    result, = compile(MODELS["classes"], CONFIG).run(inputs_for(vit(), 9))
    shares = [share for _, share in result.labels]
    assert shares == sorted(shares, reverse=True) and abs(sum(shares) - 1) < 1e-5
    assert result.labels[0][0] == str(result.values.argmax())
    names = write_results(tmp_path, [result], {"model": "x"})
    told = json.loads((tmp_path / "results.json").read_text())
    assert told["results"][0]["label"] == result.labels[0][0] and told["model"] == "x"
    assert np.array_equal(np.load(tmp_path / told["values"])[0], result.values)
    assert np.load(tmp_path / told["values"]).dtype == np.float32
    assert np.array_equal(np.load(tmp_path / told["codes"])[0], result.codes)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_rows_of_each_input_are_told(tmp_path):
    found = compile(MODELS["states"], CONFIG).run([[1, 2, 3], [4, 5]])
    write_results(tmp_path, found, {})
    told = json.loads((tmp_path / "results.json").read_text())["results"]
    assert [one["rows"] for one in told] == [[0, 3], [3, 5]]
    assert np.load(tmp_path / "states.npy").shape == (5, 12)


def test_an_image_and_a_text_by_the_compiled_model(tmp_path):
    compiled = compile("digits-vit", AcceleratorConfig("posit8"))
    found, = compiled.run(np.zeros((16, 4)))
    assert found.kind == "classes" and len(found.labels) == 10
    program = compiled.program(np.zeros((16, 4)))
    program.image.save(tmp_path / "image")
    assert (tmp_path / "image").stat().st_size > program.memory.size
    with pytest.raises(ValueError, match="comes without a tokenizer"):
        compiled.run("a text")
    with pytest.raises(ValueError, match="only a causal model"):
        compile(bert(), CONFIG).generate([1, 2], 3)
    made = compile(llama(), CONFIG).generate([1, 2, 3], 3, chunk=2)
    assert len(made.ids) == 3


@pytest.mark.parametrize("given, message", [
    ([], "whole numbers"), ([[]], "whole numbers"), ([99], "from 0 to 49, not 99"),
    (np.ones(3), "whole numbers"), ([1] * 33, "at most 32")])
def test_wrong_inputs_are_one_line(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        compile(bert(), CONFIG).run(given)
    assert "\n" not in str(caught.value)
