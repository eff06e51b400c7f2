import math

import numpy as np
import pytest

from sim.inference.metrics import answer_f1, estimate, exact, flips, measure, ranks


def classes(*pairs):
    return [{"predicted": own, "label": right} for own, right in pairs]


def test_shares_and_wilson():
    found = estimate("accuracy", classes(*[(1, 1)] * 8, (0, 1), (1, 0)))
    assert found.value == 0.8 and found.count == 10
    assert found.low == pytest.approx(0.4902, abs=1e-4)
    assert found.high == pytest.approx(0.9433, abs=1e-4)
    none, every = (estimate("accuracy", classes(*[(own, 1)] * 5)) for own in (0, 1))
    assert none.low == 0 and 0.3 < none.high < 0.5 and every.high == 1 and 0.5 < every.low < 0.7


def test_f1_of_classes_is_the_mean_over_those_that_occur():
    # Of 0: 2 of 3 found, 1 wrong: 2/3; of 1: 1 of 2 found, 1 wrong: 1/2.
    outcomes = classes((0, 0), (0, 0), (1, 0), (1, 1), (0, 1))
    assert measure("f1", outcomes) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert measure("f1", classes((2, 0), (0, 0))) == pytest.approx(2 / 3)


@pytest.mark.parametrize("answer, right, whole, part", [
    ("the Rome!", ["rome"], 1, 1), ("Rome and Paris", ["Paris"], 0, 0.5),
    ("a b c", ["x y", "b c d"], 0, 2 * 2 / 5), ("", ["Rome"], 0, 0), ("", ["the"], 1, 1),
    ("rome rome", ["rome"], 0, 2 / 3)])
def test_answers(answer, right, whole, part):
    assert exact(answer, right) == whole
    assert answer_f1(answer, right) == pytest.approx(part)


def test_ranks_and_their_correlation():
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1, 3.5, 2]
    rows = [{"similarity": a, "score": b} for a, b in zip(
        (0.1, 0.5, 0.9, 0.7), (1, 2, 4, 3), strict=True)]
    assert measure("spearman", rows) == pytest.approx(1)
    # The textbook's sum of squared differences of ranks: 1 − 6 · 4 / (4 · 15).
    rows = [{"similarity": a, "score": b} for a, b in zip(
        (1, 2, 3, 4), (2, 1, 4, 3), strict=True)]
    assert measure("spearman", rows) == pytest.approx(1 - 6 * 4 / 60)
    assert math.isnan(measure("spearman", [{"similarity": 1, "score": 2}] * 3))


def test_perplexity_is_of_all_tokens_together():
    rows = [{"loss": 2 * math.log(8), "tokens": 2}, {"loss": math.log(2), "tokens": 1}]
    assert measure("perplexity", rows) == pytest.approx(8 ** (2 / 3) * 2 ** (1 / 3))


def test_intervals_cover_what_they_say():
    """95 % of the intervals of samples hold the value of all."""
    rng, held = np.random.default_rng(0), 0
    every = [{"loss": float(loss), "tokens": 10} for loss in rng.gamma(4, 10, 4000)]
    whole = measure("perplexity", every)
    for _ in range(40):
        found = estimate("perplexity", [every[i] for i in rng.integers(0, 4000, 60)], seed=1)
        assert found.low < found.value < found.high
        held += found.low <= whole <= found.high
    assert 33 <= held <= 40


def test_flips():
    assert flips(classes((1, 1), (0, 1)), classes((1, 0), (1, 1))) == 1
    assert flips([{"answer": "a"}], [{"answer": "b"}]) == 1
    assert flips([{"loss": 1}], [{"loss": 2}]) is None
