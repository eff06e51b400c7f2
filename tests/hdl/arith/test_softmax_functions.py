"""Exp and reciprocal in every mode: each BF16 word, and FP32 words by class."""

import numpy as np
import pytest

from gen.block import design_block
from hdl.spec.config import SOFTMAX_MODES, SOFTMAX_TRICKS, AcceleratorConfig
from hdl.spec.formats import BFLOAT16
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from sim.harness.operands import lane_words
from sim.model import lanes
from sim.model.rounding import from_words, to_words
from support import golden
from support.sabotage import with_fault

# Both lane types in every mode, and the options of the bit tricks.
BUILDS = [
    *({"fmt": "posit8", "softmax": mode} for mode in SOFTMAX_MODES),
    *({"fmt": "bf16", "softmax": mode} for mode in SOFTMAX_MODES),
    {"fmt": "posit8", "softmax": "approx", "exp_epsilon": 100, "exp_theta": -300},
    {"fmt": "posit8", "softmax": "approx", "exp_epsilon": 0, "exp_theta": 0},
    {"fmt": "posit8", "softmax": "approx_shifted", "exact_power_reciprocal": True},
    {"fmt": "bf16", "softmax": "approx_shifted", "exact_power_reciprocal": True},
]
MODELS = {"exp": lanes.exp, "reciprocal": lanes.reciprocal}


def words_for(lane):
    """Every BF16 word; for FP32 lanes each of them, its neighbours, and words by class."""
    every = np.arange(1 << 16)
    if lane == BFLOAT16:
        return every
    rng = np.random.default_rng(13)
    ties = every << 16 | 0x8000
    uniform = rng.integers(0, 1 << 32, 400_000)
    middle = rng.integers(100, 140, 400_000) << 23 | rng.integers(0, 1 << 23, 400_000)
    return np.concatenate([every << 16, ties, ties - 1, ties + 1, uniform,
                           middle | rng.integers(0, 2, 400_000) << 31,
                           lane_words(lane, 200_000, rng)])


def block(name, options):
    config = AcceleratorConfig(**options)
    one = config.lane.bias << config.lane.fraction_bits
    return config, Batch(with_fault(design_block(name, config), "result", one), name)


def label(name, options):
    return f"{name} " + " ".join(str(value) for value in options.values())


@pytest.mark.parametrize("options", BUILDS, ids=lambda options: label("", options).strip())
@pytest.mark.parametrize("name", MODELS)
def test_every_word(name, options):
    config, batch = block(name, options)
    words = words_for(config.lane)
    expected = MODELS[name](config, from_words(config.lane, words))
    expected = to_words(config.lane, expected).astype(np.uint32)
    given = {"value": words, "fault": 0}
    cases = check(label(name, options), batch.run(given)["result"], expected, given)
    assert cases >= (1 << 16 if config.lane == BFLOAT16 else 1_000_000)
    faulty = batch.run(given | {"fault": 1})["result"]
    one = config.lane.bias << config.lane.fraction_bits
    assert count_mismatches(faulty, expected) == np.count_nonzero(expected == one)


def real(name, x):
    with np.errstate(over="ignore"):
        return np.exp(x) if name == "exp" else 1 / x


def domain(name, mode, lane, words):
    """Words on which the error against the real function has a meaning: normal results, and
    arguments of a softmax where a trick is not meant for others."""
    x = from_words(lane, words)
    kept = np.isfinite(x) & (np.abs(x) >= 2.0 ** -126)
    x = np.where(kept, x, 1.0)
    result = np.abs(real(name, x))
    kept &= (result >= 2.0 ** -125) & (result < 2.0 ** 127)
    if name == "exp" and mode != "pwl":
        kept &= x <= 0
    return kept


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("mode", SOFTMAX_MODES)
def test_error_against_the_real_function(name, mode):
    options = {"fmt": "posit8", "softmax": mode}
    _, batch = block(name, options)
    words = np.arange(1 << 16)
    words = words[domain(name, mode, BFLOAT16, words)]
    x = from_words(BFLOAT16, words)
    got = from_words(BFLOAT16, batch.run({"value": words, "fault": 0})["result"])
    exact = real(name, x)
    absolute, relative = np.abs(got - exact), np.abs(got / exact - 1)
    ulps = absolute / 2.0 ** (np.floor(np.log2(np.abs(exact))) - 7)
    print(f"{label(name, options)}: {words.size} cases, absolute error max {absolute.max():.3g} "
          f"mean {absolute.mean():.3g}, relative max {relative.max():.3g} mean "
          f"{relative.mean():.3g}, ulp max {ulps.max():.3g} mean {ulps.mean():.3g}")
    assert words.size > 10_000
    if mode == "pwl" or (name == "reciprocal" and mode not in SOFTMAX_TRICKS):
        assert ulps.max() <= 1
    elif name == "reciprocal":
        assert relative.max() <= 0.125
    elif mode == "linear":
        # Of arguments above -16; below, where the result is 0, the error is at most e^-16.
        signed = (got / exact - 1)[x > -16]
        assert signed.min() > -1e-9 and signed.max() <= 0.1262
        assert absolute[x <= -16].max() <= 2.0 ** -23
    else:
        assert absolute.max() <= 0.16


@pytest.mark.parametrize("name", MODELS)
def test_binary32_tables_reach_their_precision(name):
    config, batch = block(name, {"fmt": "bf16", "softmax": "pwl"})
    words = words_for(config.lane)
    words = words[domain(name, "pwl", config.lane, words)]
    if name == "exp":
        words = words[words & 0xFFFF == 0]  # what the rounding of x adds is not the table's
    got = from_words(config.lane, batch.run({"value": words, "fault": 0})["result"])
    relative = np.abs(got / real(name, from_words(config.lane, words)) - 1)
    print(f"{name} fp32 pwl: {words.size} cases, relative error max {relative.max():.3g}, "
          f"mean {relative.mean():.3g}")
    assert words.size > 10_000 and relative.max() <= 2.0 ** -10


@pytest.mark.parametrize("name", MODELS)
def test_golden_vectors(name):
    groups = list(golden.groups(name))
    for group in groups:
        choice = group[0].choice
        options = {"fmt": {"bf16": "posit8", "fp32": "bf16"}[choice["lane"]]}
        options |= {key: choice[key] for key in ("softmax", "exact_power_reciprocal")
                    if key in choice}
        _, batch = block(name, options)
        given = {"value": golden.words(group, "value"), "fault": 0}
        check(f"golden {label(name, options)}", batch.run(given)["result"],
              golden.words(group, "result"), given)
    assert len(groups) == {"exp": 8, "reciprocal": 10}[name]
