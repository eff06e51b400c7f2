import dataclasses
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import (
    BF16_ENCODING,
    BFLOAT16,
    BINARY32,
    E4M3,
    E5M2,
    POSIT8,
    POSIT8ES0,
    POSIT8ES2,
)
from sim.model import codec
from sim.model.codec import decode, encode, max_finite, saturates
from sim.model.rounding import from_words
from support import oracle
from support.require import module, require

POSITS = (POSIT8, POSIT8ES0, POSIT8ES2)
FLOATS = (E4M3, E5M2)
ML = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2}
WORDS = np.arange(1 << 16)
VALUES = from_words(BFLOAT16, WORDS)


def named(encodings):
    return pytest.mark.parametrize("encoding", encodings, ids=lambda e: e.name)


def report(what, cases):
    print(f"{what}: {cases} cases")
    assert cases > 0


@named(POSITS)
def test_posit_decode_is_the_projective_ring(encoding):
    ring = [float(value) for value in oracle.posit_ring(8, encoding.es)]
    got = decode(encoding, np.arange(256))
    assert got[:128].tolist() == ring
    assert np.isnan(got[128])
    assert got[129:].tolist() == [-value for value in ring[:0:-1]]
    wrong = dataclasses.replace(encoding, es=encoding.es + 1)
    assert decode(wrong, np.arange(128)).tolist() != ring
    report(f"decode {encoding.name}", 256)


@named(FLOATS)
def test_float_decode_matches_ml_dtypes(encoding):
    codes = np.arange(256)
    want = codes.astype(np.uint8).view(ML[encoding.name]).astype(np.float64)
    want = np.where(np.isinf(want), np.nan, want)
    got = decode(encoding, codes)
    assert np.array_equal(got, want, equal_nan=True)
    number = ~np.isnan(want)
    assert np.array_equal(np.signbit(got)[number], np.signbit(want)[number])
    report(f"decode {encoding.name}", 256)


def test_bf16_decode_matches_ml_dtypes():
    with np.errstate(invalid="ignore"):
        want = WORDS.astype(np.uint16).view(ml_dtypes.bfloat16).astype(np.float64)
    want = np.where(np.isinf(want), np.nan, want)
    got = decode(BF16_ENCODING, WORDS)
    assert np.array_equal(got, want, equal_nan=True)
    assert np.array_equal(np.signbit(got)[got == 0], np.signbit(want)[got == 0])
    report("decode bf16", 1 << 16)


def posit_mismatches(encoding, model):
    """Codes of all 65,536 BF16 words that differ from the bit-string oracle for ``encoding``."""
    got = encode(model, VALUES).astype(int)
    wrong = np.count_nonzero(got[~np.isfinite(VALUES)] != 0x80)
    for code, value in zip(got, VALUES, strict=True):
        if np.isfinite(value):
            want = oracle.posit_encode(encoding, Fraction(float(value)))
            wrong += int(code) != want
    return wrong


@named(POSITS)
def test_posit_encode_rounds_the_bit_string(encoding):
    assert posit_mismatches(encoding, encoding) == 0
    flushes_less = dataclasses.replace(encoding, flush_log2=encoding.flush_log2 - 1)
    assert posit_mismatches(encoding, flushes_less) == 2 * 128
    report(f"encode {encoding.name}", 1 << 16)


@named(FLOATS)
def test_float_encode_takes_the_nearest_code(encoding):
    nearest = oracle.FloatOracle(encoding)
    got = encode(encoding, VALUES)
    assert np.all(got[~np.isfinite(VALUES)] == encoding.nar_code)
    finite = np.flatnonzero(np.isfinite(VALUES))
    want = np.array([nearest.encode(float(VALUES[i])) for i in finite])
    assert np.array_equal(got[finite], want)
    truncated = encode(encoding, VALUES[finite] * (1 - 2.0**-12))
    assert np.count_nonzero(truncated != want) > 100
    report(f"encode {encoding.name}", len(VALUES))


@named(FLOATS)
def test_float_encode_matches_ml_dtypes_below_overflow(encoding):
    inside = np.abs(VALUES) <= max_finite(encoding)
    want = VALUES[inside].astype(np.float32).astype(ML[encoding.name]).view(np.uint8)
    assert np.array_equal(encode(encoding, VALUES[inside]), want)
    report(f"ml_dtypes {encoding.name}", int(inside.sum()))


def encoder_boundaries(encoding):
    """Positive values at which the code changes, exact in float64."""
    if encoding in POSITS:
        finer = oracle.posit_ring(9, encoding.es)
        return [2.0**encoding.flush_log2] + [float(value) for value in finer[3:-1:2]]
    return [float(value) for value in oracle.FloatOracle(encoding).middles]


@named(POSITS + FLOATS)
def test_boundaries_and_their_neighbours(encoding):
    middles = np.array(encoder_boundaries(encoding))
    values = np.concatenate([
        sign * at for sign in (1, -1)
        for at in (np.nextafter(middles, 0), middles, np.nextafter(middles, np.inf))])
    if encoding in POSITS:
        want = [oracle.posit_encode(encoding, Fraction(float(v))) for v in values]
    else:
        want = [oracle.FloatOracle(encoding).encode(float(v)) for v in values]
    got = encode(encoding, values)
    assert got.tolist() == want
    below, above = (encode(encoding, np.nextafter(middles, end)) for end in (0, np.inf))
    assert np.all(above.astype(int) - below == 1)
    report(f"boundaries {encoding.name}", len(values))


