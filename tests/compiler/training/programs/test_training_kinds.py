"""Programs of other training steps against the same steps computed without one: losses over spans,
whole matrices, padded texts, heads over a vocabulary."""

from dataclasses import fields, replace

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.description import Linear
from compiler.checkpoints.inputs import Inputs
from compiler.lowering.rotary import model_halves_first
from compiler.program.tensor import Tensor
from compiler.training.description import LowRank, WholeMatrices
from compiler.training.gradients.network import Batch
from compiler.training.programs.lower import lower_training
from compiler.training.programs.memory import bytes_by_kind
from compiler.training.programs.scales import CLIP
from compiler.training.tasks import with_head
from compiler.training.trainer import batches
from support.families import stored
from support.training_steps import (
    OPTIMISERS,
    Both,
    Work,
    config,
    images,
    masked,
    pairs,
    paragraphs,
    sentences,
    spans,
    tagged,
    training,
    windows,
)


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
    assert not both.wrong and both.compared > 30_000 and both.shorter


def test_all_that_the_host_writes_is_memory_of_the_batch():
    own = training(batch=2)
    work = pairs(own)
    program = lower_training(config(), work.model, own, work.sample, kind=work.kind)
    tensors = [part for field in fields(program.batch)
               for part in np.ravel(getattr(program.batch, field.name))
               if isinstance(part, Tensor)]
    assert program.batch.segments in tensors and program.batch.masks in tensors
    assert bytes_by_kind(program)["batch"] == sum(tensor.span for tensor in tensors)


