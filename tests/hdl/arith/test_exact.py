"""Exact accumulation by operand class, and the one rounding after it, against integers."""

from fractions import Fraction

import numpy as np
import pytest

from gen.block import design_block
from gen.leaves import Library
from gen.recorder import record
from hdl.arith.exact_round import ExactRound
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16, FORMATS
from sim.harness.batch import Batch
from sim.harness.check import check, count_mismatches
from sim.harness.operands import unpack
from sim.model.codec import decode
from sim.model.exact import exact_words, round_exact, unit_log2
from sim.model.rounding import to_words
from support import golden
from support.sabotage import with_fault

EIGHT_BIT = ("posit8", "posit8es0", "posit8es2", "e4m3", "e5m2", "fp8")
PRODUCT_BITS = {"posit8": 50, "posit8es0": 26, "posit8es2": 98, "e4m3": 37, "e5m2": 65, "fp8": 65}
CLASSES = ("all pairs", "random", "cancellation", "carries", "limits", "nar")
EACH = 180_000


def limbs_of(values, count):
    """Integers as float64, in two's complement of ``count`` 32-bit limbs, int64, lowest first."""
    rest, limbs = np.asarray(values, np.float64), []
    for _ in range(count):
        high = np.floor(np.ldexp(rest, -32))
        limbs.append((rest - np.ldexp(high, 32)).astype(np.int64))
        rest = high
    return np.stack(limbs, axis=-1)


def add_limbs(a, b):
    total, carry = np.empty_like(a), np.zeros(len(a), np.int64)
    for index in range(a.shape[1]):
        whole = a[:, index] + b[:, index] + carry
        total[:, index], carry = whole & 0xFFFFFFFF, whole >> 32
    return total


