"""Memory that tensors share: none that live at once meet, and little is wasted."""

from hypothesis import given
from hypothesis import strategies as st

from compiler.lowering.memory import Span, share
from support.properties import examples

LENGTH = 30
UNIT = 16


@st.composite
def spans(draw):
    first = draw(st.integers(0, LENGTH))
    return Span(UNIT * draw(st.integers(1, 9)), first, draw(st.integers(first, LENGTH)))


@examples(300)
@given(st.lists(spans(), max_size=14))
def test_what_lives_at_once_lies_apart(asked):
    starts, size = share(asked)
    assert len(starts) == len(asked)
    for op in range(LENGTH + 1):
        taken = set()
        for start, span in zip(starts, asked, strict=True):
            if span.first <= op <= span.last:
                own = set(range(start, start + span.size, UNIT))
                assert not own & taken
                taken |= own
    assert all(start >= 0 and start % UNIT == 0 for start in starts)
    assert size == max((start + span.size for start, span in zip(starts, asked, strict=True)),
                       default=0)
    assert size <= sum(span.size for span in asked)


@examples(100)
@given(st.lists(spans(), min_size=1, max_size=14))
def test_what_follows_one_another_takes_the_place_of_the_largest(asked):
    # Each lives for one op of its own.
    apart = [Span(span.size, index, index) for index, span in enumerate(asked)]
    starts, size = share(apart)
    assert set(starts) == {0} and size == max(span.size for span in asked)
