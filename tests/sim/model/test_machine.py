"""Programs made by hand from the published fields, run on small images."""

import numpy as np
import pytest

from hdl.spec.commands import (
    Destination,
    ErrorCause,
    Function,
    Opcode,
    Operand,
    Post,
    Reduce,
)
from hdl.spec.config import SOFTMAX_MODES
from hdl.spec.formats import BFLOAT16
from sim.model import lanes
from sim.model.accumulate import gemm, narrow
from sim.model.codec import decode, encode
from sim.model.rounding import from_words, largest, to_words
from support.images import BASE, STORE, A, B, Bench, C, Y, bf16

FORMATS = ("posit8", "fp8", "bf16")
SOFTMAX = (
    {"multiply": Operand.IMM0, "reduce": Reduce.MAX, "destination": Destination.BUFFER},
    {"add": Operand.R0, "subtract": 1, "function": Function.EXP, "reduce": Reduce.SUM,
     "reduce_to": 1, "post": Post.RECIPROCAL, "destination": Destination.BUFFER},
    {"scale": Operand.R1, "destination": Destination.MEMORY})
STREAMED = (
    {"multiply": Operand.IMM0, "reduce": Reduce.MAX},
    {"multiply": Operand.IMM0, "add": Operand.R0, "subtract": 1, "function": Function.EXP,
     "reduce": Reduce.SUM, "reduce_to": 1, "post": Post.RECIPROCAL},
    {"multiply": Operand.IMM0, "add": Operand.R0, "subtract": 1, "function": Function.EXP,
     "scale": Operand.R1, "destination": Destination.MEMORY})


def operands(bench, m, k, n, transposed=False, seed=1):
    rng = np.random.default_rng(seed)
    fmt, w = bench.config.format, bench.wide
    a_at, b_at = (A, B) if w == 1 else (A & ~1, B & ~1)
    first, last = fmt.encodings[0], fmt.encodings[-1]
    a = bench.place(a_at, rng.normal(size=(m, k)), k * w + 6)
    b = rng.normal(size=(n, k) if transposed else (k, n))
    stride = b.shape[1] * w + 4
    b = bench.place(b_at, b, stride, len(fmt.encodings) - 1)
    b = decode(last, b)
    return decode(first, a), b.T if transposed else b, stride


@pytest.mark.parametrize("transposed", (False, True))
@pytest.mark.parametrize("fmt", FORMATS)
def test_gemm_writes_the_result_and_nothing_else(fmt, transposed):
    bench = Bench(fmt)
    m, k, n = 5, 9, 6
    a, b, stride = operands(bench, m, k, n, transposed)
    fields = bench.gemm(m, k, n, b_transposed=transposed, b_stride=stride, b_e5m2=1)
    bench.command(Opcode.FENCE)
    bench.command(Opcode.END)
    outcome = bench.run()
    assert (outcome.error, outcome.commands) == (None, 3)
    want = encode(bench.config.format.encodings[0],
                  narrow(bench.config, gemm(bench.config, a, b)))
    assert np.array_equal(bench.codes(fields, "c", m, n), want)
    changed = np.flatnonzero(bench.memory != bench.before) + BASE
    offset = changed - fields["c_address"]
    inside = (offset >= 0) & (offset < m * fields["c_stride"])
    assert np.all(inside & (offset % fields["c_stride"] < n * bench.wide))
    print(f"gemm {fmt}: {want.size} codes, {len(changed)} bytes changed")
    assert len(changed) > 0
    if fmt == "fp8":
        bench.commands[0]["b_e5m2"] = 0
        bench.run()
        assert not np.array_equal(bench.codes(fields, "c", m, n), want)


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_stored_by_columns_gives_the_same_bytes(fmt):
    m, k, n = 5, 9, 6
    results = []
    for flip in (False, True):
        bench = Bench(fmt)
        operands(bench, m, k, n)
        at = A if bench.wide == 1 else A & ~1
        values = np.random.default_rng(1).normal(size=(m, k))
        stride = (m if flip else k) * bench.wide + 6
        bench.place(at, values.T if flip else values, stride)
        fields = bench.gemm(m, k, n, a_transposed=int(flip), a_stride=stride, b_e5m2=1)
        bench.command(Opcode.END)
        assert bench.run().error is None
        results.append(bench.codes(fields, "c", m, n))
    assert np.array_equal(*results)
    assert np.unique(results[0]).size > m


@pytest.mark.parametrize("fmt", FORMATS)
def test_epilogue_scales_adds_a_bias_and_clips(fmt):
    bench = Bench(fmt)
    m, k, n = 4, 7, 5
    a, b, _ = operands(bench, m, k, n)
    bias = bench.place(Y, np.linspace(-1, 1, n)[None], 0)
    step = {"multiply": Operand.IMM1, "add": Operand.Y, "y": 1, "relu": 1, **STORE}
    fields = bench.gemm(m, k, n, (step,), b_e5m2=1, imm1=bf16(0.5), y1_address=Y)
    bench.command(Opcode.END)
    assert bench.run().error is None
    lane, encoding = bench.config.lane, bench.config.format.encodings[0]
    x = narrow(bench.config, gemm(bench.config, a, b))
    x = lanes.add(lane, lanes.multiply(lane, x, 0.5), decode(encoding, bias))
    want = encode(encoding, lanes.relu(lane, x))
    assert np.array_equal(bench.codes(fields, "c", m, n), want)
    assert np.any(want == 0) and np.any(want != 0)


