"""What a column of ``fused`` sums rounds at its foot, against exact rationals."""

from fractions import Fraction

import numpy as np
import pytest

from gen.leaves import Library
from gen.recorder import record
from hdl.arith.column_foot import ColumnFoot
from hdl.spec.formats import BINARY32, FORMATS
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from support.oracle import round_fraction
from support.sabotage import with_fault

EIGHT_BIT = tuple(name for name, fmt in FORMATS.items()
                  if fmt.storage_bits == 8 and not fmt.integer)
CASES = 20_000
QUIET = 0x7FC00000


def sums(fmt, products, rng):
    """Sums of every length and sign; ties of 24 bits and their neighbours, limits, zeros."""
    bits = fmt.product_bits + products.bit_length() - 2  # below the sign
    most = products * int(max(encoding.max_finite for encoding in fmt.encodings) ** 2
                          / Fraction(2) ** fmt.product_unit_log2)
    found = [0, 1, -1, most, -most]
    for length in rng.integers(1, bits + 1, CASES):
        found.append(int.from_bytes(rng.bytes(16), "little") % (1 << int(length)))
    for above in rng.integers(0, max(1, bits - 25), CASES if bits > 25 else 0):
        tie = (2 * (int(rng.integers(0, 1 << 23)) | 1 << 23) + 1) << int(above)
        found.append(tie + int(rng.integers(-1, 2)) * bool(above))
    signs = np.where(rng.random(len(found)) < 0.5, -1, 1).tolist()
    minus_one = -int(1 / Fraction(2) ** fmt.product_unit_log2)  # what the fault changes
    return [*(sign * min(value, most) for sign, value in zip(signs, found, strict=True)),
            *[minus_one] * 5]


@pytest.mark.parametrize("products", [4, 16])
@pytest.mark.parametrize("name", EIGHT_BIT)
def test_one_rounding_of_the_exact_sum(name, products):
    fmt, rng = FORMATS[name], np.random.default_rng(44)
    library = Library("")
    library.add(ColumnFoot(fmt, products), "foot")
    batch = Batch(with_fault(record(library, "foot"), "o", 0xBF800000), "foot")
    values = sums(fmt, products, rng)
    carry = rng.integers(0, 2, len(values))
    nar = rng.random(len(values)) < 0.02
    width = len(ColumnFoot(fmt, products).i.sum)
    words = [(value - int(up)) % (1 << width) | int(up) << width | int(spoiled) << width + 1
             for value, up, spoiled in zip(values, carry, nar, strict=True)]
    given = {"fault": 0, "i": np.array(words, np.uint64) if width + 2 <= 64 else np.array(
        [[word >> 32 * limb & 0xFFFFFFFF for limb in range(-(-(width + 2) // 32))]
         for word in words], np.uint32)}
    unit = Fraction(2) ** fmt.product_unit_log2
    expected = np.array([round_fraction(BINARY32, value * unit) for value in values], np.float32)
    expected = np.where(nar, QUIET, expected.view(np.uint32)).astype(np.uint32)
    got = batch.run(given, latency=1)["o"]
    assert check(f"foot {name} of {products}", got, expected) > CASES
    assert np.all(np.isfinite(expected[~nar].view(np.float32)))
    assert np.abs(expected[~nar & (expected != 0)].view(np.float32)).min() >= 2.0 ** -126
    faulty = batch.run(given | {"fault": 1}, latency=1)["o"]
    assert count_mismatches(faulty, expected) == np.count_nonzero(expected == 0xBF800000) > 0
