"""How queries are cut by what they see."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints.inputs import Step
from compiler.checkpoints.samples import bert, inputs_for, llama
from compiler.lowering.lower import lower
from compiler.lowering.units import SPAN, Span, spans_of
from hdl.spec.config import AcceleratorConfig


def attention(window=None):
    return replace(llama().blocks[0].attention, window=window)


def step(length, past=0, room=None):
    return Step("", 1, length, past, None, room=room)


@pytest.mark.parametrize("window", [None, 1, 100, 128, 129, 700])
@pytest.mark.parametrize("length, past", [(129, 0), (300, 0), (300, 77), (512, 600)])
def test_what_a_span_leaves_out_none_of_its_queries_sees(length, past, window):
    found = spans_of(attention(window), step(length, past))
    assert len(found) == -(-length // SPAN) > 1
    assert [query for span in found for query in range(span.first, span.first + span.rows)] == (
        list(range(length)))
    for span in found:
        queries = past + span.first + np.arange(span.rows)
        seen = ~attention(window).hidden(queries, np.arange(past + length)).all(axis=0)
        left_out = np.delete(np.arange(past + length), span.seen)
        assert not seen[left_out].any()
        # No more than a span's worth too much at its beginning, nothing at its end.
        assert seen[span.seen.stop - 1] and span.seen.start % SPAN == 0
        assert np.flatnonzero(seen)[0] - span.seen.start < SPAN


def test_what_stays_whole():
    assert spans_of(attention(), step(SPAN)) == [Span(0, SPAN, range(SPAN))]
    assert spans_of(attention(), step(300, room=600)) == [Span(0, 300, range(300))]
    assert spans_of(attention(), step(300), whole=True) == [Span(0, 300, range(300))]
    assert spans_of(bert().blocks[0].attention, step(300)) == [Span(0, 300, range(300))]


def test_a_long_text_takes_fewer_products():
    config, model = AcceleratorConfig("posit8", dim=4), llama(layers=1)
    short, long = (lower(config, model, inputs_for(model, length)).macs for length in (128, 512))
    per_position = (short - 2 * 128 * 128 * 16) / 128  # all but scores and sums
    scores = sum(128 * 128 * count for count in (1, 2, 3, 4)) * 2 * 16
    # The head is of the last position alone.
    assert long == pytest.approx(512 * per_position + scores, rel=0.001)
