"""Programs of training steps on the machine model against the same steps computed without one:
every gradient tensor, master, moment, scale and merged weight, item by item."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.description import Linear
from compiler.checkpoints.inputs import Inputs
from compiler.training.description import AdamW, LowRank, Momentum, Sgd, Training, WholeMatrices
from compiler.training.programs.lower import lower_training
from compiler.training.programs.scales import CLIP
from hdl.spec.config import AcceleratorConfig
from support.require import require
from support.training_steps import (
    Both,
    digits,
    paragraphs,
    real,
    sentences,
    spans,
    training,
    windows,
)
from support.wrong_programs import keys_as_they_are

FORMATS = ("posit8", "posit8es2", "fp8", "bf16")
OPTIMISERS = {"adamw": AdamW(), "momentum": Momentum(), "sgd": Sgd(),
              "adamw decay": AdamW(decay=0.01)}


def config(fmt="posit8", softmax="pwl", **choices):
    return AcceleratorConfig(fmt, softmax=softmax, functions="training", **choices)


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
    assert not both.wrong and both.compared > 30_000


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


@pytest.mark.parametrize(("fmt", "softmax", "how"), [
    ("posit8", "pwl", {"micro": 2}), ("fp8", "approx_shifted", {"recompute": 1}),
    pytest.param("posit8es2", "approx", {"head": False}, marks=pytest.mark.slow),
    pytest.param("bf16", "pwl", {"micro": 1}, marks=pytest.mark.slow)])
def test_spans_have_the_bits_of_the_rules(fmt, softmax, how):
    """First and last position of each sentence, what pads never among them."""
    own = training(**how)
    both = Both(config(fmt, softmax), own, work=spans(own)).calibrate()
    for _ in range(3):
        both.step()
    print(f"{fmt} spans: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 30_000


@pytest.mark.slow
@pytest.mark.parametrize(("fmt", "softmax", "optimiser", "micro"), list(itertools.product(
    FORMATS, ("pwl", "approx_shifted"), ("adamw", "momentum", "sgd"), (4, 1))))
def test_twenty_steps_of_every_kind(fmt, softmax, optimiser, micro):
    both = run(20, fmt, softmax, optimiser, micro=micro)
    assert not both.wrong and both.compared > 1_000_000


@pytest.mark.parametrize(("fmt", "method"), [
    ("posit8", LowRank(rank=4)), ("fp8", WholeMatrices(("v", "down"))),
    pytest.param("bf16", LowRank(rank=4), marks=pytest.mark.slow)])
def test_batches_of_three_micro_batches_have_the_bits_of_the_rules(fmt, method):
    """A third is rounded, once."""
    own = training(batch=6, micro=2, method=method)
    both = Both(config(fmt), own, work=sentences(own)).calibrate().step().step()
    print(f"{fmt} in thirds: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 10_000


@pytest.mark.parametrize(("fmt", "softmax"), [
    ("posit8", "approx_shifted"), ("fp8", "pwl"),
    pytest.param("bf16", "pwl", marks=pytest.mark.slow)])
def test_padded_texts_have_the_bits_of_the_rules(fmt, softmax):
    """The next id of each position that has one, of texts of 2 to 6 ids."""
    own = training(method=LowRank(("q", "v", "down"), 4), head=False, recompute=1)
    both = Both(config(fmt, softmax), own, work=paragraphs(own)).calibrate().step().step().step()
    print(f"{fmt} padded texts: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 10_000
    batch = next(both.batches)
    wrong = replace(batch, valid=batch.valid[:, ::-1])
    with pytest.raises(ValueError, match="what pads must come last"):
        both.host.gradients(wrong)


def test_padded_texts_in_micro_batches_are_refused():
    own = training(micro=2, head=False)
    work = paragraphs(own)
    with pytest.raises(ValueError, match="micro must be batch = 4 where sequences are padded and "
                                         "the loss is over the vocabulary .*, not 2"):
        lower_training(config(), work.model, own, work.sample, kind="vocabulary")


@pytest.mark.parametrize("fmt", ["posit8", pytest.param("fp8", marks=pytest.mark.slow)])
def test_a_head_over_a_vocabulary_has_the_bits_of_the_rules(fmt):
    """Its own, not the embedding's table."""
    own = training(method=LowRank(("q", "down"), 4), micro=2)
    work = windows(own)
    head = np.random.default_rng(3).normal(0, 0.3, work.model.head.weight.shape)
    work = replace(work, model=replace(work.model, head=Linear(head.astype(np.float32))))
    both = Both(config(fmt), own, work=work).calibrate().step().step()
    print(f"{fmt} head: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and "head.weight" in both.host.program.layout.places


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


@pytest.mark.parametrize(("fmt", "softmax", "optimiser", "targets", "work", "how"), [
    ("posit8", "pwl", "adamw decay", ("q", "k", "v", "output", "up", "down"), sentences,
     {"micro": 2}),
    ("fp8", "approx_shifted", "momentum", ("down", "v", "up"), spans, {"recompute": 1}),
    pytest.param("posit8es2", "approx", "sgd", ("q", "k", "v", "output", "gate", "up", "down"),
                 windows, {"head": False}, marks=pytest.mark.slow),
    pytest.param("bf16", "pwl", "adamw", ("v", "k", "q"), sentences, {"micro": 1},
                 marks=pytest.mark.slow)])
def test_whole_matrices_have_the_bits_of_the_rules(fmt, softmax, optimiser, targets, work, how):
    own = training(method=WholeMatrices(targets), optimiser=OPTIMISERS[optimiser], **how)
    both = Both(config(fmt, softmax), own, work=work(own)).calibrate()
    before = both.masters()
    for _ in range(3):
        both.step()
    print(f"{fmt} whole {','.join(targets)}: {both.compared - both.different} of "
          f"{both.compared} items")
    assert not both.wrong and both.compared > 20_000
    after = both.masters()
    assert len(before) == len(own.trained(both.work.model))
    assert all((before[name] != after[name]).any() for name in before)


@pytest.mark.parametrize("optimiser", ["adamw", pytest.param("sgd", marks=pytest.mark.slow)])
def test_more_rows_than_stay_on_chip_have_the_bits_of_the_rules(optimiser):
    """Their squares are added up by group; the norm is beyond the limit."""
    own = training(batch=2, method=WholeMatrices(), optimiser=OPTIMISERS[optimiser])
    both = Both(config(dim=4, acc_depth=16), own).calibrate().step().step()
    layout, clip = both.host.program.layout, both.host.program.tensors.tables
    found = both.host.read(clip.table.block(clip.word(CLIP), 0, 1, 1)).item()
    print(f"{both.compared - both.different} of {both.compared} items, {layout.groups} groups, "
          f"clipped by {found}")
    assert not both.wrong and layout.groups == 7 and 0 < found < 0.5


def test_a_matrix_that_is_not_renewed_is_found():
    own = training(method=WholeMatrices(("q", "up")))
    both = Both(config(), own, work=sentences(own)).calibrate().step()
    assert not both.wrong
    matrix = both.host.program.tensors.renewed["blocks.1.query.weight"]
    both.host.write(matrix, both.host.read(matrix).T)
    assert {"blocks.1 ds", "blocks.0 dqkv", "low"} <= both.step().wrong


def test_ends_of_spans_that_are_exchanged_are_found():
    own = training(head=False)
    both = Both(config(), own, work=spans(own)).calibrate()
    write = both.host.write
    labels = both.host.program.batch.labels

    def exchanged(tensor, values):
        write(tensor, values[::-1] if tensor is labels else values)

    both.host.write = exchanged
    assert {"value of the loss", "loss"} & both.step().wrong == {"loss"}


@pytest.mark.parametrize(("changes", "message"), [
    ({"pooling": "first"}, "must give 2 logits of each position, pooling none, for a loss over "
                           "spans, not 2 with pooling first"),
    ({"head": None}, "random BERT must have a head to be trained")])
def test_spans_that_cannot_be_lowered_are_refused(changes, message):
    own = training(batch=1, head=False)
    work = spans(own)
    with pytest.raises(ValueError, match=message):
        lower_training(config(), replace(work.model, **changes), own, work.sample, kind="spans")


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


@pytest.mark.parametrize(("targets", "changes", "message"), [
    (("embeddings",), {}, "targets must not name 'embeddings': the gradient of an embedding table "
                          "is a scatter"),
    (("q", "gate"), {}, "targets of random BERT must be some of q, k, v, output, up, down, not "
                        "'gate'"),
    (("q",), {"head": True}, "head of random BERT cannot be trained: it is the embedding's table")])
def test_whole_matrices_that_cannot_be_trained_are_refused(targets, changes, message):
    with pytest.raises(ValueError, match=message):
        lower_whole(targets, **changes)


def lower_whole(targets, head=False):
    """``head``: with one that is the embedding's table."""
    own = training(batch=1, method=WholeMatrices(targets), head=head)
    work = sentences(own)
    model = work.model
    if head:
        model = replace(model, head=Linear(model.embedding.table))
    lower_training(config(), model, own, work.sample)
