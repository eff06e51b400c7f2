"""Programs of training steps on the machine model against the same steps computed without one:
every gradient tensor, master, moment, scale and merged weight, item by item."""

import itertools

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.inputs import Inputs
from compiler.training.description import LowRank, Training, WholeMatrices
from compiler.training.programs.lower import lower_training
from hdl.spec.config import AcceleratorConfig
from support.require import require
from support.training_steps import (
    OPTIMISERS,
    Both,
    config,
    digits,
    images,
    paragraphs,
    real,
    sentences,
    spans,
    training,
    windows,
)
from support.wrong_programs import keys_as_they_are

FORMATS = ("posit8", "posit8es2", "fp8", "bf16")


def run(steps, fmt, softmax, optimiser, **how):
    backward = "ordinary" if softmax == "pwl" else "centred"
    both = Both(config(fmt, softmax), training(
        optimiser=OPTIMISERS[optimiser], backward=backward, **how)).calibrate()
    for _ in range(steps):
        both.step()
    print(f"{fmt} {softmax} {optimiser} {how}: {both.compared - both.different} of "
          f"{both.compared} items in {steps} steps")
    return both


@pytest.mark.parametrize(("steps", "fmt", "softmax", "optimiser", "how"), [
    (20, "posit8", "pwl", "adamw", {"batch": 2}),
    (2, "fp8", "approx_shifted", "momentum", {"micro": 2}),
    (2, "posit8es2", "approx", "sgd", {"micro": 1}),
    (2, "bf16", "pwl", "adamw decay", {"recompute": 1}),
])
def test_steps_have_the_bits_of_the_rules(steps, fmt, softmax, optimiser, how):
    both = run(steps, fmt, softmax, optimiser, **how)
    assert not both.wrong and both.compared > steps * 25_000


@pytest.mark.parametrize(("fmt", "softmax", "pooling", "micro"), [
    ("fp8", "approx_shifted", "first", 2), ("posit8es2", "approx", "mean_l2", 2),
    pytest.param("posit8", "pwl", "mean", 4, marks=pytest.mark.slow),
    pytest.param("bf16", "pwl", "mean_l2", 4, marks=pytest.mark.slow)])
