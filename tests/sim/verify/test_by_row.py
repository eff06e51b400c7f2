"""Transformers whose operands have scales by row: every byte, errors, what is refused."""

import re

import numpy as np
import pytest

from compiler.centred import centred
from compiler.checkpoints.description import Polynomial
from compiler.checkpoints.samples import bert, inputs_for, llama
from compiler.lowering.decoding import lower_decoding
from compiler.lowering.lower import lower, make_steps
from hdl.spec.config import AcceleratorConfig
from sim import run
from sim.inference.generate import DecodingHost, generate
from sim.verify.by_row import ByRow
from sim.verify.expected import expected
from sim.verify.runner import on_machine, on_rtl
from sim.verify.starts import machine_start

RUN = ["--fmt", "int8", "--dim", "4", "--tokens", "12", "--quiet"]


def cosines(text):
    return [float(found) for found in re.findall(r"cosine to fp32 ([-\d.]+)", text)]


@pytest.mark.parametrize("model, more", [
    ("random-bert", []), ("random-llama", []), ("random-llama", ["--decode", "3"]),
    ("random-vit", [])])
def test_every_byte_is_what_the_definition_gives(model, more, capsys):
    tokens = RUN[:4] + RUN[6:] if model == "random-vit" else RUN
    assert run.main([model, *tokens, *more, "--on", "machine"]) == 0
    out = capsys.readouterr().out
    compared, wrong = map(int, re.search(r"bytes compared: (\d+), mismatches: (\d+)", out).groups())
    assert compared > 800 and wrong == 0 and "scales row" in out
    print(f"{model}: {compared} bytes, cosines {min(cosines(out))} and more")
    assert min(cosines(out)) > 0.99


WIDE = dict(layers=1, width=64, heads=4, hidden=72)
"""Sums so long that norms come in turns with them, in 8 rows at a time."""


@pytest.mark.parametrize("length, acc_depth, sequences, centring", [
    (32, 128, 1, "once"), (40, 128, 1, "once"), (16, 512, 2, "once"), (32, 128, 1, "twice")])
def test_norms_in_turns_with_their_sums(length, acc_depth, sequences, centring):
    config = AcceleratorConfig("int8", dim=4, acc_depth=acc_depth)
    model = centred(bert(positions=length, **WIDE), config, centring)
    inputs = inputs_for(model, length, sequences, seed=2)
    program = lower(config, model, inputs)
    parts = [name for name in program.written if name == "layer 0 attention norm bf16"]
    memory = on_machine(program.image, config, quiet=True).memory
    codes = expected(config, model, inputs, make_steps(model, inputs, None), layers=range(1),
                     scales="row")
    for name, tensor in program.results.items():
        assert np.array_equal(tensor.codes(memory, 0), codes[name]), name
    compared = sum(codes[name].size for name in program.results)
    print(f"{length} positions: norms in {len(parts)} commands, {compared} items")
    half, at_once = length * sequences // 2, acc_depth * 4 // 64
    assert len(parts) == 1 + -(-half // min(at_once, half)) and compared > 3000


@pytest.mark.slow
def test_norms_in_turns_on_rtl():
    config = AcceleratorConfig("int8", dim=4, acc_depth=128)
    model = bert(positions=32, **WIDE)
    run_ = on_rtl(lower(config, model, inputs_for(model, 32, seed=2)).image, config, quiet=True)
    assert run_.mismatches == 0 and run_.written.any()


@pytest.mark.slow
@pytest.mark.parametrize("model", ["random-bert", "random-llama"])
def test_every_byte_on_rtl(model, capsys):
    assert run.main([model, *RUN, "--on", "rtl"]) == 0
    assert "mismatches: 0" in capsys.readouterr().out


@pytest.mark.slow
def test_minilm_keeps_its_sentences(capsys):
    assert run.main(["minilm", "--fmt", "int8", "--on", "machine", "--offline", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "mismatches: 0" in out and cosines(out)[-1] >= 0.996


@pytest.mark.parametrize("model, part", [
    ("random-llama", "scores"), ("random-llama", "sums"), ("random-bert", "linear"),
    ("random-bert", "attended")])
def test_a_magnitude_that_is_left_out_is_seen(model, part, capsys, monkeypatch):
    def without(self, x):
        codes, top = whole(self, x)
        return codes, np.ones_like(top)

    whole, own = ByRow.codes, getattr(ByRow, part)

    def wrong(self, *operands):
        with monkeypatch.context() as patch:
            patch.setattr(ByRow, "codes", without)
            return own(self, *operands)

    monkeypatch.setattr(ByRow, part, wrong)
    assert run.main([model, *RUN, "--on", "machine", "--layers", "0:1"]) == 1


@pytest.mark.parametrize("chunk", [1, 3, 12])
def test_texts_do_not_depend_on_the_parts_that_a_prompt_is_read_in(chunk):
    """A cache keeps codes and magnitudes of rows: what is read together does not change them."""
    config, prompt = AcceleratorConfig("int8", dim=4), np.random.default_rng(5).integers(0, 40, 12)
    made = [generate(DecodingHost(lower_decoding(config, llama(), 12, 5, chunk=own),
                                  machine_start(config)), prompt, 5) for own in (chunk, 5)]
    assert made[0].ids == made[1].ids and np.array_equal(made[0].logits, made[1].logits)


@pytest.mark.parametrize("kernel", [None, Polynomial(2, (0.0, 1.0), (0.0, 0.25))],
                         ids=["softmax", "polynomial"])
def test_what_is_divided_last_is_that(kernel):
    """A head's result against softmax, or a polynomial, in float64, within codes of 8 bits."""
    rng, math = np.random.default_rng(6), ByRow(AcceleratorConfig("int8", dim=4))
    q, k, v = (math.wide(rng.normal(0, 2, (30, 16))) for _ in range(3))
    z = 0.25 * q @ k.T
    e = np.exp(z) if kernel is None else np.maximum(z + 1, 0) ** 2 + 0.25
    exact = e / e.sum(1, keepdims=True) @ v
    found = math.attended(q, k, math.tensor_codes(v), 0.25, kernel, 1)
    error = np.abs(found - exact)
    print(f"attended: mean error {error.mean():.4f}, max {error.max():.4f}")
    assert error.mean() < 0.03 and error.max() < 0.2


def test_codes_are_within_half_a_step():
    x = np.random.default_rng(4).normal(0, 2, (40, 50))
    math = ByRow(AcceleratorConfig("int8", dim=4))
    x = math.wide(x)
    codes, top = math.codes(x)
    assert np.abs(codes).max() == 127
    assert np.all(np.abs(codes * top / 127 - x) <= top / 127 * (0.5 + 127 / 128))


@pytest.mark.parametrize("arguments, message", [
    (["--fmt", "posit8", "--scales", "row"],
     "scales must be unit in a build with functions all, not 'row'"),
    (["--fmt", "int8", "--scales", "column"],
     "scales must be one of unit, row, static or a file of them, not 'column'"),
    (["--fmt", "int8", "--fusion", "none", "--scales", "row"],
     "fusion must be residual with scales 'row'")])
def test_what_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit):
        run.main(["random-bert", "--on", "machine", *arguments])
    assert message in capsys.readouterr().err
