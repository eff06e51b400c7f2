"""The functions beyond softmax's: each BF16 word, and FP32 words by class."""

import math

import numpy as np
import pytest

from gen.block import design_block
from hdl.arith.activation import Activation as ActivationUnit
from hdl.spec.activations import ACTIVATIONS, fit
from hdl.spec.commands import Function
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16, BINARY32
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from sim.harness.operands import lane_words
from sim.model import lanes
from sim.model.rounding import from_words, to_words
from support import golden
from support.sabotage import with_fault

FUNCTIONS = [Function.INVERSE_SQRT, *ACTIVATIONS]
LANES = {"posit8": BFLOAT16, "bf16": BINARY32}
EVERY = np.arange(1 << 16)


def words_for(lane):
    """Every BF16 word; for FP32 lanes each of them, its neighbours, and words by class."""
    if lane == BFLOAT16:
        return EVERY
    rng = np.random.default_rng(13)
    ties = EVERY << 16 | 0x8000
    return np.concatenate([EVERY << 16, ties, ties - 1, ties + 1,
                           rng.integers(0, 1 << 32, 100_000), lane_words(lane, 100_000, rng)])


def run(batch, function, words, fault=0):
    given = {"value": words, "fault": fault}
    if "function_" in batch.inputs:
        given["function_"] = int(function)
    return batch.run(given)["result"]


def batch_of(fmt, name):
    config = AcceleratorConfig(fmt=fmt, functions="training")
    return config, Batch(with_fault(design_block(name, config), "result", 0), name)


def blocks_of(fmt):
    """The unit that serves all activations, and the inverse square root, by function."""
    config, activation = batch_of(fmt, "activation")
    _, inverse = batch_of(fmt, "inverse_sqrt")
    return config, {f: inverse if f == Function.INVERSE_SQRT else activation for f in FUNCTIONS}


@pytest.fixture(scope="module", params=LANES)
def built(request):
    return blocks_of(request.param)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name.lower())
def test_every_word(built, function):
    config, batches = built
    lane = config.lane
    words = words_for(lane)
    expected = to_words(lane, lanes.apply(config, function, from_words(lane, words)))
    expected = expected.astype(np.uint32)
    got = run(batches[function], function, words)
    cases = check(f"{function.name.lower()} {lane.name}", got, expected, {"value": words})
    assert cases >= 1 << 16
    faulty = run(batches[function], function, words, fault=1)
    assert count_mismatches(faulty, expected) == np.count_nonzero(expected == 0) > 0


def sigmoid(x):
    return (1 + math.tanh(x / 2)) / 2


def normal_slope(x):
    return math.erfc(-x / math.sqrt(2)) / 2 + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


SLOPES = {
    Function.GELU_SLOPE: lambda x: normal_slope(x) if abs(x) < 40 else float(x > 0),
    Function.SILU_SLOPE: lambda x: sigmoid(x) * (1 + x * sigmoid(-x)),
}
REAL = SLOPES | {
    Function.INVERSE_SQRT: lambda x: 1 / math.sqrt(x),
    Function.SIGMOID: lambda x: (1 + math.tanh(x / 2)) / 2 if x > -30 else math.exp(x),
    Function.SILU: lambda x: x / (1 + math.exp(-x)) if x > -700 else 0.0,
    Function.TANH: math.tanh,
    Function.GELU: lambda x: x * math.erfc(-x / math.sqrt(2)) / 2,
    Function.GELU_SIGMOID: lambda x: x / (1 + math.exp(-1.702 * x)) if x > -400 else 0.0,
}


def real(function, x):
    return np.array([REAL[function](value) for value in x.tolist()])


SLOPE_ERRORS = {Function.GELU_SLOPE: (.0016, .0043), Function.SILU_SLOPE: (.0010, .00414)}


@pytest.mark.parametrize("function", SLOPES, ids=lambda function: function.name.lower())
def test_error_of_a_slope(built, function):
    """That of the table, in fixed point, and with the rounding, half an ulp of results near 1."""
    config, batches = built
    words = EVERY << config.lane.bits - 16
    words = words[np.isfinite(from_words(config.lane, words))]
    x = from_words(config.lane, words)
    found = from_words(config.lane, run(batches[function], function, words))
    error = np.abs(found - real(function, x)).max()
    alone, rounded = SLOPE_ERRORS[function]
    print(f"{function.name.lower()} {config.lane.name}: {x.size} cases, error max {error:.5f}")
    # FP32 holds what the table gives.
    assert error <= (alone if config.lane == BINARY32 else rounded)
    assert x.size == 65_280 and error > alone / 2


@pytest.mark.parametrize("function", SLOPES, ids=lambda function: function.name.lower())
def test_slopes_of_opposite_words_add_to_one(built, function):
    """In FP32, which holds both: f'(-x) = 1 - f'(x) to the bit."""
    config, batches = built
    words = np.arange(1 << 15, dtype=np.int64) << config.lane.bits - 16
    words = words[words < 255 << config.lane.fraction_bits]
    up, down = (from_words(config.lane, run(batches[function], function, words | sign))
                for sign in (0, 1 << config.lane.bits - 1))
    if config.lane == BINARY32:
        assert np.array_equal(up + down, np.ones_like(up))
    assert (down < 0).sum() > 100 and (up > 1).sum() > 100


@pytest.mark.parametrize("function", [f for f in FUNCTIONS if f not in SLOPES],
                         ids=lambda function: function.name.lower())
