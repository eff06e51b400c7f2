import numpy as np
import pytest

from gen.block import design_block
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import FORMATS
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from sim.harness.operands import exact_values, integers, unpack
from sim.model.codec import decode
from support import golden
from support.sabotage import with_fault


@pytest.fixture(scope="module", params=FORMATS)
def multiplier(request):
    config = AcceleratorConfig(fmt=request.param)
    square = 1 << 2 * (config.format.significand_bits - 1)
    port = "number" if config.format.integer else "significand"
    verilog = with_fault(design_block("multiplier", config), port, square)
    return config.format, Batch(verilog, "multiplier")


def pairs(fmt, first, second, rng):
    """All pairs of codes of 8-bit formats; two million random ones of wider formats."""
    if fmt.storage_bits == 8:
        a, b = np.divmod(np.arange(1 << 16), 256)
    else:
        a, b = rng.integers(0, 1 << fmt.storage_bits, (2, 2_000_000))
    return decode(first, a), decode(second, b)


def products(fmt, batch, a, b, rng, fault):
    """Values of the block's products, NaN for NaR; and how often the flags collide."""
    fields = {"a_" + name: field for name, field in unpack(fmt, a, rng).items()}
    fields |= {"b_" + name: field for name, field in unpack(fmt, b, rng).items()}
    out = batch.run(fields | {"fault": fault})
    if fmt.integer:
        return integers(out["number"], fmt.product_bits)
    values = exact_values(out["sign"], out["exponent"], fmt.exponent_bits + 1, out["significand"],
                          2 * (fmt.significand_bits - 1))
    values = np.where(out["is_zero"] == 1, np.where(out["sign"] == 1, -0.0, 0.0), values)
    return np.where(out["is_nar"] == 1, np.nan, values)


def words(values):
    return np.where(np.isnan(values), np.nan, values).view(np.uint64)


def test_every_pair_of_codes(multiplier):
    fmt, batch = multiplier
    rng = np.random.default_rng(7)
    for first in fmt.encodings:
        for second in fmt.encodings:
            a, b = pairs(fmt, first, second, rng)
            expected = words(np.multiply(a, b) + 0.0 if fmt.integer else np.multiply(a, b))
            label = f"multiplier {fmt.name} {first.name} {second.name}"
            check(label, words(products(fmt, batch, a, b, rng, 0)), expected)
            assert count_mismatches(words(products(fmt, batch, a, b, rng, 1)), expected) > 0


def test_golden_vectors(multiplier):
    fmt, batch = multiplier
    rng, cases = np.random.default_rng(8), 0
    for first in fmt.encodings:
        for second in fmt.encodings:
            for group in golden.groups("multiplier", a=first.name, b=second.name):
                a, b = (decode(encoding, golden.words(group, name))
                        for encoding, name in ((first, "a"), (second, "b")))
                expected = words(golden.reals(group, "product"))
                cases += check(f"golden multiplier {fmt.name}",
                               words(products(fmt, batch, a, b, rng, 0)), expected)
    assert cases == 200 * len(fmt.encodings) ** 2
