"""Processing element: random weights shifted in, swapped and used, one operand per clock."""

from typing import Any

import cocotb
import numpy as np

from sim.bench.psums import multiply_add
from sim.bench.psums import words as psum_words
from sim.bench.support import configuration, expect, generator, put, report, reset, sample, step
from sim.harness.operands import unpack
from sim.model.codec import decode

CASES = 2000


def packed(fmt, values, rng):
    """Compact vectors of ``values``: {is_nar, sign, exponent, significand}, the significand's
    hidden bit 0 for zero; integers as they are."""
    if fmt.integer:
        return unpack(fmt, values, rng)["number"]
    fields = {name: np.asarray(column, np.int64)
              for name, column in unpack(fmt, values, rng).items()}
    hidden = fmt.significand_bits - 1
    word = fields["significand"] & (1 << hidden) - 1 | (1 - fields["is_zero"]) << hidden
    word |= (fields["exponent"] & (1 << fmt.exponent_bits) - 1) << hidden + 1
    word |= fields["sign"] << hidden + 1 + fmt.exponent_bits
    return word | fields["is_nar"] << hidden + 2 + fmt.exponent_bits


def operands(fmt, rng):
    """Values of random codes; of a small range for BF16, so that sums meet."""
    if fmt.storage_bits == 16:
        return rng.integers(-255, 256, CASES) * np.ldexp(1.0, rng.integers(-12, 4, CASES))
    return decode(fmt.encodings[-1], rng.integers(0, 1 << fmt.storage_bits, CASES))


@cocotb.test()
async def load_swap_multiply(dut):
    config, rng = configuration(), generator()
    fmt = config.format
    x, above, left = (operands(fmt, rng) for _ in range(3))
    words = {"x_i": packed(fmt, x, rng), "w_above": packed(fmt, above, rng),
             "w_left": packed(fmt, left, rng)}
    psum = multiply_add(config, np.zeros(CASES), operands(fmt, rng), operands(fmt, rng))
    if not config.exact_columns:
        words["psum_i"] = psum_words(config, psum)
    move = rng.integers(0, 4, CASES)  # nothing, nothing, from above, from the left
    words["down_i"], words["right_i"] = move == 2, move == 3
    words["swap_i"] = rng.random(CASES) < 0.2
    # A first load, so that no weight is unknown.
    move[0], words["down_i"][0], words["right_i"][0], words["swap_i"][:2] = 2, 1, 0, (0, 1)
    await reset(dut, dict.fromkeys(words, 0))
    shadow: Any = None
    active: Any = None
    # A product of exact columns is told as it is; with one register less, it has none.
    latency = config.pe_latency - config.exact_columns
    # Those whose product has not joined its psum yet.
    factors: list = [None] * (latency - 1)
    for case in range(CASES):
        put(dut, **{name: column[case] for name, column in words.items()})
        await step(dut.clk)
        if not latency and words["swap_i"][case]:
            active = shadow
        factors.append(active and (x[case:case + 1], active[0]))
        multiplied = factors.pop(0)
        if multiplied is not None and config.exact_columns:
            expect(sample(dut, "psum_o")[0],
                   psum_words(config, multiplied[0] * multiplied[1], config.column_bits(1))[0],
                   f"product of case {case}")
        elif multiplied is not None:
            value = multiply_add(config, psum[case:case + 1], *multiplied)
            expect(sample(dut, "psum_o")[0], psum_words(config, value)[0], f"psum of case {case}")
        if words["swap_i"][case]:
            active = shadow
        if move[case] >= 2:
            source, name = (above, "w_above") if move[case] == 2 else (left, "w_left")
            shadow = source[case:case + 1], words[name][case]
        expect(sample(dut, "w_o")[0], shadow[1], f"shadow weight after case {case}")
        for name in ("x", "swap", "down", "right"):
            expect(sample(dut, f"{name}_o")[0], int(words[f"{name}_i"][case]),
                   f"{name}_o of case {case}")
    report(CASES, CASES)
