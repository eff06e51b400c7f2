"""Texts side by side give what each gives alone, by its own programs."""

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.samples import llama
from compiler.lowering.decoding import lower_decoding
from compiler.lowering.fusion import fusion_named
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.regression import small_accelerator
from sim.cycles.check import TOLERANCE
from sim.inference.generate import DecodingHost, fp32_greedy, generate
from sim.inference.timing import timing
from sim.inference.together import generate_together
from sim.verify.report import cosine
from sim.verify.starts import machine_start, rtl_start
from support.families import stored

RNG = np.random.default_rng(7)
PROMPTS = [RNG.integers(0, 40, length) for length in (5, 2, 7)]


def together(config, model, start, prompts=PROMPTS, new=5, level="residual", **options):
    longest = max(map(len, prompts))
    decoding = lower_decoding(config, model, longest, new, chunk=3, sequences=len(prompts),
                              level=fusion_named(level))
    return generate_together(DecodingHost(decoding, start), prompts, new, **options)


@pytest.mark.parametrize("fmt, fusion", [("posit8", "none"), ("posit8", "residual"),
                                         ("fp8", "norm"), ("bf16", "residual")])
def test_logits_are_near_those_of_each_alone(fmt, fusion):
    """Not the same bits: rotations by other angles round otherwise."""
    config, model = AcceleratorConfig(fmt, dim=4), llama()
    found = together(config, model, machine_start(config), level=fusion)
    for own, prompt in zip(found, PROMPTS, strict=True):
        decoding = lower_decoding(config, model, len(prompt), 5, chunk=3,
                                  level=fusion_named(fusion))
        alone = generate(DecodingHost(decoding, machine_start(config)), prompt, 5)
        same = int(np.argmin([*(a == b for a, b in zip(own.ids, alone.ids, strict=True)), False]))
        assert own.prompt.tolist() == prompt.tolist() and len(own.ids) == 5
        near = min(cosine(*rows) for rows in zip(own.logits[:same + 1], alone.logits[:same + 1],
                                                 strict=True))
        assert near > (0.9995 if fmt == "bf16" else 0.98), near


def test_the_longest_has_the_bits_that_it_has_alone():
    config, model = AcceleratorConfig("posit8", dim=4), llama()
    found = together(config, model, machine_start(config))[2]
    decoding = lower_decoding(config, model, 7, 5, chunk=3)
    alone = generate(DecodingHost(decoding, machine_start(config)), PROMPTS[2], 5)
    assert found.ids == alone.ids and np.array_equal(found.logits, alone.logits)


def test_neighbours_do_not_show():
    """Other prompts beside it leave a sequence's bits as they are."""
    config, model = AcceleratorConfig("posit8", dim=4), llama()
    others = [PROMPTS[0] ^ 1, PROMPTS[1], PROMPTS[2] ^ 3]
    first, second = (together(config, model, machine_start(config), prompts)
                     for prompts in (PROMPTS, others))
    assert first[1].ids == second[1].ids and np.array_equal(first[1].logits, second[1].logits)
    assert not np.array_equal(first[0].logits, second[0].logits)


@pytest.mark.parametrize("name", ("qwen3", "smollm3", "gptj", "gemma", "cohere"))
def test_families_say_what_their_fp32_model_does(name, tmp_path):
    model, config = load(stored(name).write(tmp_path / "model")), AcceleratorConfig("bf16", dim=4)
    words = len(model.embedding.table)
    prompts = [prompt % words for prompt in PROMPTS]
    found = together(config, model, machine_start(config), prompts, new=3)
    same = [list(own.ids) == fp32_greedy(model, prompt, 3)
            for own, prompt in zip(found, prompts, strict=True)]
    assert sum(same) >= 2, same


def test_stop_tokens_end_each_by_itself():
    config, model = AcceleratorConfig("bf16", dim=4), llama(3)
    whole = together(config, model, machine_start(config))
    stop = whole[0].ids[1]
    found = together(config, model, machine_start(config), stop={stop})
    for own, other in zip(found, whole, strict=True):
        length = other.ids.index(stop) + 1 if stop in other.ids else 5
        assert own.ids == other.ids[:length] and own.stopped == (stop in other.ids)


def test_each_draws_by_a_seed_of_its_own():
    config, model = AcceleratorConfig("bf16", dim=4), llama()
    prompts = [PROMPTS[0]] * 3
    found = together(config, model, machine_start(config), prompts, temperature=5.0)
    assert len({own.ids for own in found}) > 1
    again = together(config, model, machine_start(config), prompts, temperature=5.0)
    assert [own.ids for own in found] == [own.ids for own in again]


def test_on_rtl_every_byte_and_the_cycles_of_the_model():
    machine = small_accelerator("posit8")
    found = together(machine.config, llama(), rtl_start(machine), new=3)
    wanted = together(machine.config, llama(), machine_start(machine.config), new=3)
    assert [own.ids for own in found] == [own.ids for own in wanted]
    assert all(np.array_equal(a.logits, b.logits) for a, b in zip(found, wanted, strict=True))
    print(f"{found[0].ran.compared} bytes compared, {found[0].ran.cycles} cycles")
    assert found[0].ran.compared > 100_000
    for own in found:  # the first tokens of all come after all prompts
        told = timing(machine.config, own)
        assert told.count == 2 and told.prompt > told.tokens > 0
        assert abs((told.prompt + told.tokens) / own.ran.cycles - 1) < TOLERANCE


@pytest.mark.parametrize("name", ("gpt2", "mistral", "bloom"))
def test_models_that_cannot_be_moved_are_refused(name, tmp_path):
    model = load(stored(name).write(tmp_path / "model"))
    with pytest.raises(ValueError, match="positions are told by rotation alone") as caught:
        lower_decoding(AcceleratorConfig("posit8"), model, 3, 2, sequences=2)
    assert "\n" not in str(caught.value)
    config = AcceleratorConfig("posit8", dim=4)
    with pytest.raises(ValueError, match="prompts must be 2, not 3"):
        generate_together(DecodingHost(lower_decoding(config, llama(), 7, 2, sequences=2),
                                       machine_start(config)), PROMPTS, 2)
