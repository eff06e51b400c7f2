"""Reciprocal: lane words by class against the model of the build's mode."""

import cocotb

from sim.bench.support import configuration, drive, expect, generator, report, sample
from sim.harness.operands import lane_words
from sim.model.lanes import reciprocal
from sim.model.rounding import from_words, to_words

CASES = 4000


@cocotb.test()
async def words_by_class(dut):
    config, rng = configuration(), generator()
    lane = config.lane
    words = lane_words(lane, CASES, rng)
    expected = to_words(lane, reciprocal(config, from_words(lane, words)))
    for word, result in zip(words, expected, strict=True):
        await drive(dut, value=word)
        expect(sample(dut, "result")[0], result, f"reciprocal of {word:#x}")
    report(words.size, 0)