@pytest.mark.parametrize("fmt", ["posit8", pytest.param("fp8", marks=pytest.mark.slow)])
def test_kinds_of_positions_have_the_bits_of_the_rules(fmt):
    """Each batch has others; kinds of another batch are found, and kinds that nobody gave."""
    own = training(micro=2)
    both = Both(config(fmt), own, work=pairs(own)).calibrate().step().step()
    print(f"{fmt} kinds: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 20_000 and both.shorter
    batch = next(both.batches)
    same = both.host.gradients(batch)[0]
    assert both.host.gradients(replace(batch, segments=2 - batch.segments))[0] != same
    with pytest.raises(ValueError, match="segments must be given to this program if and only if"):
        both.host.gradients(replace(batch, segments=None))


@pytest.mark.parametrize("fmt", ["posit8", pytest.param("fp8", marks=pytest.mark.slow)])
def test_classes_of_tokens_have_the_bits_of_the_rules(fmt):
    """Of some positions; each batch has others, and as many as it has."""
    both = Both(config(fmt), training(), work=tagged(training())).calibrate().step().step()
    print(f"{fmt} tokens: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 20_000 and both.shorter
    batch = next(both.batches)
    same = both.host.gradients(batch)[0]
    labels = np.where(batch.labels < 0, batch.labels, 2 - batch.labels)
    assert both.host.gradients(replace(batch, labels=labels))[0] != same


@pytest.mark.parametrize(("fmt", "softmax", "activation"), [
    ("posit8", "pwl", "gelu"), ("fp8", "approx_shifted", "relu"),
    pytest.param("posit8es2", "approx", "silu", marks=pytest.mark.slow),
    pytest.param("bf16", "pwl", "gelu", marks=pytest.mark.slow)])
def test_masked_words_have_the_bits_of_the_rules(fmt, softmax, activation):
    """Through a head of two layers, the last the embedding's table."""
    own = training(head=False)
    work = masked(own, activation)
    both = Both(config(fmt, softmax), own, work=work).calibrate().step().step().step()
    print(f"{fmt} masked: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 30_000 and both.shorter
    assert {"head h", "head d", "head du"} <= both.host.program.sites.keys()


def test_a_slope_of_a_head_of_two_layers_that_is_lost_is_found(monkeypatch):
    own = training(head=False)
    both = Both(config(), own, work=masked(own)).calibrate()
    right = both.numerics.slope
    monkeypatch.setattr(both.numerics, "slope", lambda name, x: (
        x * 0 + 1 if x.shape[-1] == both.work.model.width else right(name, x)))
    assert "head du" in both.step().wrong


@pytest.mark.parametrize(("changes", "sample", "how", "message"), [
    ({}, {}, {"micro": 2}, "micro must be batch = 4 where not every position counts"),
    ({"pooling": "first"}, {}, {}, "takes a model that is not causal and pools nothing"),
    ({}, {"valid": None}, {}, "valid must be given of a batch with labels of tokens")])
def test_classes_of_tokens_that_cannot_be_lowered_are_refused(changes, sample, how, message):
    own = training(**how)
    work = tagged(own)
    with pytest.raises(ValueError, match=message):
        lower_training(config(), replace(work.model, **changes), own,
                       replace(work.sample, **sample), kind="tokens")


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


@pytest.mark.parametrize(("fmt", "softmax"), [
    ("posit8", "approx_shifted"), ("fp8", "pwl"),
    pytest.param("bf16", "pwl", marks=pytest.mark.slow)])
def test_padded_texts_have_the_bits_of_the_rules(fmt, softmax):
    """The next id of each position that has one, of texts of 2 to 6 ids."""
    own = training(method=LowRank(("q", "v", "down"), 4), head=False, recompute=1)
    both = Both(config(fmt, softmax), own, work=paragraphs(own)).calibrate().step().step().step()
    print(f"{fmt} padded texts: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 10_000 and both.shorter
    batch = next(both.batches)
    wrong = replace(batch, valid=batch.valid[:, ::-1])
    with pytest.raises(ValueError, match="what pads must come last"):
        both.host.gradients(wrong)


@pytest.mark.parametrize("fmt", ["posit8", pytest.param("bf16", marks=pytest.mark.slow)])
def test_the_first_position_after_a_final_norm_has_the_bits_of_the_rules(fmt):
    own = training(micro=2)
    both = Both(config(fmt), own, work=images(own)).calibrate().step().step()
    print(f"{fmt} first: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 10_000


@pytest.mark.parametrize(("fmt", "work", "activation"), [
    ("fp8", images, "relu"), ("posit8", windows, "gelu"),
    pytest.param("bf16", images, "relu", marks=pytest.mark.slow),
    pytest.param("bf16", windows, "gelu_sigmoid", marks=pytest.mark.slow)])
def test_activations_have_the_bits_of_the_rules(fmt, work, activation):
    """The gated ones of gates, too."""
    own = training(micro=2, head=work is images)
    both = Both(config(fmt), own, work=work(own, activation)).calibrate().step().step()
    print(f"{fmt} {activation}: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 10_000


def family(name, own, folder):
    """The small model ``name`` of those that are compared with transformers, on random inputs and
    three classes, or of a causal one the next ids."""
    case = stored(name)
    model = model_halves_first(load(case.write(folder / name)))
    given, rng = case.inputs(model), np.random.default_rng(0)
    shape = (8, *given.values.shape[1:])
    if given.kind == "patches":
        inputs = rng.normal(0, 1, shape) * (given.values != 0)
    else:
        inputs = rng.integers(3, len(model.embedding.table) - 1, shape)
    causal = model.blocks[0].attention.causal
    model = replace(model if causal else with_head(model, 3), blocks=tuple(model.blocks))
    data = Batch(inputs, inputs if causal else rng.integers(0, 3, 8))
    return Work(model, batches(data, own.batch, 0), Inputs(given.kind, inputs[:own.micro]),
                "vocabulary" if causal else "classes")


@pytest.mark.parametrize("name", ["vit", *(pytest.param(name, marks=pytest.mark.slow) for name in (
    "bert", "roberta-masked", "distilbert", "electra-sequence", "llama"))])
def test_families_have_the_bits_of_the_rules(name, tmp_path):
    own = training(2, LowRank(("q", "v", "up", "down"), 2), head=name != "llama")
    both = Both(config(), own, work=family(name, own, tmp_path)).calibrate().step()
    print(f"{name}: {both.compared - both.different} of {both.compared} items")
    assert not both.wrong and both.compared > 20_000


def test_a_first_position_that_pads_is_refused():
    own = training(batch=2)
    work = sentences(own, "first")
    wrong = replace(work.sample, valid=work.sample.valid & (np.arange(8) > 0))
    with pytest.raises(ValueError, match="first position of each sequence must be valid"):
        lower_training(config(), work.model, own, wrong)
    both = Both(config(), own, work=work)
    batch = next(both.batches)
    with pytest.raises(ValueError, match="first position of each sequence must be valid"):
        both.host.gradients(replace(batch, valid=np.ones_like(batch.valid) & (
            np.arange(batch.valid.shape[1]) > 0)))


def test_padded_texts_in_micro_batches_are_refused():
    own = training(micro=2, head=False)
    work = paragraphs(own)
    with pytest.raises(ValueError, match="micro must be batch = 4 where not every position counts "
                                         "in the loss .*, not 2"):
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


def test_gates_of_relu_are_refused():
    own = training(head=False)
    with pytest.raises(ValueError, match="a gated feed-forward must have gelu, .* not relu"):
        Both(config(), own, work=windows(own, "relu"))
