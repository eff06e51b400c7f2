"""Memory that tensors share."""

import numpy as np

from compiler.lowering.memory import Span, share


def meetings(spans, starts):
    """Pairs that live at the same time and share a byte, and pairs that were looked at."""
    found = looked = 0
    for index, (one, start) in enumerate(zip(spans, starts, strict=True)):
        for other, other_start in zip(spans[:index], starts[:index], strict=True):
            looked += one.meets(other)
            found += (one.meets(other) and start < other_start + other.size
                      and other_start < start + one.size)
    return found, looked


def test_spans_meet_where_an_op_has_both():
    assert Span(1, 0, 3).meets(Span(1, 3, 5)) and Span(1, 2, 2).meets(Span(1, 0, 9))
    assert not Span(1, 0, 2).meets(Span(1, 3, 5))


def test_memory_is_used_again():
    starts, size = share([Span(32, 0, 1), Span(32, 1, 2), Span(32, 2, 3), Span(16, 3, 4)])
    assert starts[0] == starts[2] != starts[1] and size == 64
    assert share([]) == ([], 0)
    assert share([Span(48, 0, 0)]) == ([0], 48)


def test_a_gap_between_two_that_live_is_filled():
    # The two large ones leave 16 bytes between what lies below and above.
    spans = [Span(64, 0, 4), Span(48, 0, 2), Span(32, 3, 4), Span(16, 3, 4), Span(16, 0, 9)]
    starts, size = share(spans)
    assert meetings(spans, starts) == (0, 8) and size == 64 + 48 + 16


def test_random_tensors_never_meet_and_little_is_lost():
    rng = np.random.default_rng(0)
    looked, waste = 0, []
    for _ in range(60):
        count = int(rng.integers(1, 80))
        spans = []
        for _ in range(count):
            first = int(rng.integers(0, 60))
            spans.append(Span(16 * int(rng.integers(1, 40)), first,
                              first + int(rng.integers(0, 12))))
        starts, size = share(spans)
        found, pairs = meetings(spans, starts)
        assert not found and all(start % 16 == 0 for start in starts)
        assert max(start + span.size for start, span in zip(starts, spans, strict=True)) == size
        least = max(sum(span.size for span in spans if span.first <= op <= span.last)
                    for op in range(72))
        assert least <= size <= sum(span.size for span in spans)
        looked += pairs
        waste.append(size / least)
    print(f"{looked} pairs; {np.mean(waste):.3f} times the most alive at once, "
          f"{max(waste):.2f} at most")
    assert looked > 5000 and np.mean(waste) < 1.1


def test_the_check_finds_tensors_that_meet():
    assert meetings([Span(32, 0, 1), Span(32, 1, 2)], [0, 16]) == (1, 1)
