"""Encoder: lane words by class against the definition of rounding."""

import cocotb
import numpy as np

from sim.bench.support import configuration, drive, expect, generator, report, sample
from sim.harness.operands import lane_words
from sim.model.codec import encode
from sim.model.rounding import from_words

CASES = 2000


@cocotb.test()
async def words_by_class(dut):
    config, rng = configuration(), generator()
    fmt, lane = config.format, config.lane
    for index, encoding in enumerate(fmt.encodings):
        words = lane_words(lane, CASES, rng)
        # Exponents around 0, where the 8-bit formats have their boundaries.
        near = rng.integers(0, 1 << lane.bits, CASES) & ~(0xFF << lane.fraction_bits)
        near |= rng.integers(lane.bias - 30, lane.bias + 30, CASES) << lane.fraction_bits
        words = np.concatenate([words, near])
        expected = encode(encoding, from_words(lane, words))
        for word, code in zip(words, expected, strict=True):
            await drive(dut, value=word, **({"e5m2": index} if fmt.hybrid else {}))
            expect(sample(dut, "result")[0], code, f"{encoding.name} of {word:#x}")
    report(2 * CASES * len(fmt.encodings), 0)
