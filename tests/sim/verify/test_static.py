"""Transformers whose operands have scales known beforehand: every byte, errors, what is refused."""

import re
from dataclasses import replace

import numpy as np
import pytest

from compiler.calibration import calibrate, calibration_examples
from compiler.checkpoints.samples import SAMPLES, bert, inputs_for, llama
from compiler.checkpoints.scales import Scales
from compiler.examples import examples_of
from compiler.lowering.decoding import lower_decoding
from compiler.lowering.lower import lower, make_steps
from hdl.spec.config import AcceleratorConfig
from sim import evaluate, quantise, run
from sim.inference.generate import DecodingHost, generate
from sim.verify.expected import expected
from sim.verify.runner import on_machine
from sim.verify.starts import machine_start
from sim.verify.static import Static

RUN = ["--dim", "4", "--tokens", "12", "--quiet", "--scales", "static", "--on", "machine"]


def calibrated(name, **options):
    model = SAMPLES[name](0)
    return model, calibrate(model, calibration_examples(name, model), **options)


def figures(out):
    compared, wrong = map(int, re.search(r"bytes compared: (\d+), mismatches: (\d+)", out).groups())
    return compared, wrong, [float(found)
                             for found in re.findall(r"cosine to fp32 ([-\d.]+)", out)]


@pytest.mark.parametrize("model, more, least", [
    ("random-bert", ["--fmt", "int8"], 0.999), ("random-llama", ["--fmt", "int8"], 0.998),
    ("random-llama", ["--fmt", "int8", "--decode", "3"], 0.99),
    ("random-bert", ["--fmt", "posit8", "--functions", "scales"], 0.97),
    ("random-llama", ["--fmt", "e4m3", "--functions", "scales", "--softmax", "approx"], 0.95)])
def test_every_byte_is_what_the_definition_gives(model, more, least, capsys):
    assert run.main([model, *RUN, *more]) == 0
    out = capsys.readouterr().out
    compared, wrong, cosines = figures(out)
    assert compared > 800 and wrong == 0 and "scales static" in out
    print(f"{model} {more}: {compared} bytes, cosines {min(cosines)} and more")
    assert min(cosines) > least


@pytest.mark.slow
@pytest.mark.parametrize("model", ["random-bert", "random-llama"])
def test_every_byte_on_rtl(model, capsys):
    assert run.main([model, "--fmt", "int8", *RUN[:-1], "rtl"]) == 0
    assert "mismatches: 0" in capsys.readouterr().out


@pytest.mark.slow
def test_minilm_keeps_its_sentences(capsys):
    assert run.main(["minilm", "--fmt", "int8", "--offline", *RUN[3:]]) == 0
    compared, wrong, cosines = figures(capsys.readouterr().out)
    assert compared > 0 and wrong == 0 and cosines[-1] >= 0.98


@pytest.mark.parametrize("name, part", [
    ("random-llama", "score_factor"), ("random-bert", "weight_codes"), ("random-bert", "shares")])
def test_what_is_computed_otherwise_is_seen(name, part, capsys, monkeypatch):
    """Each part of the definition, off by a factor of 2, is found in the program's bytes."""
    own = getattr(Static, part)

    def wrong(self, *operands):
        found = own(self, *operands)
        return (found[0], 2 * found[1]) if isinstance(found, tuple) else found / 2

    monkeypatch.setattr(Static, part, wrong)
    assert run.main([name, "--fmt", "int8", *RUN, "--layers", "0:1"]) == 1


def same_bytes(config, model, inputs, scales):
    """How many items of results are as the definition gives them: all."""
    program = lower(config, model, inputs, scales=scales)
    found = on_machine(program.image, config, quiet=True).memory
    codes = expected(config, model, inputs, make_steps(model, inputs, None),
                     layers=range(len(model.blocks)), scales=scales)
    for name, tensor in program.results.items():
        assert np.array_equal(tensor.codes(found, 0), codes[name]), name
    return sum(codes[name].size for name in program.results)


@pytest.mark.parametrize("weights", ["output", "tensor"])
def test_padded_sequences_and_weights_of_one_scale(weights):
    model, scales = calibrated("random-bert", weights=weights)
    valid = np.arange(9) < np.array([[9], [6]])
    inputs = replace(inputs_for(model, 9, 2, seed=3), valid=valid)
    compared = same_bytes(AcceleratorConfig("int8", dim=4), model, inputs, scales)
    print(f"weights by {weights}: {compared} items")
    assert compared > 400


@pytest.mark.parametrize("kind", ["row", "static"])
def test_a_factor_of_embeddings(kind):
    """Rows of their table are codes, × what these count and the factor."""
    made = llama(layers=1)
    model = replace(made, embedding=replace(made.embedding, factor=3.0))
    scales = kind if kind == "row" else calibrate(
        model, calibration_examples("random-llama", model))
    assert same_bytes(AcceleratorConfig("int8", dim=4), model, inputs_for(model, 6), scales) > 200


