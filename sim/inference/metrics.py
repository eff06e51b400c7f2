"""How right a model is on a data set, with 95 % confidence intervals."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["METRICS", "Estimate", "answer_f1", "estimate", "exact", "flips", "measure", "ranks",
           "word_errors"]

Outcome = Mapping[str, Any]
Columns = Mapping[str, np.ndarray]
_RESAMPLES = 1000
_Z = 1.959963984540054  # of a normal distribution, 95 % in the middle

# Articles and punctuation do not count in answers, as SQuAD's own script has it.
_ARTICLES = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True)
class Estimate:
    """``value`` with the ends of its interval, of ``count`` examples."""

    value: float
    low: float
    high: float
    count: int


def _normal(text: str) -> list[str]:
    plain = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return _ARTICLES.sub(" ", plain).split()


def exact(answer: str, right: Sequence[str]) -> float:
    """1 where the answer is one of the right ones, else 0."""
    return float(any(_normal(answer) == _normal(one) for one in right))


def answer_f1(answer: str, right: Sequence[str]) -> float:
    """Of words, against the right answer that is nearest."""
    return max(_overlap(_normal(answer), _normal(one)) for one in right)


def _overlap(own: list[str], right: list[str]) -> float:
    if not own or not right:
        return float(own == right)
    common = sum((Counter(own) & Counter(right)).values())
    return 2 * common / (len(own) + len(right))


def word_errors(said: str, right: str) -> tuple[int, int]:
    """Words to change, put in or leave out until what is said is right, the fewest, and words of
    what is right; case and punctuation do not count."""
    own, words = (_words(text) for text in (said, right))
    fewest = np.arange(len(own) + 1)  # from nothing to each beginning of what is said
    for number, word in enumerate(words, 1):
        before, fewest = fewest, np.empty_like(fewest)
        fewest[0] = number
        for place, other in enumerate(own, 1):
            fewest[place] = min(before[place - 1] + (word != other), before[place] + 1,
                                fewest[place - 1] + 1)
    return int(fewest[-1]), len(words)


def _words(text: str) -> list[str]:
    return "".join(" " if unicodedata.category(sign)[0] in "PS" and sign not in "'’" else sign
                   for sign in text.lower()).split()


def ranks(values: np.ndarray) -> np.ndarray:
    """Places in the order of values, from 1; equal ones share the mean of theirs."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((2 * last - counts + 1) / 2)[where]


def _accuracy(own: Columns) -> float:
    return float(np.mean(own["predicted"] == own["label"]))


def _f1(own: Columns) -> float:
    """Of answers the mean over examples; of classes the mean over those that occur."""
    if "f1" in own:
        return float(np.mean(own["f1"]))
    predicted, right, found = own["predicted"], own["label"], []
    for name in np.unique(right):
        both = np.sum((predicted == name) & (right == name))
        found.append(2 * both / (np.sum(predicted == name) + np.sum(right == name)))
    return float(np.mean(found))


def _exact_match(own: Columns) -> float:
    return float(np.mean(own["exact"]))


def _perplexity(own: Columns) -> float:
    """e to the mean loss of a token, all texts together."""
    return float(np.exp(own["loss"].sum() / own["tokens"].sum()))


def _wer(own: Columns) -> float:
    """Errors of all texts over their words."""
    return float(own["errors"].sum() / max(own["words"].sum(), 1))


def _spearman(own: Columns) -> float:
    """Correlation of ranks; NaN where one side is all the same."""
    a, b = (ranks(own[name]) for name in ("similarity", "score"))
    a, b = a - a.mean(), b - b.mean()
    length = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / length) if length else float("nan")


METRICS: dict[str, Callable[[Columns], float]] = {
    "accuracy": _accuracy, "f1": _f1, "exact-match": _exact_match, "perplexity": _perplexity,
    "spearman": _spearman, "wer": _wer}
_SHARES = ("accuracy", "exact-match")


def columns(outcomes: Sequence[Outcome]) -> Columns:
    """What all outcomes say, by name."""
    return {name: np.array([one[name] for one in outcomes]) for name in outcomes[0]}


def measure(metric: str, outcomes: Sequence[Outcome]) -> float:
    """The metric of ``outcomes``."""
    return METRICS[metric](columns(outcomes))


def estimate(metric: str, outcomes: Sequence[Outcome], seed: int = 0) -> Estimate:
    """The metric of ``outcomes`` with its interval: of shares Wilson's, of others what 1,000
    samples of the examples, drawn with replacement by ``seed``, give in 95 %."""
    own, count = columns(outcomes), len(outcomes)
    value = METRICS[metric](own)
    if metric in _SHARES:
        middle = (value + _Z ** 2 / (2 * count)) / (1 + _Z ** 2 / count)
        half = _Z / (1 + _Z ** 2 / count) * np.sqrt(
            value * (1 - value) / count + _Z ** 2 / (4 * count ** 2))
        return Estimate(value, float(max(0.0, middle - half)), float(min(1.0, middle + half)),
                        count)
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(_RESAMPLES):
        chosen = rng.integers(0, count, count)
        drawn.append(METRICS[metric]({name: values[chosen] for name, values in own.items()}))
    finite = [one for one in drawn if np.isfinite(one)] or [value]
    low, high = np.percentile(finite, [2.5, 97.5])
    return Estimate(value, float(low), float(high), count)


def flips(own: Sequence[Outcome], other: Sequence[Outcome]) -> int | None:
    """How many decisions differ between two builds on the same examples; ``None``: there are no
    decisions."""
    for name in ("predicted", "answer"):
        if name in own[0]:
            return sum(a[name] != b[name] for a, b in zip(own, other, strict=True))
    return None
