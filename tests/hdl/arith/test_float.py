"""Adder, multiplier and maximum of lanes by class of operands."""

import numpy as np
import pytest

from gen.leaves import Library
from gen.recorder import record
from hdl.arith.accumulator_round import AccumulatorRound
from hdl.arith.float_adder import FloatAdder
from hdl.arith.float_max import FloatMax
from hdl.arith.float_multiplier import FloatMultiplier
from hdl.spec.formats import BFLOAT16, BINARY32
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from sim.harness.operands import lane_words
from sim.model import lanes
from sim.model.rounding import from_words, round_to, to_words
from support import golden
from support.sabotage import with_fault

TYPES = [BFLOAT16, BINARY32]
EACH = 500_000


def build(component, name, output, value):
    library = Library()
    library.add(component, name)
    return Batch(with_fault(record(library, name), output, value), name)


def one(lane):
    return lane.bias << lane.fraction_bits


def classes(lane, rng):
    """Pairs of words by class."""
    f, top = lane.fraction_bits, (1 << lane.exponent_bits) - 1
    sign = lane.bits - 1
    a = lane_words(lane, EACH, rng)
    yield "any", a, lane_words(lane, EACH, rng)
    a = rng.integers(0, 1 << lane.bits, EACH)
    yield "cancellation", a, (a + rng.integers(-3, 4, EACH)) % (1 << sign) | (1 << sign) - (
        (a >> sign) << sign)
    gap = rng.integers(0, f + 5, EACH)
    exponent = np.clip((a >> f & top) - gap, 0, top)
    fraction = rng.integers(0, 1 << f, EACH) & -1 << rng.integers(0, f + 1, EACH)
    near = exponent << f | fraction | rng.integers(0, 2, EACH) << sign
    yield "exponent gaps and ties", a, near
    # Exponents whose product lies about the smallest normal, and about the largest finite.
    for label, total in (("underflow", lane.bias), ("overflow", 3 * lane.bias)):
        first = rng.integers(1, top, EACH)
        second = np.clip(total - first + rng.integers(-3, 4, EACH), 0, top - 1)
        fractions = rng.integers(0, 1 << f, (2, EACH))
        yield label, first << f | fractions[0], second << f | fractions[1]


def run_classes(label, lane, batch, model, extra=None):
    total = 0
    for kind, a, b in classes(lane, np.random.default_rng(3)):
        given = {"a": a, "b": b, "fault": 0, **(extra or {})}
        with np.errstate(invalid="ignore"):
            expected = to_words(lane, model(lane, from_words(lane, a), from_words(lane, b)))
        total += check(f"{label} {lane.name} {kind}", batch.run(given)["o"],
                       expected.astype(np.uint32), given)
    assert total >= 1_000_000


@pytest.mark.parametrize("lane", TYPES, ids=lambda lane: lane.name)
def test_adder(lane):
    batch = build(FloatAdder(lane), "adder", "o", one(lane))
    run_classes("add", lane, batch, lanes.add, {"subtract": 0})
    run_classes("subtract", lane, batch, lanes.subtract, {"subtract": 1})
    given = {"a": np.array([0, one(lane)]), "b": np.array([one(lane), 0]), "subtract": 0}
    sound, faulty = (batch.run(given | {"fault": fault})["o"] for fault in (0, 1))
    assert (sound == one(lane)).all() and count_mismatches(sound, faulty) == 2


def test_binary32_adder_against_the_processor():
    batch = build(FloatAdder(BINARY32), "adder", "o", one(BINARY32))

    def flushed(values):
        small = np.abs(values) < np.float32(2.0 ** -126)
        return np.where(small, np.copysign(np.float32(0), values), values)

    for kind, a, b in classes(BINARY32, np.random.default_rng(4)):
        x, y = (flushed(words.astype(np.uint32).view(np.float32)) for words in (a, b))
        with np.errstate(over="ignore", invalid="ignore"):
            total = flushed(np.add(x, y, dtype=np.float32)).astype(np.float32)
        expected = np.where(np.isnan(total), BINARY32.nan, total.view(np.uint32))
        given = {"a": a, "b": b, "subtract": 0, "fault": 0}
        check(f"processor add {kind}", batch.run(given)["o"], expected, given)


