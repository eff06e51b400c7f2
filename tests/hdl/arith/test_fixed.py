"""Units of fixed lanes against exact numbers, by class of operands."""

from fractions import Fraction

import numpy as np
import pytest

from gen.leaves import Library
from gen.recorder import record
from hdl.arith.fixed_codec import FixedEncoder, FixedEntry, FixedRound
from hdl.arith.fixed_multiplier import FixedMultiplier
from hdl.spec.formats import BFLOAT16, FIXED32, FORMATS
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from sim.harness.operands import join_fields, lane_words
from sim.model import fixed
from sim.model.rounding import from_words, round_to, to_words
from support.sabotage import with_fault

EACH = 200_000
EVERY = np.arange(1 << 16)


def build(component, output, value):
    name = type(component).__name__
    library = Library()
    library.add(component, name)
    return Batch(with_fault(record(library, name), output, value), name)


def words_near(shape, rng):
    """BF16 words whose exponents are about those of a word."""
    fields = rng.integers(BFLOAT16.bias - 40, BFLOAT16.bias + 24, shape) << BFLOAT16.fraction_bits
    return fields | rng.integers(0, 128, shape) | rng.integers(0, 2, shape) << 15


@pytest.fixture(scope="module")
def multiplier():
    return build(FixedMultiplier(), "o", 1)


def test_products_by_class(multiplier):
    rng, total = np.random.default_rng(5), 0
    for scale in (0, 1, 2):
        for kind, y in (("any", lane_words(BFLOAT16, EACH, rng)), ("near", words_near(EACH, rng))):
            x = lane_words(FIXED32, EACH, rng)
            given = {"x": x, "y": y, "scale": scale, "fault": 0}
            exact = fixed.multiply(np.ldexp(from_words(FIXED32, x), 16 * scale),
                                   from_words(BFLOAT16, y))
            out = multiplier.run(given)
            total += check(f"fixed product {kind}, scale {scale}", out["o"],
                           to_words(FIXED32, fixed.enter(exact)), given)
            check(f"fixed product clipped {kind}, scale {scale}", out["beyond"],
                  fixed.beyond(exact).astype(np.uint32), given)
    assert total >= 1_000_000


def test_products_on_ties_and_at_the_ends(multiplier):
    """Every fraction of a tie, and both ends to the unit."""
    ties = np.concatenate([np.arange(-256, 256) << shift for shift in (0, 5, 19)])
    x = np.concatenate([ties, FIXED32.most - np.arange(64), FIXED32.least + np.arange(64)])
    x, y = (part.ravel() for part in np.meshgrid(x & 0xFFFFFFFF, to_words(BFLOAT16, np.array([
        s * m * 2.0 ** e for s in (1, -1) for m in (1, 1.5, 1.9921875, 1.0078125)
        for e in (-18, -9, -1, 0, 1, 12)]))))
    given = {"x": x, "y": y, "scale": 0, "fault": 0}
    units = [round(Fraction(int(a)) * Fraction(float(b))) for a, b in zip(
        x.astype(np.uint32).view(np.int32), from_words(BFLOAT16, y), strict=True)]
    wanted = np.array([min(max(own, FIXED32.least), FIXED32.most) for own in units])
    out = multiplier.run(given)
    assert check("fixed product by rational numbers", out["o"], wanted.astype(np.uint32),
                 given) > 50_000
    assert np.array_equal(out["beyond"], wanted != units)
    half_up = np.floor(from_words(FIXED32, x) * 65536 * from_words(BFLOAT16, y) + .5)
    assert count_mismatches(out["o"], np.clip(half_up, FIXED32.least, FIXED32.most)
                            .astype(np.int64).astype(np.uint32)), "ties are among them"
    assert count_mismatches(multiplier.run(given | {"fault": 1})["o"], out["o"])


def test_every_bf16_word_enters():
    given = {"value": EVERY, "fault": 0}
    batch = build(FixedEntry(), "result", 1)
    wanted = to_words(FIXED32, fixed.enter(from_words(BFLOAT16, EVERY)))
    assert check("entry", batch.run(given)["result"], wanted, given) == 1 << 16
    assert count_mismatches(batch.run(given | {"fault": 1})["result"], wanted)


def test_words_leave_as_bf16():
    rng = np.random.default_rng(6)
    words = np.concatenate([lane_words(FIXED32, 1_000_000, rng), np.arange(-5000, 5000)
                            & 0xFFFFFFFF])
    batch = build(FixedRound(), "result", 0x3F80)
    given = {"value": words, "fault": 0}
    wanted = to_words(BFLOAT16, round_to(BFLOAT16, from_words(FIXED32, words)))
    assert check("words to BF16", batch.run(given)["result"], wanted, given) > 1_000_000
    assert count_mismatches(batch.run(given | {"fault": 1})["result"], wanted)


def test_sums_leave_as_bf16():
    rng = np.random.default_rng(7)
    high = rng.integers(-(1 << 39), 1 << 39, 50_000) >> rng.integers(0, 40, 50_000)
    low = rng.integers(0, 1 << 32, 50_000) & -1 << rng.integers(0, 33, 50_000)
    batch = build(FixedRound(72, 32), "result", 1)
    given = {"value": join_fields([(low, 32), (high, 40)]), "fault": 0}
    wanted = [fixed.nearest_float(BFLOAT16, Fraction((int(h) << 32) + int(part), 1 << 32))
              for h, part in zip(high, low, strict=True)]
    assert check("sums to BF16", batch.run(given)["result"],
                 to_words(BFLOAT16, np.array(wanted)), {}) == 50_000


def test_words_become_codes():
    rng = np.random.default_rng(8)
    edge = (np.arange(-300, 300)[:, None] << 16) + (np.arange(-2, 3) + (1 << 15))
    words = np.concatenate([lane_words(FIXED32, 1_000_000, rng), edge.ravel() & 0xFFFFFFFF])
    batch = build(FixedEncoder(FORMATS["int8"]), "result", 1)
    given = {"value": words, "fault": 0}
    near = np.array([round(Fraction(int(own), 1 << 16)) for own in
                     words.astype(np.uint32).view(np.int32)])
    out = batch.run(given)
    assert check("codes of words", out["result"], np.clip(near, -128, 127).astype(np.uint8),
                 given) > 1_000_000
    assert np.array_equal(out["saturated"], (near < -128) | (near > 127))
    symmetric = np.clip(near, -127, 127).astype(np.uint8)
    assert count_mismatches(out["result"], symmetric), "clipping at -127 is seen"
