"""Properties with examples that hypothesis draws, and shrinks where one fails.

The same examples every time by default. ``OTTAVA_EXAMPLES=20`` draws twenty times as many, new
ones in each run; a failure then prints what draws it again.
"""

import os
from functools import cache
from typing import Any, cast

import numpy as np
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture.providers import HypothesisProvider
from hypothesis.internal.constants_ast import Constants

from sim.campaigns.programs import Case, ProgramMaker

from .seeds import seed_of

__all__ = ["DrawnGenerator", "cases", "examples"]

TIMES = int(os.environ.get("OTTAVA_EXAMPLES", "1"))


# Hypothesis also tries constants of the modules that are loaded, and has no setting for it. Which
# these are depends on the tests that this process ran before; the examples must not.
HypothesisProvider._local_constants = Constants()  # type: ignore[assignment, method-assign]


def examples(count: int, *words: object) -> Any:
    """Settings of a property that ``count`` examples show, more of them at night.

    ``words`` tell properties of one function apart, which else draw the same examples.
    No deadline: the machine may be busy. Nothing is kept between runs.
    """
    chosen = settings(max_examples=count * TIMES, derandomize=TIMES == 1, deadline=None,
                      database=None, print_blob=True,
                      suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    if not words or TIMES > 1:
        return chosen
    return lambda test: seed(seed_of(*words))(chosen(test))


@cache
def _between(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)  # making one takes longer than drawing from it


class DrawnGenerator:
    """In the place of ``numpy.random.Generator`` for generators of cases: each choice is drawn by
    hypothesis, so that a failing case shrinks: to few, small and plain parts.

    Arrays come from a generator whose seed is drawn.
    """

    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def _number(self, low: int, high: int) -> int:
        return self._draw(_between(low, high))

    def _array(self) -> np.random.Generator:
        return np.random.default_rng(self._number(0, 255))

    def integers(self, low: int, high: int | None = None, size: Any = None, **options: Any) -> Any:
        if size is not None:
            return self._array().integers(low, high, size, **options)
        first, end = (0, low) if high is None else (low, high)
        return self._number(int(first), int(end) - (not options.get("endpoint", False)))

    def random(self, size: Any = None) -> Any:
        """Shrinks towards 1: what happens with a probability then does not."""
        if size is not None:
            return self._array().random(size)
        return 1 - (self._number(0, 19) + 0.5) / 20

    def choice(self, items: Any, size: Any = None, **options: Any) -> Any:
        if size is not None or options:
            return self._array().choice(items, size, **options)
        return items[self._number(0, len(items) - 1)]

    def __getattr__(self, name: str) -> Any:
        """Other distributions: arrays, or one number of the seeded generator."""
        return getattr(self._array(), name)


def _drawn(draw: Any) -> np.random.Generator:
    return cast(np.random.Generator, DrawnGenerator(draw))


@st.composite
def _round(draw: Any, maker: ProgramMaker) -> None:
    maker.rng = _drawn(draw)
    maker.round()


@st.composite
def cases(draw: Any, config: Any, rounds: int = 1, largest: int = 13) -> Case:
    """A random program of up to ``rounds`` of ``random_case``, rarely none."""
    maker = ProgramMaker(config, _drawn(draw), largest)
    # The number before them all, and each by itself: hypothesis then lowers it and drops any one.
    for _ in range(draw(_between(0, rounds))):
        draw(_round(maker))
    maker.rng = _drawn(draw)
    return maker.case()