def test_sentences_of_any_length_have_the_bits_of_the_rules(fmt, softmax, pooling, micro):
    own = training(micro=micro)
    both = Both(config(fmt, softmax), own, work=sentences(own, pooling)).calibrate()
    for _ in range(3):
        both.step()
    print(f"{fmt} {pooling}: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 30_000 and both.shorter


@pytest.mark.parametrize(("fmt", "softmax", "micro"), [
    ("posit8", "pwl", 4), pytest.param("fp8", "approx_shifted", 2, marks=pytest.mark.slow),
    pytest.param("bf16", "pwl", 2, marks=pytest.mark.slow)])
def test_a_causal_model_has_the_bits_of_the_rules(fmt, softmax, micro):
    """RMSNorm, rotary embedding, shared keys, gates, a loss over the vocabulary."""
    own = training(method=LowRank(("q", "k", "v", "output", "gate", "up", "down"), 4), head=False,
                   micro=micro, recompute=micro // 4)
    both = Both(config(fmt, softmax), own, work=windows(own)).calibrate()
    for _ in range(3):
        both.step()
    print(f"{fmt} Llama: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 30_000


@pytest.mark.slow
@pytest.mark.parametrize(("fmt", "softmax", "optimiser", "micro"), list(itertools.product(
    FORMATS, ("pwl", "approx_shifted"), ("adamw", "momentum", "sgd"), (4, 1))))
def test_twenty_steps_of_every_kind(fmt, softmax, optimiser, micro):
    both = run(20, fmt, softmax, optimiser, micro=micro)
    # The fewest, 980,280, are SGD's, which has no moments, in bf16, which has no scales, where the
    # last of four micro-batches alone leaves gradients to be compared.
    assert not both.wrong and both.compared > 980_000


@pytest.mark.parametrize(("fmt", "method"), [
    ("posit8", LowRank(rank=4)), ("fp8", WholeMatrices(("v", "down"))),
    pytest.param("bf16", LowRank(rank=4), marks=pytest.mark.slow)])
def test_batches_of_three_micro_batches_have_the_bits_of_the_rules(fmt, method):
    """A third is rounded, once."""
    own = training(batch=6, micro=2, method=method)
    both = Both(config(fmt), own, work=sentences(own)).calibrate().step().step()
    print(f"{fmt} in thirds: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 10_000


@pytest.mark.parametrize(("work", "depth", "how"), [
    (spans, 16, {"recompute": 1}), (digits, 32, {"micro": 2}),
    (windows, 16, {"head": False, "method": LowRank(("q", "v", "gate", "down"), 4)})])
def test_norms_in_turns_with_products_have_the_bits_of_the_rules(work, depth, how):
    """Buffers so small that a norm has several blocks, and is cut."""
    own = training(**how)
    both = Both(config(dim=4, acc_depth=depth), own, work=work(own)).calibrate().step().step()
    names = both.host.program.written["first"]
    cut = {name: names.count(name) for name in names if name.endswith((" d", " T", " slope"))}
    print(f"{both.compared - both.different} of {both.compared} items; commands: {cut}")
    assert not both.wrong and both.compared > 20_000
    last = [count for name, count in cut.items() if name.startswith("blocks.1 ")]
    assert max(last) > 3


BESIDE = LowRank(rank=4, place="beside")
SOME_BESIDE = LowRank(("q", "v", "gate", "down"), 4, place="beside")


@pytest.mark.parametrize(("work", "fmt", "choices", "how"), [
    (digits, "posit8", {}, {"micro": 2}),
    (sentences, "fp8", {"softmax": "approx_shifted"}, {"recompute": 1, "micro": 2}),
    (windows, "posit8", {"acc": "exact"}, {"head": False, "method": SOME_BESIDE}),
    pytest.param(paragraphs, "fp8", {"acc": "fp32"}, {
        "head": False, "method": SOME_BESIDE, "recompute": 1}, marks=pytest.mark.slow),
    pytest.param(windows, "bf16", {}, {"head": False, "micro": 2, "method": SOME_BESIDE},
                 marks=pytest.mark.slow),
    pytest.param(spans, "posit8es2", {}, {}, marks=pytest.mark.slow),
    pytest.param(sentences, "bf16", {}, {}, marks=pytest.mark.slow),
    pytest.param(images, "e5m2", {}, {}, marks=pytest.mark.slow),
    pytest.param(sentences, "posit8", {}, {"batch": 6, "micro": 2}, marks=pytest.mark.slow),
    pytest.param(digits, "posit8es0", {}, {"method": LowRank(("k", "up"), 4, place="beside")},
                 marks=pytest.mark.slow)])
def test_adapters_beside_their_matrices_have_the_bits_of_the_rules(work, fmt, choices, how):
    own = training(**{"method": BESIDE} | how)
    both = Both(config(fmt, **choices), own, work=work(own)).calibrate().step().step()
    sites = [name for name in both.host.program.sites if name.endswith(" U")]
    print(f"{fmt} {work.__name__}: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 14_000 and len(sites) >= 4


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [
    ("bert-tiny", 500_000), ("minilm", 12_000_000), ("smollm2", 118_000_000)])
def test_a_step_of_a_real_model(name, least):
    own, work = real(require(load, name))
    both = Both(config(), own, work=work).calibrate().step()
    print(f"{name}: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > least


def test_recomputing_changes_no_byte_and_takes_less_memory():
    found = []
    for recompute in (0, 1):
        both = Both(config(), training(recompute=recompute), keep=False).calibrate()
        both.step().step()
        assert not both.wrong
        found.append(both.host)
    masters = [host.masters() for host in found]
    assert all(np.array_equal(masters[0][name], masters[1][name]) for name in masters[0])
    assert found[1].memory.size < found[0].memory.size


# Negative controls

def test_a_lower_word_that_is_lost_is_found():
    both = Both(config(), training()).calibrate().step()
    low = both.host.program.tensors.state.low
    both.host.write(low, np.zeros(low.shape))
    assert "high" in both.step().wrong


def test_a_scale_that_is_off_by_two_is_found():
    both = Both(config(), training()).calibrate().step()
    assert not both.wrong
    tables = both.host.program.tensors.tables
    number = next(n for (_, up, down), n in tables.factors.numbers.items() if up == "blocks.1 ds")
    word = tables.table.block(number, 0, 1, 1)
    both.host.write(word, 2 * both.host.read(word))
    assert {"blocks.1 ds", "blocks.1 dqkv"} <= both.step().wrong


def test_an_adapter_beside_its_matrix_that_is_not_renewed_is_found():
    both = Both(config(), training(method=BESIDE)).calibrate().step()
    b = both.host.program.tensors.placed[-1].b
    both.host.write(b, np.zeros(b.shape))
    assert {"blocks.1 feed-forward d U", "high"} <= both.step().wrong


def test_a_magnitude_that_comes_late_is_found():
    both = Both(config(), training())
    both.trainer.calibrate(next(both.batches))
    assert {"loss", "blocks.0 dqkv", "high"} <= both.step().wrong


def test_keys_that_are_not_transposed_are_found(monkeypatch):
    keys_as_they_are(monkeypatch)
    both = Both(config(), training()).calibrate()
    assert "blocks.1 dqkv" in both.step().wrong


def test_a_gradient_that_is_not_finite_leaves_the_masters_of_before():
    both = Both(config(), training()).calibrate().step()
    before = both.host.masters()
    batch = next(both.batches)
    both.host.write(both.host.program.tensors.renewed["head.bias"], np.full((1, 10), np.nan))
    _, norm, ran = both.host.step(batch, 1e-3)
    assert not np.isfinite(norm) and ran.nars
    kept = both.host.masters(before=True)
    assert all(np.array_equal(before[name], kept[name]) for name in before)


@pytest.mark.parametrize(("changes", "message"), [
    (dict(batch=6, micro=2, method=LowRank(rank=4, alpha=5.0)),
     "alpha over rank must be a power of two where batch over micro is none on the accelerator, "
     "not 1.25 where it is 3")])
def test_what_cannot_be_lowered_is_refused(changes, message):
    own = Training(**{"method": LowRank(rank=4), "batch": 2} | changes)
    images = Inputs("patches", np.zeros((own.micro, 16, 4)))
    with pytest.raises(ValueError, match=message):
        lower_training(config(), load("digits-vit"), own, images)
    with pytest.raises(ValueError, match="functions must be training"):
        lower_training(AcceleratorConfig("posit8"), load("digits-vit"), own, images)
