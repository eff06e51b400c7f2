import math
from itertools import pairwise

import pytest

from compiler.checkpoints import samples
from compiler.training.description import (
    AdamW,
    LowRank,
    Momentum,
    Sgd,
    Training,
    WholeMatrices,
)
from support import networks


@pytest.mark.parametrize("make, message", [
    (lambda: LowRank(()), r"targets must be some of q, k, v, output, gate, up, down, not \(\)"),
    (lambda: LowRank("qv"), "targets must be some of .*, not 'qv'"),
    (lambda: LowRank(("q", "w")), "targets must be some of .*, not 'w'"),
    (lambda: LowRank(("q", "q")), "targets must name 'q' once"),
    (lambda: LowRank(("embedding",)), "targets must not name 'embedding': .* is a scatter"),
    (lambda: WholeMatrices(("q", "table")), "targets must not name 'table'"),
    (lambda: LowRank(rank=0), "rank must be a whole number of at least 1, not 0"),
    (lambda: LowRank(rank=True), "rank must be a whole number of at least 1, not True"),
    (lambda: LowRank(alpha=-1.0), "alpha must be a number above 0, not -1.0"),
    (lambda: LowRank(alpha=math.inf), "alpha must be a number above 0"),
    (lambda: LowRank(dropout=0.1), "dropout must be 0, not 0.1: no command draws random"),
    (lambda: Sgd(decay=-0.1), "decay must be a number at least 0 and at most 1, not -0.1"),
    (lambda: Momentum(1.0), "momentum must be a number at least 0 and below 1, not 1.0"),
    (lambda: AdamW(beta1=1), "beta1 must be a number at least 0 and below 1, not 1"),
    (lambda: AdamW(beta2=math.nan), "beta2 must be a number .*, not nan"),
    (lambda: AdamW(eps=1e-30), "eps must be a number at least .* not 1e-30"),
    (lambda: Training(optimiser="adamw"), "optimiser must be one of Sgd, Momentum, AdamW, not 'a"),
    (lambda: Training(method=None), "method must be one of LowRank, WholeMatrices, not None"),
    (lambda: Training(rate=0), "rate must be a number above 0, not 0"),
    (lambda: Training(rate="1e-3"), "rate must be a number above 0, not '1e-3'"),
    (lambda: Training(steps=0), "steps must be a whole number of at least 1, not 0"),
    (lambda: Training(batch=8, micro=3), "micro must be a divisor of batch = 8, not 3"),
    (lambda: Training(recompute=-1), "recompute must be a whole number of at least 0, not -1"),
    (lambda: Training(schedule="step"), "schedule must be one of linear, cosine, not 'step'"),
    (lambda: Training(backward="eq5"), "backward must be one of ordinary, centred, not 'eq5'"),
    (lambda: Training(warmup=1.0), "warmup must be a number at least 0 and below 1, not 1.0"),
    (lambda: Training(clip=0), "clip must be a number above 0, not 0"),
    (lambda: Training(seed=-1), "seed must be a whole number of at least 0, not -1")])
def test_what_cannot_be_is_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_defaults_are_those_of_the_paper():
    training = Training()
    assert training.method.alpha == 2 * training.method.rank == 16 and training.method.scale == 2
    assert training.optimiser == AdamW(0.9, 0.99) and training.micro == training.batch == 32
    assert (training.clip, training.warmup, training.schedule) == (1.0, 0.06, "linear")


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_rates_rise_and_fall_and_are_never_zero(schedule):
    training = Training(rate=2.0, steps=100, schedule=schedule)
    rates = [training.rate_at(step) for step in range(1, 101)]
    assert training.warm_steps == 6
    assert rates[:7] == pytest.approx([2 * step / 6 for step in range(1, 7)] + [2.0])
    assert all(a > b > 0 for a, b in pairwise(rates[6:]))
    middle = 2 * (1 - 47 / 94) if schedule == "linear" else 1 + math.cos(math.pi / 2)
    assert rates[53] == pytest.approx(middle)
    assert Training(steps=1, warmup=0.0).rate_at(1) == 1e-3


def test_a_second_moment_that_stops_falling_is_warned_of():
    slow = AdamW(beta2=0.999)
    assert Training(optimiser=slow, steps=500).warnings() == []
    assert Training(steps=5000).warnings() == [] == Training(optimiser=Sgd(), steps=900).warnings()
    assert Training(optimiser=slow, steps=501).warnings() == [
        "beta2 of 0.999 over 501 steps: in BF16 the second moment hardly falls any more beyond 500 "
        "steps; 0.99 is safe"]


def test_what_is_trained_goes_by_name():
    model, _, _ = networks.bert()
    assert Training(LowRank(("v", "up"), rank=2)).trained(model) == [
        f"blocks.{index}.{part}.lora_{matrix}" for index in (0, 1) for part in ("value", "up")
        for matrix in "ab"] + ["head.weight", "head.bias"]
    assert Training(WholeMatrices(("down",)), head=False).trained(model) == [
        "blocks.0.down.weight", "blocks.1.down.weight"]


@pytest.mark.parametrize("model, training, message", [
    (samples.bert(), Training(LowRank(("gate",))),
     "targets of random BERT must be some of q, k, v, output, up, down, not 'gate'"),
    (samples.bert(), Training(LowRank(("q",), rank=13)),
     "rank must be from 1 to 12, the smaller side of q in random BERT, not 13"),
    (samples.bert(), Training(LowRank(("q",))), "head of random BERT cannot be trained: it has"),
    (samples.llama(), Training(LowRank(("q",))),
     "head of random Llama cannot be trained: it is the embedding's table")])
def test_what_the_model_lacks_is_refused(model, training, message):
    with pytest.raises(ValueError, match=message):
        training.trained(model)