@named(POSITS)
def test_posits_match_softposit(encoding):
    softposit = require(module, "softposit")
    cases = 0
    for code in range(256):
        if encoding.es == 2:
            number = softposit.posit_2_t()
            number.v = code << 24
            value = softposit.convertPX2ToDouble(number)
        else:
            number = softposit.posit16() if encoding.es == 1 else softposit.posit8()
            number.fromBits(code << 8 if encoding.es == 1 else code)
            value = float(number)
        if code != 0x80:
            assert value == decode(encoding, code)
            cases += 1
    if encoding.es == 1:
        return report("softposit posit8, decode only", cases)
    standard = dataclasses.replace(encoding, flush_log2=None)
    picked = (np.abs(VALUES) < 2.0**60) & (np.abs(VALUES) > 2.0**-60)
    got = encode(standard, VALUES[picked])
    for value, code in zip(VALUES[picked].tolist(), got.tolist(), strict=True):
        if encoding.es == 0:
            want = softposit.convertDoubleToP8(value).v
        else:
            want = softposit.convertDoubleToPX2(value, 8).v >> 24
        assert code == want & 0xFF, value
        cases += 1
    return report(f"softposit {encoding.name}", cases)


def test_bf16_encode_rounds_and_saturates():
    rng = np.random.default_rng(1)
    words = rng.integers(0, 1 << 32, 200_000, dtype=np.uint64).astype(np.uint32)
    ties = (words & np.uint32(0xFFFF_0000)) | np.uint32(0x8000)
    edges = np.array([0, 0x8000_0000, 0x7F7F_FFFF, 0x7F7F_8000, 0x7F7F_7FFF, 0xFF7F_FFFF, 1,
                      0x007F_FFFF, 0x0080_0000, 0x7F80_0000, 0x7F80_0001], np.uint32)
    words = np.concatenate([words, ties, ties + 1, ties - 1, edges])
    values = from_words(BINARY32, words)
    with np.errstate(over="ignore", invalid="ignore"):
        want = values.astype(np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
    sign = (words >> 16 & 0x8000).astype(np.uint16)
    want = np.where(want & 0x7FFF == 0x7F80, sign | 0x7F7F, want)
    want = np.where(np.isfinite(values), want, 0x7FC0)
    got = encode(BF16_ENCODING, values)
    assert np.array_equal(got, want)
    assert np.count_nonzero(words >> 16 != want) > 10_000
    report("encode bf16", len(words))


@named(POSITS + FLOATS)
def test_codes_survive_a_round_trip(encoding):
    codes = np.arange(256).astype(np.uint8)
    values = decode(encoding, codes)
    back = encode(encoding, values)
    assert np.array_equal(back, np.where(np.isnan(values), encoding.nar_code, codes))


@named(POSITS + FLOATS + (BF16_ENCODING,))
def test_saturation_is_what_lies_beyond_the_largest_value(encoding):
    top = max_finite(encoding)
    values = np.array([top, -top, np.nextafter(top, np.inf), -2 * top, np.inf, np.nan, 0])
    assert saturates(encoding, values).tolist() == [False, False, True, True, False, False, False]
    assert np.all(np.abs(decode(encoding, encode(encoding, values[:4]))) == top)


@pytest.mark.parametrize("model", (*POSITS, *FLOATS, dataclasses.replace(POSIT8, flush_log2=None)),
                         ids=str)
def test_any_float64_takes_the_code_of_its_exact_value(model):
    rng = np.random.default_rng(8)
    exponents = np.concatenate([rng.integers(-1074, 1024, 300), rng.integers(-70, 70, 700)])
    values = np.ldexp(rng.uniform(1, 2, 1000), exponents) * rng.choice([-1, 1], 1000)
    values = np.concatenate([values, 2.0 ** np.array([-65, -64, 63, 64, 65]), [0.0, -0.0, 5e-324]])
    if model not in FLOATS:
        want = [oracle.posit_encode(model, Fraction(v)) for v in values.tolist()]
    else:
        nearest = oracle.FloatOracle(model)
        want = [nearest.encode(v) for v in values.tolist()]
    assert encode(model, values).tolist() == want
    assert encode(model, values * (1 - 2.0**-5)).tolist() != want
    report(f"float64 into {model}", len(values))


@pytest.mark.parametrize("fmt", ("posit8", "posit8es0", "posit8es2", "fp8", "e4m3", "bf16"))
def test_many_values_are_encoded_as_few_are(fmt, monkeypatch):
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1, 60_000) * 2.0 ** rng.integers(-140, 120, 60_000)
    x[::7] = rng.integers(-1024, 1024, len(x[::7])) * 2.0 ** rng.integers(-30, 12, len(x[::7]))
    x[:8] = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, 1.7e308, -2.0 ** -1000]
    for encoding in AcceleratorConfig(fmt).format.encodings:
        for values in (x, np.float32(x[8:]), x.reshape(200, 300)):
            found = []
            for many in (1, 1 << 60):
                monkeypatch.setattr(codec, "_MANY", many)
                found.append(codec.encode(encoding, values))
            assert np.array_equal(*found) and found[0].dtype == found[1].dtype
            assert len(np.unique(found[0])) > 100


@pytest.mark.parametrize("bits, es", [(9, 0), (9, 1), (9, 2), (12, 3), (17, 0)])
def test_many_posits_are_those_of_the_definition(bits, es):
    codes = np.arange(1, 1 << bits - 1)
    codes = codes if bits < 17 else np.unique(np.concatenate([codes[:64], codes[-64:],
                                                              codes[::97]]))
    found = codec._positive_posits(bits, es, codes)
    assert found.tolist() == [float(codec.posit_value(bits, es, int(code))) for code in codes]
