"""Exponential: lane words by class against the model of the build's mode."""

import cocotb
import numpy as np

from sim.bench.support import configuration, drive, expect, generator, report, sample
from sim.harness.operands import lane_words
from sim.model.lanes import exp
from sim.model.rounding import from_words, to_words

CASES = 2000


@cocotb.test()
async def words_by_class(dut):
    config, rng = configuration(), generator()
    lane = config.lane
    near_zero = -np.ldexp(rng.integers(0, 256, CASES).astype(float), rng.integers(-12, 2, CASES))
    useful = to_words(lane, near_zero)
    words = np.concatenate([lane_words(lane, CASES, rng), useful.astype(np.int64)])
    expected = to_words(lane, exp(config, from_words(lane, words)))
    for word, result in zip(words, expected, strict=True):
        await drive(dut, value=word)
        expect(sample(dut, "result")[0], result, f"exp of {word:#x}")
    report(words.size, 0)
