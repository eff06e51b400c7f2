"""Multiplier: pairs of codes, the exact product."""

import cocotb
import numpy as np

from sim.bench.support import configuration, drive, generator, report, sample
from sim.harness.operands import exact_values, integers, unpack
from sim.model.codec import decode

CASES = 3000
FIELDS = ("sign", "exponent", "significand", "is_zero", "is_nar")


@cocotb.test()
async def exact_product(dut):
    fmt, rng = configuration().format, generator()
    values = [decode(fmt.encodings[rng.integers(len(fmt.encodings))],
                     rng.integers(0, 1 << fmt.storage_bits, CASES)) for _ in "ab"]
    fields = {f"{side}_{name}": column for side, value in zip("ab", values, strict=True)
              for name, column in unpack(fmt, value, rng).items()}
    product = values[0] * values[1]
    for case, value in enumerate(product):
        await drive(dut, **{name: column[case] for name, column in fields.items()})
        what = f"{values[0][case]} * {values[1][case]}"
        if fmt.integer:
            assert integers(sample(dut, "number")[0], fmt.product_bits) == value, what
            continue
        sign, exponent, significand, is_zero, is_nar = sample(dut, *FIELDS)
        assert is_nar == np.isnan(value), what
        if is_nar:
            continue
        assert (is_zero, sign) == (value == 0, np.signbit(value)), what
        if not is_zero:
            got = exact_values(np.array(sign), np.array(exponent), fmt.exponent_bits + 1,
                               np.array(significand), 2 * (fmt.significand_bits - 1))
            assert got == value, f"{what}: got {got}, expected {value}"
    report(CASES, 0)
