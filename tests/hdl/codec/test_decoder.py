import numpy as np
import pytest

from gen.block import design_block
from gen.leaves import Library
from gen.recorder import record
from hdl.codec.widen import Widen
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import FORMATS
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from sim.harness.operands import exact_values, integers
from sim.model.codec import decode
from sim.model.rounding import to_words
from support import golden
from support.sabotage import with_fault

ML_DTYPES = {"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2", "bf16": "bfloat16"}


def codes_of(encoding):
    return np.arange(1 << encoding.bits, dtype=np.uint32)


def inputs_for(fmt, which, codes):
    return {"code": codes, **({"e5m2": which} if fmt.hybrid else {})}


@pytest.fixture(scope="module", params=FORMATS)
def decoder(request):
    config = AcceleratorConfig(fmt=request.param)
    port = "number" if config.format.integer else "significand"
    verilog = with_fault(design_block("decoder", config), port,
                         1 << config.format.significand_bits - 1)
    return config.format, Batch(verilog, "decoder")


def decoded(fmt, batch, which, codes, fault=0):
    """Values that the block gives, checked to be normalised; NaN where it says NaR."""
    out = batch.run(inputs_for(fmt, which, codes) | {"fault": fault})
    if fmt.integer:
        return integers(out["number"], fmt.significand_bits)
    nar, zero = out["is_nar"] == 1, out["is_zero"] == 1
    assert not np.any(nar & zero)
    point = fmt.significand_bits - 1
    assert np.all((out["significand"] >> point == 1) | nar | zero | (fault == 1))
    values = exact_values(out["sign"], out["exponent"], fmt.exponent_bits, out["significand"],
                          point)
    values = np.where(zero, np.where(out["sign"] == 1, -0.0, 0.0), values)
    return np.where(nar, np.nan, values)


def bits(values):
    """Comparable words: every NaN alike, zeros of both signs apart."""
    return np.where(np.isnan(values), np.nan, values).view(np.uint64)


def test_every_code(decoder):
    fmt, batch = decoder
    for which, encoding in enumerate(fmt.encodings):
        codes = codes_of(encoding)
        got = bits(decoded(fmt, batch, which, codes))
        check(f"decoder {fmt.name} {encoding.name}", got, bits(decode(encoding, codes)),
              {"code": codes})


def test_every_code_of_floats_against_ml_dtypes(decoder):
    import ml_dtypes

    fmt, batch = decoder
    for which, encoding in enumerate(fmt.encodings):
        if encoding.name not in ML_DTYPES:
            continue
        codes = codes_of(encoding)
        kind = getattr(ml_dtypes, ML_DTYPES[encoding.name])
        values = codes.astype(np.uint8 if encoding.bits == 8 else np.uint16).view(kind)
        with np.errstate(invalid="ignore"):
            values = values.astype(np.float64)
        values = np.where(np.isfinite(values), values, np.nan)
        check(f"decoder {fmt.name} {encoding.name} against ml_dtypes",
              bits(decoded(fmt, batch, which, codes)), bits(values), {"code": codes})


def test_a_wrong_bit_is_seen(decoder):
    fmt, batch = decoder
    codes = codes_of(fmt.encodings[0])
    faulty = bits(decoded(fmt, batch, 0, codes, fault=1))
    assert count_mismatches(faulty, bits(decode(fmt.encodings[0], codes))) > 0


@pytest.mark.parametrize("name", FORMATS)
def test_widen_every_code(name):
    fmt = FORMATS[name]
    library = Library()
    library.add(Widen(fmt), "widen")
    one = fmt.lane.bias << fmt.lane.fraction_bits
    batch = Batch(with_fault(record(library, "widen"), "value", one), "widen")
    for which, encoding in enumerate(fmt.encodings):
        codes = codes_of(encoding)
        given = inputs_for(fmt, which, codes)
        expected = to_words(fmt.lane, decode(encoding, codes)).astype(np.uint32)
        check(f"widen {name} {encoding.name}", batch.run(given | {"fault": 0})["value"], expected,
              given)
        assert count_mismatches(batch.run(given | {"fault": 1})["value"], expected) == 1


def test_golden_vectors(decoder):
    fmt, batch = decoder
    for which, encoding in enumerate(fmt.encodings):
        for group in golden.groups("decoder", encoding=encoding.name):
            codes = golden.words(group, "code")
            expected = bits(golden.reals(group, "value"))
            got = bits(decoded(fmt, batch, which, codes))
            check(f"golden decoder {fmt.name} {encoding.name}", got, expected, {"code": codes})
            assert count_mismatches(bits(decoded(fmt, batch, which, codes, fault=1)), expected)
