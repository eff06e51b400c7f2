from fractions import Fraction

import numpy as np
import pytest

from gen.leaves import Library
from gen.recorder import record
from hdl.codec.encoder import Encoder
from hdl.spec.formats import BFLOAT16, FORMATS
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from sim.harness.operands import lane_words
from sim.model.codec import decode, encode, saturates
from sim.model.rounding import from_words
from support import golden
from support.sabotage import with_fault

EIGHT_BIT = [name for name, fmt in FORMATS.items() if fmt.storage_bits == 8]
ML_DTYPES = {"e4m3": "float8_e4m3fn", "e5m2": "float8_e5m2"}


def encoder(name, flags):
    library = Library()
    library.add(Encoder(FORMATS[name], flags=flags), "encoder")
    return Batch(with_fault(record(library, "encoder"), "result", 0x31), "encoder")


def inputs_for(fmt, which, words, fault=0):
    return {"value": words, "fault": fault, **({"e5m2": which} if fmt.hybrid else {})}


@pytest.mark.parametrize("flags", [False, True])
@pytest.mark.parametrize("name", EIGHT_BIT)
def test_every_bfloat16_word(name, flags):
    fmt, batch = FORMATS[name], encoder(name, flags)
    words = np.arange(1 << 16, dtype=np.uint32)
    values = from_words(BFLOAT16, words)
    for which, encoding in enumerate(fmt.encodings):
        label = f"encoder {name} {encoding.name}"
        given = inputs_for(fmt, which, words)
        out, expected = batch.run(given), encode(encoding, values)
        check(label, out["result"], expected, given)
        if flags:
            nar = np.isnan(values) if fmt.integer else ~np.isfinite(values)
            check(label + " nar", out["nar"], nar, given)
            check(label + " saturated", out["saturated"], saturates(encoding, values), given)
        faulty = batch.run(inputs_for(fmt, which, words, fault=1))["result"]
        assert count_mismatches(faulty, expected) == np.count_nonzero(expected == 0x31) > 0


@pytest.mark.parametrize("name", ["e4m3", "e5m2", "fp8"])
def test_floats_against_ml_dtypes_below_overflow(name):
    import ml_dtypes

    fmt, batch = FORMATS[name], encoder(name, False)
    words = np.arange(1 << 16, dtype=np.uint16)
    for which, encoding in enumerate(fmt.encodings):
        kept = np.abs(from_words(BFLOAT16, words)) <= float(encoding.max_finite)
        kind = getattr(ml_dtypes, ML_DTYPES[encoding.name])
        with np.errstate(invalid="ignore"):
            oracle = words.view(ml_dtypes.bfloat16).astype(kind)
        got = batch.run(inputs_for(fmt, which, words))["result"]
        check(f"encoder {name} {encoding.name} against ml_dtypes", got[kept],
              oracle.view(np.uint8)[kept], {"value": words[kept]})


def integer_of(word):
    """Code of a BF16 word, by rational numbers; whether it was clipped."""
    sign, exponent, fraction = word >> 15, word >> 7 & 255, word & 127
    if exponent == 255:
        return (0, False) if fraction else (128 - (1 - sign), True)
    value = Fraction(fraction + (128 if exponent else 0)) * Fraction(2) ** (max(exponent, 1) - 134)
    whole = round(-value if sign else value)  # ties to even
    return min(max(whole, -128), 127) & 255, not -128 <= whole <= 127


def test_integers_by_rational_numbers():
    batch = encoder("int8", True)
    words = np.arange(1 << 16, dtype=np.uint32)
    out = batch.run(inputs_for(FORMATS["int8"], 0, words))
    codes, clipped = np.array([integer_of(int(word)) for word in words]).T
    check("encoder int8 by rational numbers", out["result"], codes, {"value": words})
    check("encoder int8 clipped", out["saturated"], clipped, {"value": words})
    # Half away from zero and a range that is symmetric would both be seen.
    values = from_words(BFLOAT16, words)
    with np.errstate(invalid="ignore"):
        away = np.clip(np.trunc(values + np.copysign(0.5, values)), -128, 127)
        symmetric = np.clip(np.rint(values), -127, 127)
    for wrong in (away, symmetric):
        codes_of = np.nan_to_num(wrong).astype(np.int64) & 255
        assert count_mismatches(codes_of, codes) > 50


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_decoded_codes_encode_to_themselves(name):
    fmt, batch = FORMATS[name], encoder(name, False)
    for which, encoding in enumerate(fmt.encodings):
        codes = np.arange(256)
        values = decode(encoding, codes)
        kept = ~np.isnan(values)
        words = np.float32(values[kept]).view(np.uint32) >> 16
        got = batch.run(inputs_for(fmt, which, words))["result"]
        check(f"round trip {name} {encoding.name}", got, codes[kept], {"value": words})


def binary32_classes(rng):
    """Words by class: uniform, ties of the dropped half and their neighbours, limits, specials."""
    cases = 2_000_000
    tie = rng.integers(0, 1 << 16, cases, dtype=np.uint32) << 16 | 0x8000
    top = rng.integers(0x7F7F0000, 0x7F810000, cases).astype(np.uint32)
    return {
        "uniform": rng.integers(0, 1 << 32, 2 * cases, dtype=np.uint32),
        "ties": tie,
        "next to ties": tie + rng.choice(np.array([-1, 1]), cases).astype(np.uint32),
        "exact": rng.integers(0, 1 << 16, cases, dtype=np.uint32) << 16,
        "near overflow": top | rng.integers(0, 2, cases, dtype=np.uint32) << 31,
        "lane words": lane_words(FORMATS["bf16"].lane, cases, rng).astype(np.uint32),
        "subnormal": rng.integers(0, 1 << 23, cases, dtype=np.uint32),
    }


def test_bfloat16_from_binary32_by_class():
    import ml_dtypes

    batch = encoder("bf16", True)
    total = 0
    for label, words in binary32_classes(np.random.default_rng(20)).items():
        given = {"value": words, "fault": 0}
        values = words.view(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            oracle = values.astype(ml_dtypes.bfloat16).view(np.uint16)
        # Overflow saturates here, where ml_dtypes gives infinity.
        overflow = np.isfinite(values) & (oracle & 0x7FFF == 0x7F80)
        oracle = np.where(overflow, oracle - 1, oracle)
        oracle = np.where(np.isfinite(values), oracle, 0x7FC0)
        out = batch.run(given)
        total += check(f"encoder bf16 {label}", out["result"], oracle, given)
        check(f"encoder bf16 {label} nar", out["nar"], ~np.isfinite(values), given)
        beyond = (words & 0x7FFFFFFF > 0x7F7F0000) & np.isfinite(values)
        check(f"encoder bf16 {label} saturated", out["saturated"], beyond, given)
    print(f"encoder bf16: {total} cases")
    assert total >= 10_000_000
    words = np.array([0x00310000, 0x00310001, 0x00320000], np.uint32)
    sound, faulty = (batch.run({"value": words, "fault": fault})["result"] for fault in (0, 1))
    assert count_mismatches(sound, faulty) == 2


@pytest.mark.parametrize("name", FORMATS)
def test_golden_vectors(name):
    fmt, batch = FORMATS[name], encoder(name, True)
    for which, encoding in enumerate(fmt.encodings):
        for group in golden.groups("encoder", encoding=encoding.name):
            given = inputs_for(fmt, which, golden.words(group, "value"))
            expected = golden.words(group, "code")
            check(f"golden encoder {name} {encoding.name}", batch.run(given)["result"], expected,
                  given)
