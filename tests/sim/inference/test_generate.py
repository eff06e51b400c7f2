import numpy as np
import pytest

from compiler.checkpoints.samples import llama
from compiler.lowering.decoding import lower_decoding
from hdl.spec.config import AcceleratorConfig
from sim.campaigns.regression import small_accelerator
from sim.cycles.check import TOLERANCE
from sim.inference.generate import DecodingHost, choose, fp32_greedy, generate
from sim.inference.timing import timing
from sim.verify.runner import RunError
from sim.verify.starts import machine_start, rtl_start

PROMPT = np.random.default_rng(5).integers(0, 40, 5)


def host(fmt="bf16", new=8, chunk=2, **options):
    config = AcceleratorConfig(fmt, dim=4)
    return DecodingHost(lower_decoding(config, llama(**options), 5, new, chunk=chunk),
                        machine_start(config))


def test_the_text_of_the_fp32_model():
    same = 0
    for seed in range(12):
        own = host(seed=seed, new=6)
        found = generate(own, PROMPT, 6)
        assert found.logits.shape == (6, 40) and not found.stopped
        assert [own.length for own, _ in found.passes] == [2, 2, 2, 1, 1, 1, 1, 1]
        assert [past for _, past in found.passes] == [0, 2, 4, 5, 6, 7, 8, 9]
        same += list(found.ids) == fp32_greedy(llama(seed), PROMPT, 6)
    assert same >= 9  # where two logits are nearer than BF16 tells apart, another one is right too


def test_another_chunk_and_another_sequence_give_the_same():
    own, other = host(), host(chunk=5)
    first = generate(own, PROMPT, 8)
    assert generate(other, PROMPT, 8).ids == first.ids
    generate(own, PROMPT[:3], 8)
    again = generate(own, PROMPT, 8)
    assert again.ids == first.ids and np.array_equal(again.logits, first.logits)


def test_every_token_of_a_prompt_counts_until_the_first_one():
    told, one_by_one = (timing(own.decoding.image.config, generate(own, PROMPT, 3))
                        for own in (host(new=3, chunk=5), host(new=3, chunk=1)))
    assert told.count == one_by_one.count == 2 and told.tokens == one_by_one.tokens
    assert one_by_one.prompt > 2 * one_by_one.tokens  # five positions, and two


def test_stop_tokens():
    whole = generate(host(), PROMPT, 8)
    stop = whole.ids[2]
    found = generate(host(), PROMPT, 8, stop={stop, 99})
    length = whole.ids.index(stop) + 1
    assert found.ids == whole.ids[:length] and found.stopped
    first = fp32_greedy(llama(), PROMPT, 1)
    assert fp32_greedy(llama(), PROMPT, 8, set(first)) == first


def test_temperature_draws_by_its_seed():
    own = host()
    found = [generate(own, PROMPT, 8, temperature=3.0, seed=seed).ids for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert generate(own, PROMPT, 8, temperature=1e-3, seed=1).ids == generate(own, PROMPT, 8).ids


def test_tokens_are_drawn_as_often_as_they_are_likely():
    rng, logits = np.random.default_rng(0), np.array([0.0, 1.0, 2.0])
    for temperature in (0.5, 2.0):
        count = np.bincount([choose(logits, temperature, rng) for _ in range(4000)], minlength=3)
        likely = np.exp(logits / temperature)
        assert np.allclose(count / 4000, likely / likely.sum(), atol=0.03)
    assert choose(np.array([1.0, 3.0, 3.0]), 0, rng) == 1
    with pytest.raises(ValueError, match="logits must be numbers, but 1 of 2 are not"):
        choose(np.array([1.0, np.nan]), 0, rng)


def test_a_program_that_stops_is_told():
    own = host()
    own.memory[own.decoding.passes[0].template.address:][:4] = 0
    with pytest.raises(RunError, match="stopped with BAD_MAGIC"):
        generate(own, PROMPT, 2)


def test_on_rtl_every_byte_and_the_cycles_of_the_model():
    machine = small_accelerator("posit8")
    decoding = lower_decoding(machine.config, llama(), 5, 4, chunk=3)
    found = generate(DecodingHost(decoding, rtl_start(machine)), PROMPT, 4)
    model = generate(DecodingHost(decoding, machine_start(machine.config)), PROMPT, 4)
    assert found.ids == model.ids and np.array_equal(found.logits, model.logits)
    assert found.ran.compared == 5 * decoding.image.memory.size
    told = timing(machine.config, found)
    assert told.count == 3 and told.prompt > told.tokens / 3 > 0
    print(f"{found.ran.compared} bytes compared, {found.ran.cycles} cycles")
    assert abs((told.prompt + told.tokens) / found.ran.cycles - 1) < TOLERANCE
    assert "tokens/s at 500 MHz" in told.lines(500)[1]