@pytest.mark.parametrize("lane", TYPES, ids=lambda lane: lane.name)
def test_multiplier(lane):
    batch = build(FloatMultiplier(lane), "product", "o", one(lane))
    run_classes("multiply", lane, batch, lanes.multiply)
    given = {"a": np.array([one(lane)]), "b": np.array([one(lane)])}
    sound, faulty = (batch.run(given | {"fault": fault})["o"] for fault in (0, 1))
    assert count_mismatches(sound, faulty) == 1


@pytest.mark.parametrize("lane", TYPES, ids=lambda lane: lane.name)
def test_maximum_of_clean_words(lane):
    batch = build(FloatMax(lane), "maximum", "o", one(lane))
    total = 0
    for kind, a, b in classes(lane, np.random.default_rng(3)):
        a, b = (to_words(lane, lanes.flush(lane, from_words(lane, words))) for words in (a, b))
        given = {"a": a, "b": b, "fault": 0}
        expected = to_words(lane, lanes.maximum(lane, from_words(lane, a), from_words(lane, b)))
        total += check(f"maximum {lane.name} {kind}", batch.run(given)["o"],
                       expected.astype(np.uint32), given)
    assert total >= 1_000_000
    given = {"a": np.array([one(lane)]), "b": np.array([0])}
    sound, faulty = (batch.run(given | {"fault": fault})["o"] for fault in (0, 1))
    assert count_mismatches(sound, faulty) == 1


@pytest.mark.parametrize("acc, lane", [("fp32", BFLOAT16), ("fp32", BINARY32), ("bf16", BFLOAT16)])
def test_rounding_an_accumulator_to_the_lane(acc, lane):
    source = BINARY32 if acc == "fp32" else BFLOAT16
    batch = build(AccumulatorRound(acc, lane.name), "narrow", "result", one(lane))
    rng = np.random.default_rng(9)
    ties = rng.integers(0, 1 << 16, EACH)
    if acc == "fp32":
        ties = (ties << 16 | 0x8000) + rng.integers(-1, 2, EACH)
    total = 0
    for kind, words in (("any", lane_words(source, EACH, rng)), ("ties", ties)):
        # An accumulator holds no subnormal and no NaN but the canonical one.
        words = to_words(source, lanes.flush(source, from_words(source, words)))
        expected = to_words(lane, round_to(lane, from_words(source, words)))
        given = {"value": words, "fault": 0}
        total += check(f"narrow {acc} {lane.name} {kind}", batch.run(given)["result"],
                       expected.astype(np.uint32), given)
    assert total == 2 * EACH
    given = {"value": np.array([one(source)])}
    sound, faulty = (batch.run(given | {"fault": fault})["result"] for fault in (0, 1))
    assert count_mismatches(sound, faulty) == 1


UNITS = {"add": (FloatAdder, "adder", {"subtract": 0}),
         "subtract": (FloatAdder, "adder", {"subtract": 1}),
         "multiply": (FloatMultiplier, "product", {}), "maximum": (FloatMax, "maximum", {})}


@pytest.mark.parametrize("lane", TYPES, ids=lambda lane: lane.name)
@pytest.mark.parametrize("operation", UNITS)
def test_golden_vectors(operation, lane):
    component, name, extra = UNITS[operation]
    batch = build(component(lane), name, "o", one(lane))
    (group,) = golden.groups("lane", lane=lane.name, operation=operation)
    a, b = (golden.words(group, side) for side in ("a", "b"))
    if operation == "maximum":  # what it takes is clean: no subnormal, one NaN
        a, b = (to_words(lane, lanes.flush(lane, from_words(lane, words))) for words in (a, b))
    given = {"a": a, "b": b, "fault": 0, **extra}
    check(f"golden {operation} {lane.name}", batch.run(given)["o"],
          golden.words(group, "result"), given)


@pytest.mark.parametrize("lane", TYPES, ids=lambda lane: lane.name)
def test_golden_rounding(lane):
    batch = build(AccumulatorRound("fp32", lane.name), "narrow", "result", one(lane))
    (group,) = golden.groups("rounding", accumulator="fp32", lane=lane.name)
    given = {"value": golden.words(group, "accumulator"), "fault": 0}
    check(f"golden narrow fp32 {lane.name}", batch.run(given)["result"],
          golden.words(group, "value"), given)
