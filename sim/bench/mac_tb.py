"""MAC: one operation per clock, operands and partial sums by class."""

import cocotb
import numpy as np

from sim.bench.psums import multiply_add, words
from sim.bench.support import configuration, expect, generator, put, report, reset, sample, step
from sim.harness.operands import unpack
from sim.model.accumulate import accumulator_type, fused_multiply_add
from sim.model.codec import decode

CASES = 3000


def _cases(config, rng):
    """Operand values, and partial sums: near the product's size, its opposite, or anything that
    sums of products can be."""
    fmt = config.format
    a, b = (decode(fmt.encodings[-1], rng.integers(0, 1 << fmt.storage_bits, CASES)) for _ in "ab")
    if fmt.storage_bits == 16:
        a, b = (np.ldexp(np.frexp(v)[0], rng.integers(-40, 40, CASES)) for v in (a, b))
    if fmt.integer:
        most = (1 << 31) - (1 << 15)
        return a, b, np.where(rng.random(CASES) < 0.2, rng.choice([-most, most, 0.0], CASES),
                              rng.integers(-most, most, CASES) >> rng.integers(0, 31, CASES))
    acc = accumulator_type(config)
    other = [decode(fmt.encodings[0], rng.integers(0, 1 << fmt.storage_bits, CASES)) for _ in "ab"]
    if fmt.storage_bits == 16:
        other = [np.ldexp(np.frexp(v)[0], rng.integers(-40, 40, CASES)) for v in other]
    zero = np.zeros(CASES)
    loose = fused_multiply_add(acc, zero, *other)
    close = -fused_multiply_add(acc, zero, a, b) * rng.choice([0.5, 1, 1, 2, -1], CASES)
    psum = np.where(rng.integers(0, 2, CASES) == 1, loose, close)
    return a, b, np.where(np.isinf(psum), np.nan, psum)


@cocotb.test()
async def one_a_clock(dut):
    config, rng = configuration(), generator()
    a, b, psum = _cases(config, rng)
    fields = {f"{side}_{name}": column for side, value in (("a", a), ("b", b))
              for name, column in unpack(config.format, value, rng).items()}
    fields["psum_i"] = words(config, psum)
    with np.errstate(invalid="ignore"):
        expected = words(config, multiply_add(config, psum, a, b))
    await reset(dut, dict.fromkeys(fields, 0))
    later = config.pe_latency - 1  # clocks by which a product joins its psum later
    for cycle in range(CASES + later):
        case = cycle - later
        put(dut, **{name: column[max(case, 0) if name == "psum_i" else min(cycle, CASES - 1)]
                    for name, column in fields.items()})
        await step(dut.clk)
        if case >= 0:
            expect(sample(dut, "psum_o")[0], expected[case],
                   f"{a[case]} * {b[case]} + {psum[case]}")
    report(CASES, CASES + later)
