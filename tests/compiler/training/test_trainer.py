from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.digits import DRAWN, patches
from compiler.training.description import AdamW, LowRank, Sgd, Training, WholeMatrices
from compiler.training.gradients.eight_bit import EightBit
from compiler.training.gradients.network import Batch
from compiler.training.gradients.numerics import Exact
from compiler.training.trainer import NotFinite, Trainer, batches, initial_adapters, trimmed
from hdl.spec.config import AcceleratorConfig
from support import networks

DIGITS = Batch(np.stack([patches(16 - image) for image in DRAWN.values()]), np.arange(10))


def digits(numerics=None, masters="float", **changes):
    chosen = {"method": LowRank(rank=4), "rate": 4e-3, "steps": 60, "batch": 10} | changes
    return Trainer(load("digits-vit"), Training(**chosen), "classes", numerics, masters)


@pytest.mark.parametrize("fmt", ["fp32", "posit8", "fp8"])
def test_inverted_digits_are_learned(fmt):
    numerics = Exact(np.float32) if fmt == "fp32" else EightBit(AcceleratorConfig(fmt))
    trainer = digits(numerics, "float" if fmt == "fp32" else "pair")
    start = trainer.evaluate(DIGITS)
    trainer.calibrate(DIGITS)
    reports = [trainer.step(DIGITS) for _ in range(60)]
    loss, accuracy = trainer.evaluate(DIGITS)
    print(f"{fmt}: loss {start[0]:.3f} to {loss:.3f}, accuracy {start[1]} to {accuracy}")
    assert [report.step for report in reports] == list(range(1, 61))
    assert start[1] <= 0.2 and accuracy == 1 and loss < 0.2
    assert all(np.isfinite(report.norm) and report.rate > 0 for report in reports)


def test_without_adapters_nothing_changes_at_first():
    """B is 0: the first loss is that of the model as it came, A has no gradient, B has."""
    trainer = digits()
    loss, gradients = trainer.gradients(DIGITS)
    assert loss == pytest.approx(trainer.evaluate(DIGITS)[0], rel=1e-5)
    for name, gradient in gradients.items():
        assert gradient.any() != name.endswith("lora_a")


@pytest.mark.parametrize("name", ["bert", "llama", "spans"])
@pytest.mark.parametrize("method", [LowRank(("q", "down"), rank=2), WholeMatrices(("v", "up"))])
def test_micro_batches_add_up_to_the_batch(name, method):
    """Rows of text count alike, however many a micro-batch has of them."""
    model, batch, kind = networks.NETWORKS[name]()
    found = []
    for micro in (len(batch), 1):
        training = Training(method, Sgd(), batch=len(batch), micro=micro, head=name != "llama")
        adapters = None
        if isinstance(method, LowRank):
            adapters = {layer: replace(own, b=np.ones_like(own.b)) for layer, own
                        in initial_adapters(model, training).items()}
        trainer = Trainer(model, training, kind, Exact(), adapters=adapters)
        found.append(trainer.gradients(batch))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    for name, gradient in found[0][1].items():
        assert np.allclose(gradient, found[1][1][name], atol=1e-14) and gradient.any()


def test_recomputing_changes_no_bit_of_training():
    ends = []
    for recompute in (0, 1, 2):
        trainer = digits(EightBit(AcceleratorConfig("posit8")), "pair", recompute=recompute)
        for _ in range(3):
            trainer.step(DIGITS)
        ends.append(trainer.updater.values)
    for other in ends[1:]:
        assert all(np.array_equal(values, other[name]) for name, values in ends[0].items())


def test_a_loss_that_is_not_finite_leaves_what_was_trained():
    trainer = digits()
    trainer.step(DIGITS)
    before = {name: values.copy() for name, values in trainer.updater.values.items()}
    spoiled = Batch(np.where(DIGITS.inputs > 0.5, np.nan, DIGITS.inputs), DIGITS.labels)
    with pytest.raises(NotFinite, match="step 2: loss nan"):
        trainer.step(spoiled)
    assert all(np.array_equal(values, before[name])
               for name, values in trainer.updater.values.items())
    assert trainer.step(DIGITS).step == 2


def test_adapters_start_as_peft_starts_them():
    training = Training(LowRank(("q", "up"), rank=4), seed=3)
    found = initial_adapters(load("digits-vit"), training)
    assert list(found) == [f"blocks.{i}.{part}" for i in (0, 1) for part in ("query", "up")]
    again = initial_adapters(load("digits-vit"), training)
    for layer, own in found.items():
        assert not own.b.any() and own.scale == 2 and np.array_equal(own.a, again[layer].a)
        assert 0.8 / 32 ** 0.5 < np.abs(own.a).max() <= 32 ** -0.5
    other = initial_adapters(load("digits-vit"), replace(training, seed=4))
    assert not np.array_equal(other["blocks.0.up"].a, found["blocks.0.up"].a)


def test_each_pass_reads_every_example_once():
    examples = Batch(np.arange(10)[:, None], np.arange(10))
    drawn = [batch.labels for batch in islice(batches(examples, 3, seed=1), 6)]
    for start in (0, 3):
        assert len(set(np.concatenate(drawn[start:start + 3]))) == 9
    assert not np.array_equal(drawn[:3], drawn[3:])
    again = [batch.labels for batch in islice(batches(examples, 3, seed=1), 6)]
    assert np.array_equal(drawn, again)
    with pytest.raises(ValueError, match="batch must be at most 10, the number of examples"):
        next(batches(examples, 11, seed=0))


def test_padding_that_no_sequence_needs_is_left_out():
    valid = np.arange(64) < np.array([[3], [20]])
    batch = Batch(np.zeros((2, 64), int), np.zeros((2, 64), int), valid)
    cut = trimmed(batch)
    assert cut.inputs.shape == cut.labels.shape == cut.valid.shape == (2, 32)
    assert trimmed(Batch(batch.inputs, batch.labels)).inputs.shape == (2, 64)
    assert trimmed(Batch(np.zeros((1, 20)), np.zeros(1), np.ones((1, 20), bool))
                   ).valid.shape == (1, 20)


def test_evaluation_counts_what_each_loss_predicts():
    model, batch, kind = networks.llama()
    trainer = Trainer(model, Training(LowRank(("q",), rank=1), head=False), kind, Exact())
    loss, share = trainer.evaluate(batch)
    assert loss > 0 and (share * (4 + 2)) % 1 == pytest.approx(0, abs=1e-9)
    model, batch, kind = networks.spans()
    trainer = Trainer(model, Training(LowRank(("q",), rank=1), AdamW()), kind, Exact())
    assert trainer.evaluate(batch)[1] in (0, 1 / 3, 2 / 3, 1)