class Cases:
    """Operands and partial sums of one build, and the sums that they must give."""

    def __init__(self, config, rng):
        self.config, self.rng = config, rng
        self.width = config.acc_bits - 1
        self.limbs = -(-config.acc_bits // 32)
        self.unit = unit_log2(config)
        codes = np.arange(256)
        self.pools = [decode(encoding, codes) for encoding in config.format.encodings]
        finite = np.concatenate(self.pools)
        self.finite = finite[np.isfinite(finite)]

    def random_psum(self, cases):
        """Uniform bits, in words whose magnitude is below a random power of two."""
        raw = self.rng.integers(0, 1 << 32, (cases, self.limbs), dtype=np.int64)
        bits = self.rng.integers(1, self.width, cases)
        sign = -self.rng.integers(0, 2, cases)
        for index in range(self.limbs):
            low = np.clip(bits - 32 * index, 0, 32)
            mask = (np.int64(1) << low) - 1
            raw[:, index] = raw[:, index] & mask | sign & 0xFFFFFFFF & ~mask
        return raw

    def draw(self, kind):
        """a, b, psum limbs (beyond the width all like the sign), psum's NaR bit."""
        rng, count = self.rng, EACH
        if kind == "all pairs":
            pairs = [np.meshgrid(left, right, indexing="ij")
                     for left in self.pools for right in self.pools]
            a, b = (np.concatenate([pair[side].ravel() for pair in pairs]) for side in (0, 1))
            nar = np.zeros(a.size, np.int64)
            return a, b, self.random_psum(a.size), nar
        a, b = rng.choice(self.finite, (2, count))
        psum, nar = self.random_psum(count), np.zeros(count, np.int64)
        if kind == "cancellation":
            product = np.ldexp(a * b, -self.unit)
            psum = limbs_of(-product + rng.integers(-1, 2, count) * (np.abs(product) < 2.0**50),
                            self.limbs)
        elif kind == "carries":  # a run of ones up to some place, so that a carry goes far
            psum = limbs_of(rng.choice([-1.0, 1.0, -2.0, 0.0], count), self.limbs)
            psum = add_limbs(psum, limbs_of(2.0 ** rng.integers(0, self.width - 2, count),
                                            self.limbs))
        elif kind == "limits":
            ends = np.abs(self.finite)
            a = rng.choice([ends.max(), -ends.max(), ends[ends > 0].min(), 0.0, -0.0], count)
            b = rng.choice([ends.max(), -ends.max(), ends[ends > 0].min(), 0.0], count)
            most = (self.config.k_max - 1) * np.ldexp(ends.max() ** 2, -self.unit)
            psum = limbs_of(rng.choice([most, -most], count), self.limbs)
        elif kind == "nar":
            which = rng.integers(1, 8, count)
            a, b = np.where(which & 1, np.nan, a), np.where(which & 2, np.nan, b)
            nar = which >> 2
        return a, b, psum, nar

    def inputs(self, a, b, psum, nar):
        fields = {"a_" + name: field for name, field in unpack(self.config.format, a,
                                                                self.rng).items()}
        fields |= {"b_" + name: field for name, field in unpack(self.config.format, b,
                                                                 self.rng).items()}
        return fields | {"psum_i": self.pack(psum, nar)}

    def pack(self, limbs, nar):
        """Port words: the low bits of ``limbs``, NaR on top."""
        top = self.width - 32 * (self.limbs - 1)
        words = limbs.copy()
        words[:, -1] = words[:, -1] & (1 << top) - 1 | nar << top
        if self.config.acc_bits > 64:
            return words.astype(np.uint32)
        return (words * (np.int64(1) << 32 * np.arange(self.limbs))).sum(axis=1).astype(np.uint64)

    def expected(self, a, b, psum, nar):
        product = np.ldexp(np.nan_to_num(a * b, nan=0.0), -self.unit)
        nar = nar | np.isnan(a) | np.isnan(b)
        return self.pack(add_limbs(psum, limbs_of(product, self.limbs)), nar), nar == 1


@pytest.fixture(scope="module", params=EIGHT_BIT)
def mac(request):
    config = AcceleratorConfig(request.param, acc="exact", dim=4)
    verilog = with_fault(design_block("mac", config), "psum_o", 1)
    return config, Batch(verilog, "mac", optimise="-O1")


def compared(config, got, expected, nar):
    """Both as rows of words; under NaR only that bit counts."""
    got, expected = (np.asarray(words).reshape(len(nar), -1) for words in (got, expected))
    bit = (config.acc_bits - 1) % (32 if config.acc_bits > 64 else 64)
    flag = got.dtype.type(1 << bit)
    hidden = np.zeros_like(got)
    hidden[nar] = ~got.dtype.type(0)
    hidden[nar, -1] = ~flag
    return got & ~hidden, expected.astype(got.dtype) & ~hidden


def test_mac_by_class(mac):
    config, batch = mac
    cases, total = Cases(config, np.random.default_rng(31)), 0
    for kind in CLASSES:
        drawn = cases.draw(kind)
        expected, nar = cases.expected(*drawn)
        got = batch.run(cases.inputs(*drawn) | {"fault": 0}, latency=1)["psum_o"]
        got, expected = compared(config, got, expected, nar)
        check(f"mac {config.fmt} exact {kind}", got, expected)
        total += len(nar)
    print(f"mac {config.fmt} exact: {total} cases")
    assert total > 950_000


def test_expected_sums_are_exact_rationals():
    for fmt in EIGHT_BIT:
        config = AcceleratorConfig(fmt, acc="exact", dim=4)
        cases = Cases(config, np.random.default_rng(33))
        a, b, psum, nar = (column[:2000] for column in cases.draw("random"))
        words, _ = cases.expected(a, b, psum, nar)
        words = words.reshape(len(a), -1)
        unit, step = Fraction(2) ** cases.unit, 32 if config.acc_bits > 64 else 64

        def number(row, step=step, width=cases.width):
            value = sum(int(word) << step * index for index, word in enumerate(row))
            value &= (1 << width) - 1
            return value - (value >> width - 1 << width)

        for index in range(len(a)):
            before = number(psum[index], 32)
            wanted = Fraction(float(a[index])) * Fraction(float(b[index])) / unit + before
            assert number(words[index]) == wanted


def test_a_wrong_bit_is_seen(mac):
    config, batch = mac
    cases = Cases(config, np.random.default_rng(32))
    zero, ones = np.zeros(3), limbs_of([1.0, 2.0, 0.0], cases.limbs)
    given = cases.inputs(zero, zero, ones, np.zeros(3, np.int64))
    sound, faulty = (batch.run(given | {"fault": fault}, latency=1)["psum_o"].reshape(3, -1)
                     for fault in (0, 1))
    assert count_mismatches(sound, faulty) == 1


@pytest.mark.parametrize("fmt", EIGHT_BIT)
def test_width_of_a_product(fmt):
    assert FORMATS[fmt].product_bits == PRODUCT_BITS[fmt]
    assert FORMATS[fmt].product_unit_log2 == unit_log2(AcceleratorConfig(fmt, acc="exact"))
    assert AcceleratorConfig(fmt, acc="exact", k_max=4097).acc_bits == PRODUCT_BITS[fmt] + 14


def rounding_cases(config, rng):
    """Sums of every length; halves, their neighbours, powers of two, all ones, zero, limits."""
    places = config.acc_bits - 2
    values = [0, 1, -1, (1 << places) - 1, -(1 << places)]
    for bits in range(1, places):
        for _ in range(40):
            top = int(rng.integers(128, 512)) << max(0, bits - 9)
            tail = 1 << max(0, bits - 10)
            low = int(rng.choice([0, 1, -1])) + int(rng.choice([0, tail, -tail]))
            wide = int.from_bytes(rng.bytes(16), "little") & (1 << bits) - 1
            values += [top + low, -(top + low), wide, -wide, (1 << bits) - 1, -(1 << bits)]
    values = [value for value in values if -(1 << places) <= value < 1 << places]
    return np.array([*values, None], object)


def rounder(fmt, cuts=0):
    config = AcceleratorConfig(fmt, acc="exact", dim=4)
    library = Library("")
    library.add(ExactRound(config.format, config.k_max, cuts=cuts), "rounder")
    verilog = with_fault(record(library, "rounder"), "result", BFLOAT16.nan)
    return config, Batch(verilog, "rounder")


@pytest.mark.parametrize("fmt, cuts", [*((fmt, 0) for fmt in EIGHT_BIT), ("posit8", 1)])
def test_rounding_to_the_lane(fmt, cuts):
    (config, batch), rng = rounder(fmt, cuts), np.random.default_rng(34)
    moves = {"enable": 1} if cuts else {}

    def run(**given):
        return batch.run(given | moves, **({"latency": 1} if cuts else {}))["result"]

    sums = rounding_cases(config, rng)
    words = exact_words(sums, config.acc_bits)
    if config.acc_bits > 64:
        given = np.array([[word >> 32 * index & 0xFFFFFFFF for index in range(
            -(-config.acc_bits // 32))] for word in words], np.uint32)
    else:
        given = words.astype(np.uint64)
    expected = to_words(BFLOAT16, round_exact(config, BFLOAT16, sums)).astype(np.uint32)
    got = run(value=given, is_lane_word=0, fault=0)
    check(f"round {fmt} exact", got, expected, {"value": words})
    faulty = run(value=given, is_lane_word=0, fault=1)
    assert count_mismatches(faulty, expected) == 1
    kept = run(value=given, is_lane_word=1, fault=0)
    assert np.array_equal(kept, (words & 0xFFFF).astype(np.uint32))


def test_golden_sums(mac):
    config, batch = mac
    cases, bits = Cases(config, np.random.default_rng(35)), config.acc_bits
    first, last = (config.format.encodings[at] for at in (0, -1))
    (group,) = golden.groups("mac", format=config.fmt, accumulator="exact")
    a = decode(first, golden.words(group, "a"))
    b = decode(last, golden.words(group, "b"))
    given = cases.inputs(a, b, np.zeros((len(a), cases.limbs), np.int64), np.zeros(len(a), int))
    given |= {"psum_i": golden.words(group, "psum", bits), "fault": 0}
    nar = np.array([int(text, 16) >> bits - 1 for text in golden.column(group, "result")]) == 1
    got, expected = compared(config, batch.run(given, latency=1)["psum_o"],
                             golden.words(group, "result", bits), nar)
    assert check(f"golden mac {config.fmt} exact", got, expected) >= 170


@pytest.mark.parametrize("fmt", EIGHT_BIT)
def test_golden_rounding(fmt):
    config, batch = rounder(fmt)
    (group,) = golden.groups("rounding", format=fmt, accumulator="exact")
    given = {"value": golden.words(group, "accumulator", config.acc_bits), "is_lane_word": 0}
    expected = golden.words(group, "value")
    check(f"golden round {fmt} exact", batch.run(given | {"fault": 0})["result"], expected)
    assert count_mismatches(batch.run(given | {"fault": 1})["result"], expected) > 0