def test_rows_that_do_not_fit_a_bank():
    """Their softmax is stored as probabilities."""
    config, model = AcceleratorConfig("int8", dim=4, acc_depth=16), bert(layers=1, positions=80)
    inputs = inputs_for(model, 70, seed=4)
    scales = calibrate(model, examples_of(inputs, model))
    math = Static(config, scales, {})
    assert [math.shares(np.zeros((2, own))).shape[1] for own in (64, 70)] == [65, 70]
    assert same_bytes(config, model, inputs, scales) > 1000


def test_texts_do_not_depend_on_the_parts_that_a_prompt_is_read_in():
    config, prompt = AcceleratorConfig("int8", dim=4), np.random.default_rng(5).integers(0, 40, 12)
    _, scales = calibrated("random-llama")
    made = [generate(DecodingHost(lower_decoding(config, llama(), 12, 4, chunk=own, scales=scales),
                                  machine_start(config)), prompt, 4) for own in (3, 12)]
    assert made[0].ids == made[1].ids and np.array_equal(made[0].logits, made[1].logits)


def test_a_file_is_what_calibration_found(tmp_path, capsys):
    """And a model run with it leaves the same bytes."""
    path = tmp_path / "bert.scales"
    assert quantise.main(["random-bert", "-o", str(path), "--quiet"]) == 0
    _, scales = calibrated("random-bert")
    read = Scales.load(path)
    assert {**read.codes} == {**scales.codes} and read.about == scales.about
    assert f"{len(scales.codes)} scales from" in capsys.readouterr().out
    arguments = ["random-bert", "--fmt", "int8", *RUN, "-o"]
    assert run.main([*arguments, str(tmp_path / "a")]) == 0
    arguments[arguments.index("static")] = str(path)
    assert run.main([*arguments, str(tmp_path / "b")]) == 0
    a, b = (sorted((tmp_path / name).glob("*.npy")) for name in "ab")
    assert a and all(x.read_bytes() == y.read_bytes() for x, y in zip(a, b, strict=True))


def test_evaluate_takes_them(tmp_path, capsys):
    data = tmp_path / "data.npz"
    rng = np.random.default_rng(1)
    np.savez(data, patches=rng.random((3, 16, 4)), label=np.zeros(3, int))
    assert evaluate.main(["digits-vit", str(data), "--metric", "accuracy", "--build", "int8",
                          "fp32", "--scales", "static", "--quiet", "--jobs", "1"]) == 0
    assert "int8" in capsys.readouterr().out


@pytest.mark.parametrize("change, message", [
    (lambda codes: codes.pop("blocks.1.attention.keys"), "must have blocks.1.attention.keys"),
    (lambda codes: codes.update({"blocks.0.attention.key.input": np.ones(1, np.float32)}),
     "must be one, for these read one tensor"),
    (lambda codes: codes.update({"blocks.0.feed_forward.down.input": np.ones(20, np.float32)}),
     "must be one, not 20"),
    (lambda codes: codes.update({"blocks.0.feed_forward.down.weight": np.ones(7, np.float32)}),
     "must be 1 or 12, not 7")])
def test_scales_that_do_not_fit(change, message):
    model, scales = calibrated("random-bert")
    codes = dict(scales.codes)
    change(codes)
    with pytest.raises(ValueError, match=message):
        lower(AcceleratorConfig("int8", dim=4), model, inputs_for(model, 5), scales=Scales(codes))


@pytest.mark.parametrize("arguments, message", [
    (["--fmt", "posit8", "--scales", "static"],
     "scales must be unit in a build with functions all, not 'static'"),
    (["--fmt", "int8", "--scales", "no/file"],
     "scales must be one of unit, row, static or a file of them, not 'no/file'"),
    (["--fmt", "int8", "--fusion", "norm", "--scales", "static"],
     "fusion must be residual with scales 'static'")])
def test_what_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        run.main(["random-bert", "--on", "machine", *arguments])
    assert message in capsys.readouterr().err


def test_the_reference_tells_what_products_read():
    """Magnitudes against the definition: inputs of the last linear layer of a model of one layer,
    all of them, and half."""
    model = bert(layers=1)
    examples = calibration_examples("random-bert", model)
    whole, half = (calibrate(model, examples, percentile=own) for own in (100, 50))
    for name, own in whole.codes.items():
        assert half.codes[name] < own, name
        word = own.view(np.uint32)
        assert not (word & 0xFFFF).any(), "BF16"
    assert {name.rpartition(".")[2] for name in whole.codes} == {
        "input", "queries", "keys", "values"}
    assert len(whole.codes) == 6 + 3