def run_softmax(fmt, softmax, scores, steps, **options):
    """Probabilities of wide BF16 (or the format's own BF16) scores."""
    bench = Bench(fmt, softmax=softmax, **options)
    m, n = scores.shape
    wide = bench.wide == 1
    at = {"a_address": A & ~1, "c_address": C & ~1, "a_stride": 2 * n, "c_stride": 2 * n}
    bench.put(at["a_address"], to_words(BFLOAT16, scores), 2 * n)
    fields = bench.vector(m, n, steps, x_wide=wide, c_wide=wide, imm0=bf16(0.25), **at)
    bench.command(Opcode.END)
    outcome = bench.run()
    if outcome.error is not None:
        return outcome.error
    return from_words(BFLOAT16, bench.codes(fields, "c", m, n, 2))


@pytest.mark.parametrize("softmax", SOFTMAX_MODES)
@pytest.mark.parametrize("fmt", FORMATS)
def test_softmax_over_rows(fmt, softmax):
    rng = np.random.default_rng(3)
    scores = np.round(rng.normal(size=(7, 30)) * 8) / 4
    scores[2] = -largest(BFLOAT16)
    scores[3, 4:] = -np.inf
    scores[4, 5] = np.nan
    got = run_softmax(fmt, softmax, scores, SOFTMAX)
    usual = [0, 1, 5, 6]
    exact = np.exp(scores[usual] / 4)
    exact /= exact.sum(axis=1, keepdims=True)
    # A probability's error is at most that of exp (0.16 of at most 1) and of the sum.
    assert np.max(np.abs(got[usual] - exact)) < (0.01 if softmax == "pwl" else 0.1)
    assert np.all(np.abs(got[usual].sum(axis=1) - 1) < (0.02 if softmax == "pwl" else 0.15))
    # Monotone: a larger score never has a smaller probability.
    order = np.argsort(scores[usual], axis=1)
    assert np.all(np.diff(np.take_along_axis(got[usual], order, 1), axis=1) >= 0)
    assert np.isnan(got[4]).all()
    if fmt == "bf16":  # the format's own infinities decode as NaN, its largest value scales by 1/4
        assert np.isnan(got[3]).all()
    else:
        assert np.all(got[3, 4:] == 0)
    other = run_softmax(fmt, softmax, np.roll(scores, 1, axis=1), SOFTMAX)
    assert not np.array_equal(other, got, equal_nan=True)
    print(f"softmax {fmt} {softmax}: {got.size} probabilities")


@pytest.mark.parametrize("softmax", SOFTMAX_MODES)
def test_fully_masked_rows_give_zeros(softmax):
    scores = np.zeros((3, 9))
    scores[1] = -largest(BFLOAT16)
    scores[2] = -np.inf
    unscaled = ({"reduce": Reduce.MAX, "destination": Destination.BUFFER}, *SOFTMAX[1:])
    got = run_softmax("posit8", softmax, scores, unscaled)
    assert np.all(got[0] > 0.08) and np.all(got[1:] == 0)


@pytest.mark.parametrize("fmt", FORMATS)
def test_streamed_softmax_equals_the_buffered_one(fmt):
    scores = np.round(np.random.default_rng(4).normal(size=(3, 70)) * 8) / 4
    small = {"acc_depth": 16}
    assert run_softmax(fmt, "pwl", scores, SOFTMAX, **small) is ErrorCause.OVERSIZE
    streamed = run_softmax(fmt, "pwl", scores, STREAMED, **small)
    assert np.array_equal(streamed, run_softmax(fmt, "pwl", scores, SOFTMAX))


def test_rows_that_stay_on_chip_are_counted_in_powers_of_two():
    for columns, fits in ((64, True), (65, False)):
        bench = Bench(acc_depth=16)
        bench.vector(1, columns, ({"destination": Destination.BUFFER}, STORE))
        bench.command(Opcode.END)
        assert (bench.run().error is None) == fits
    scores = np.zeros((1, 33))  # nine words, rounded up to sixteen
    probabilities = run_softmax("posit8", "pwl", scores, SOFTMAX, acc_depth=16)
    assert not isinstance(probabilities, ErrorCause)


def test_wide_tensors_and_counts():
    bench = Bench("posit8")
    values = np.array([[1.0, 5000.0, -1e6], [np.nan, np.inf, 4096.0]])
    at = {"a_address": A & ~1, "a_stride": 6}
    bench.put(at["a_address"], to_words(BFLOAT16, lanes.add(BFLOAT16, values, 0.0)), 6)
    narrow_c = bench.vector(2, 3, x_wide=1, **at)
    wide_c = bench.vector(2, 3, x_wide=1, c_wide=1, **at, c_address=Y, c_stride=6)
    bench.command(Opcode.END)
    outcome = bench.run()
    assert (outcome.error, outcome.saturations, outcome.nars) == (None, 2, 3)  # Inf stays in BF16
    assert bench.codes(narrow_c, "c", 2, 3).tolist() == [[0x40, 0x7F, 0x81], [0x80, 0x80, 0x7F]]
    assert bench.codes(wide_c, "c", 2, 3, 2)[1].tolist() == [0x7FC0, 0x7F80, 0x4580]




def test_a_copy_changes_nothing_but_nan():
    words = np.array([[0x0001, 0x807F, 0x7F81, 0xFFC0, 0x7F80, 0x0080]], np.uint16)
    for fmt, infinity in (("posit8", 0x7F80), ("bf16", 0x7FC0)):
        bench = Bench(fmt)
        bench.put(A & ~1, words, 12)
        fields = bench.vector(1, 6, x_wide=1, c_wide=1, a_address=A & ~1, c_address=C & ~1)
        bench.command(Opcode.END)
        assert bench.run().error is None
        want = [0x0001, 0x807F, 0x7FC0, 0x7FC0, infinity, 0x0080]
        assert bench.codes(fields, "c", 1, 6, 2).tolist() == [want]