def test_error_against_the_real_function(built, function):
    """At most 1 BF16 ulp or 2^-9; only small parts of a negative x need the second."""
    config, batches = built
    words = EVERY << config.lane.bits - 16
    x = from_words(config.lane, words)
    words = words[np.isfinite(x) & (np.abs(x) >= 2.0 ** -126)
                  & ((x > 0) | (function != Function.INVERSE_SQRT))]
    x = from_words(config.lane, words)
    exact = real(function, x)
    error = np.abs(from_words(config.lane, run(batches[function], function, words)) - exact)
    normal = np.abs(exact) >= 2.0 ** -126
    ulps = np.where(normal, error, 0) / 2.0 ** (np.frexp(np.where(normal, exact, 1))[1] - 8)
    positive, beyond = x > 0, ulps > 1
    print(f"{function.name.lower()} {config.lane.name}: {x.size} cases, x > 0 ulp max "
          f"{ulps[positive].max():.3f} mean {ulps[positive].mean():.3f}; {beyond.sum()} beyond 1 "
          f"ulp, their error max 2^-9 x {512 * error[beyond].max(initial=0):.3f}")
    assert x.size > 30_000
    assert ulps[positive].max() <= 1
    assert error[beyond].max(initial=0) <= 2.0 ** -9
    assert np.all(x[beyond] < -1)
    assert error[~normal].max(initial=0) <= 2.0 ** -126


RISING = {Function.SIGMOID: (0.0, 1.0), Function.TANH: (-1.0, 1.0)}


@pytest.mark.parametrize("function", RISING, ids=lambda function: function.name.lower())
def test_what_rises_never_steps_back_and_stays_in_its_range(built, function):
    config, batches = built
    words = words_for(config.lane)
    x = from_words(config.lane, words)
    order = np.argsort(x[~np.isnan(x)], kind="stable")
    words = words[~np.isnan(x)][order]
    found = from_words(config.lane, run(batches[function], function, words))
    steps = np.diff(found)
    print(f"{function.name.lower()} {config.lane.name}: {words.size} cases in order, "
          f"{np.count_nonzero(steps > 0)} steps up, {np.count_nonzero(steps < 0)} down")
    low, high = RISING[function]
    assert np.all(steps >= 0) and np.count_nonzero(steps) > 500
    assert found[0] == low and found[-1] == high


SPECIAL = {  # of -Inf, -0, +0, +Inf; NaN gives NaN
    Function.INVERSE_SQRT: ("nan", "largest", "largest", 0.0),
    Function.SIGMOID: (0.0, 0.5, 0.5, 1.0), Function.TANH: (-1.0, -0.0, 0.0, 1.0),
    **dict.fromkeys(SLOPES, (0.0, 0.5, 0.5, 1.0)),
    **dict.fromkeys((Function.SILU, Function.GELU, Function.GELU_SIGMOID),
                    (-0.0, -0.0, 0.0, np.inf)),
}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name.lower())
def test_limits(built, function):
    config, batches = built
    lane = config.lane
    tiny = 1 << lane.fraction_bits - 1  # a subnormal
    minus, infinity = 1 << lane.bits - 1, 255 << lane.fraction_bits
    words = np.array([minus | infinity, minus, minus | tiny, tiny, 0, infinity, infinity | 1,
                      minus | infinity | tiny])
    got = run(batches[function], function, words)
    low, minus_zero, plus_zero, high = (
        infinity - 1 if value == "largest" else int(to_words(lane, [float(value)])[0])
        for value in SPECIAL[function])
    assert got.tolist() == [low, minus_zero, minus_zero, plus_zero, plus_zero, high, lane.nan,
                            lane.nan]


def test_tables_are_those_that_the_fit_gives():
    wanted = {
        Function.SIGMOID: fit(lambda a: 1 / (1 + math.exp(a)), 4, falls=True),
        Function.GELU_SIGMOID: fit(lambda a: 1 / (1 + math.exp(1.702 * a)), 3),
        Function.GELU: fit(lambda a: math.erfc(a / math.sqrt(2)) / 2, 2),
        Function.TANH: fit(
            lambda a: 1 - math.tanh(a) if a >= 1 else math.tanh(a) / a if a else 1.0, 2,
            falls=True),
        Function.GELU_SLOPE: fit(lambda a: math.erfc(a / math.sqrt(2)) / 2 - a * math.exp(
            -a * a / 2) / math.sqrt(2 * math.pi), 2),
        Function.SILU_SLOPE: fit(lambda a: (1 - a * sigmoid(a)) * sigmoid(-a), 4),
    }
    wanted[Function.SILU] = wanted[Function.SIGMOID]
    assert {f: activation.segments for f, activation in ACTIVATIONS.items()} == wanted


@pytest.mark.parametrize("fmt, function", [*(("posit8", function) for function in ACTIVATIONS),
                                           ("bf16", Function.GELU)])
def test_a_block_of_one_function(fmt, function):
    config, alone = batch_of(fmt, function.name.lower())
    words = words_for(config.lane)
    expected = lanes.apply(config, function, from_words(config.lane, words))
    expected = to_words(config.lane, expected).astype(np.uint32)
    assert "function_" not in alone.inputs
    check(f"{function.name.lower()} {config.lane.name} alone", run(alone, function, words),
          expected, {"value": words})


def test_only_activations_make_an_activation():
    with pytest.raises(ValueError, match="functions must be of SIGMOID, .*, not"):
        ActivationUnit(BFLOAT16, (Function.EXP,))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name.lower())
def test_golden_vectors(built, function):
    config, batches = built
    (group,) = golden.groups("functions", lane=config.lane.name, function=function.name.lower())
    words, expected = golden.words(group, "value"), golden.words(group, "result")
    check(f"golden {function.name.lower()} {config.lane.name}",
          run(batches[function], function, words), expected, {"value": words})
