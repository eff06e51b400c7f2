"""Decoder: every code of every encoding, fields against the definition of the value."""

import cocotb
import numpy as np

from sim.bench.support import configuration, drive, report, sample
from sim.harness.operands import exact_values, integers
from sim.model.codec import decode

FIELDS = ("sign", "exponent", "significand", "is_zero", "is_nar")


@cocotb.test()
async def every_code(dut):
    fmt = configuration().format
    codes = np.arange(1 << fmt.storage_bits)
    if fmt.storage_bits == 16:  # every exponent, both signs, the ends of the fraction
        codes = codes[(codes & 0x7F < 2) | (codes & 0x7F > 0x7D)]
    for index, encoding in enumerate(fmt.encodings):
        values = decode(encoding, codes)
        for code, value in zip(codes, values, strict=True):
            await drive(dut, code=int(code), **({"e5m2": index} if fmt.hybrid else {}))
            if fmt.integer:
                number = sample(dut, "number")[0]
                assert integers(number, fmt.significand_bits) == value, f"code {code:#x}"
                continue
            sign, exponent, significand, is_zero, is_nar = sample(dut, *FIELDS)
            assert (is_nar, is_zero) == (np.isnan(value), value == 0), f"code {code:#x}"
            if is_nar:
                continue
            assert sign == np.signbit(value), f"sign of code {code:#x}"
            if not is_zero:
                got = exact_values(np.array(sign), np.array(exponent), fmt.exponent_bits,
                                   np.array(significand), fmt.significand_bits - 1)
                assert got == value, f"code {code:#x}: got {got}, expected {value}"
                assert significand >> fmt.significand_bits - 1 == 1, f"hidden bit of {code:#x}"
    report(codes.size * len(fmt.encodings), 0)
