"""Text of every kind of decoder: by programs of positions as by one program, and as in fp32."""

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.reference import encode, forward
from compiler.lowering.decoding import lower_decoding
from compiler.lowering.lower import lower
from compiler.program.builder import read
from hdl.spec.config import AcceleratorConfig
from sim.inference.generate import DecodingHost, fp32_greedy, generate
from sim.inference.timing import timing
from sim.verify.runner import on_machine
from sim.verify.starts import built, machine_start, rtl_start
from support.families import stored

NEW = 5


def given(name, folder):
    """The model, what its encoder reads, and what its text begins with."""
    case = stored(name)
    model = load(case.write(folder / name))
    inputs = case.inputs(model)
    if model.encoder is None:
        return model, None, inputs.values[0]
    return model, inputs.source, np.array(model.start)


def generated(config, model, source, prompt):
    values = None if source is None else source.values[0]
    decoding = lower_decoding(config, model, len(prompt), NEW, chunk=3,
                              source=None if values is None else len(values))
    host = DecodingHost(decoding, machine_start(config))
    return generate(host, prompt, NEW, source=values)


def slowly(*names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", [
    "bloom", "gemma2", "mistral", "qwen3", "t5-gated", "whisper",
    *slowly("bart", "gemma3", "gpt2", "marian", "neox", "opt", "phi3", "t5")])
def test_tokens_are_those_of_one_program_and_of_fp32(name, tmp_path):
    model, source, prompt = given(name, tmp_path)
    config = AcceleratorConfig("bf16", dim=4)
    made = generated(config, model, source, prompt)
    encoded = None if source is None else encode(model, source.values[0])
    wanted = forward(model, np.array([*prompt, *made.ids[:-1]]), encoded=encoded).output[-NEW:]
    assert np.abs(made.logits - wanted).max() < 0.05 * np.abs(wanted).max() + 0.05
    config = AcceleratorConfig("posit8", dim=4)
    made = generated(config, model, source, prompt)
    ids = np.array([[*prompt, *made.ids[:-1]]])
    program = lower(config, model, Inputs("ids", ids, source=source))
    done = on_machine(program.image, config)
    assert np.array_equal(read(done.memory, program.results["head bf16"])[0], made.logits[-1])


@pytest.mark.parametrize("name", ["t5-gated", "whisper", "bloom"])
def test_tokens_are_those_of_fp32(name, tmp_path):
    model, source, prompt = given(name, tmp_path)
    values = None if source is None else source.values[0]
    made = generated(AcceleratorConfig("bf16", dim=4), model, source, prompt)
    assert list(made.ids) == fp32_greedy(model, prompt, NEW, source=values)


def test_another_source_gives_other_tokens(tmp_path):
    model, source, prompt = given("t5-gated", tmp_path)
    config = AcceleratorConfig("posit8", dim=4)
    other = Inputs("ids", (source.values + 7) % 30)
    first, second = (generated(config, model, one, prompt).logits for one in (source, other))
    assert not np.array_equal(first, second)


def test_a_source_without_an_encoder_and_an_encoder_without_one(tmp_path):
    config = AcceleratorConfig("posit8", dim=4)
    for name, source, message in (("t5", None, "source must be given for t5"),
                                  ("gpt2", 4, "source must be left out for gpt2")):
        model = given(name, tmp_path)[0]
        with pytest.raises(ValueError, match=message):
            lower_decoding(config, model, 1, 2, source=source)
    model, source, prompt = given("t5", tmp_path)
    host = DecodingHost(lower_decoding(config, model, 1, 2, source=5), machine_start(config))
    with pytest.raises(ValueError, match="an encoder with a source"):
        generate(host, prompt, 2)
    with pytest.raises(ValueError, match="source must be of 5 positions, not 4"):
        generate(host, prompt, 2, source=np.zeros(4, int))


@pytest.mark.parametrize("name, times", [("whisper", 2), ("t5", 1)])
def test_time_to_the_first_token_has_the_encoder_in_it(name, times, tmp_path):
    config = AcceleratorConfig("posit8", dim=4)
    model, source, prompt = given(name, tmp_path)
    values = source.values[0]
    decoding = lower_decoding(config, model, 1, 2, source=len(values))
    made = generate(DecodingHost(decoding, machine_start(config)), prompt, 2, source=values)
    whole, without = (timing(config, made, encoding) for encoding in (decoding.encoding, None))
    assert whole.prompt > times * without.prompt > 0 and whole.tokens == without.tokens > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["whisper", "t5", "bloom", "mistral"])
def test_text_on_rtl(name, tmp_path):
    config = AcceleratorConfig("posit8", dim=4)
    model, source, prompt = given(name, tmp_path)
    values = None if source is None else source.values[0]
    decoding = lower_decoding(config, model, len(prompt), 3, chunk=3,
                              source=None if values is None else len(values))
    # Every byte of the memory is compared with the machine model's after every start.
    host = DecodingHost(decoding, rtl_start(built(config)))
    made = generate(host, prompt, 3, source=values)
    assert made.ran.cycles > 10_000 and made.ran.compared > 100_000
    print(f"{name}: {made.ran.compared} bytes compared, {made.ran.cycles} cycles")
