import math
import time

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16
from sim.model.accumulate import (
    accumulator_type,
    fused_multiply_add,
    gemm,
    narrow,
    product,
    product_stored,
)
from sim.model.codec import decode, encode
from sim.model.rounding import add, round_to
from support import oracle

BUILDS = (("posit8", "bf16"), ("posit8", "fp32"), ("posit8es0", "bf16"), ("posit8es2", "bf16"),
          ("e4m3", "bf16"), ("e5m2", "bf16"), ("fp8", "bf16"), ("fp8", "fp32"), ("bf16", "fp32"))
builds = pytest.mark.parametrize("fmt, acc", BUILDS)


def operands(config, shape, seed, encoding=0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << config.format.storage_bits, shape)
    if config.fmt == "bf16":  # exponents near enough to interact, and some subnormals
        codes = codes & 0x807F | rng.integers(110, 145, shape) << 7
        codes = np.where(rng.random(shape) < 0.05, codes & 0x807F, codes)
    values = decode(config.format.encodings[encoding], codes)
    return np.where(np.isnan(values) & (rng.random(shape) < 0.9), 1.0, values)


def array_gemm(config, a, b):
    """The definition, one k at a time over all rows and columns, each sum rounded to odd first."""
    acc, total = accumulator_type(config), None
    for start in range(0, a.shape[1], config.dim):
        tile = np.zeros((len(a), b.shape[1]))
        for k in range(start, min(start + config.dim, a.shape[1])):
            tile = fused_multiply_add(acc, tile, a[:, k, None], b[None, k, :])
        if start + config.dim > a.shape[1]:
            tile = add(acc, tile, np.zeros_like(tile))
        total = tile if total is None else add(acc, total, tile)
    return total


def same(got, want):
    number = ~np.isnan(want)
    return (np.array_equal(got, want, equal_nan=True)
            and np.array_equal(np.signbit(got)[number], np.signbit(want)[number]))


def wild_operands(config, shape, seed, encoding):
    """Any codes; every fifth number of either sign of zero, of the smallest or the largest
    magnitudes, a few NaR."""
    rng = np.random.default_rng(seed)
    kind = config.format.encodings[encoding]
    every = decode(kind, np.arange(1 << kind.bits))
    every = every[np.isfinite(every)]
    ranked = np.sort(np.unique(np.abs(every)))
    pool = np.concatenate([ranked[:4], ranked[-4:], [0.0, 1.0]])
    extreme = rng.choice(pool, shape) * rng.choice([-1.0, 1.0], shape)
    values = np.where(rng.random(shape) < 0.2, extreme, rng.choice(every, shape))
    return np.where(rng.random(shape) < 1e-4, np.nan, values)


def slow_gemm(config, a, b):
    """The definition, one exact rational at a time."""
    acc = accumulator_type(config)
    result = np.zeros((len(a), b.shape[1]))
    for i, j in np.ndindex(result.shape):
        total = None
        for start in range(0, a.shape[1], config.dim):
            psum = 0.0
            for k in range(start, min(start + config.dim, a.shape[1])):
                psum = oracle.fused(acc, psum, float(a[i, k]), float(b[k, j]))
            for _ in range(start + config.dim - a.shape[1]):
                psum = oracle.fused(acc, psum, 0.0, 0.0)
            total = psum if total is None else oracle.add(acc, total, psum)
        result[i, j] = total
    return result


@builds
def test_gemm_matches_exact_rationals(fmt, acc):
    config = AcceleratorConfig(fmt=fmt, acc=acc, dim=4)
    cases = 0
    for seed, (m, k, n) in enumerate([(1, 1, 1), (5, 4, 3), (3, 13, 4), (6, 33, 7)]):
        a = operands(config, (m, k), seed)
        b = operands(config, (k, n), seed + 100, len(config.format.encodings) - 1)
        want = slow_gemm(config, a, b)
        got = gemm(config, a, b)
        assert np.array_equal(got, want, equal_nan=True)
        assert np.array_equal(np.signbit(got)[want == 0], np.signbit(want)[want == 0])
        cases += m * n
    if fmt == "bf16":
        other = AcceleratorConfig(fmt=fmt, acc=acc, dim=8)
    else:
        other = AcceleratorConfig(fmt=fmt, acc="fp32" if acc == "bf16" else "bf16", dim=4)
    assert not np.array_equal(gemm(other, a, b), want, equal_nan=True)
    print(f"gemm {fmt} {acc}: {cases} dot products")


@builds
def test_compiled_gemm_matches_array_arithmetic(fmt, acc):
    config = AcceleratorConfig(fmt=fmt, acc=acc, dim=8)
    products = special = 0
    for seed, (draw, k) in enumerate([(operands, 61), (wild_operands, 64), (wild_operands, 90)]):
        a = draw(config, (128, k), seed, 0)
        b = draw(config, (k, 128), seed + 100, len(config.format.encodings) - 1)
        got, want = gemm(config, a, b), array_gemm(config, a, b)
        assert same(got, want)
        products += a.size * b.shape[1]
        special += np.count_nonzero(~np.isfinite(want) | (want == 0))
        assert not same(got, array_gemm(AcceleratorConfig(fmt=fmt, acc=acc, dim=4), a, b))
    assert special > 0
    print(f"gemm {fmt} {acc}: {products} products, {special} sums zero, Inf or NaN")


@pytest.mark.parametrize("fmt", ("posit8", "posit8es0", "posit8es2", "e4m3", "e5m2", "fp8"))
def test_float64_sums_cannot_end_on_a_tie_by_rounding(fmt):
    values = [decode(e, np.arange(256)) for e in AcceleratorConfig(fmt).format.encodings]
    finite = np.concatenate([v[np.isfinite(v) & (v > 0)] for v in values])
    products = np.unique(np.multiply.outer(finite, finite))
    long = products[products != round_to(BFLOAT16, products)]
    # A product that BF16 holds is safe; the others add exactly to any psum that is not larger.
    assert len(long) == 0 or products.max() / products.min() < 2.0**52
    assert (len(long) > 0) == (fmt in ("posit8", "posit8es0"))
    print(f"products of {fmt}: {len(products)}, {len(long)} longer than BF16")


def test_fused_multiply_add_rounds_once():
    config = AcceleratorConfig(fmt="bf16")
    acc = accumulator_type(config)
    rng = np.random.default_rng(7)
    a, b = operands(config, 3000, 8), operands(config, 3000, 9)
    psum = round_to(acc, rng.normal(size=3000) * 2.0 ** rng.integers(-40, 40, 3000))
    psum = np.where(rng.random(3000) < 0.3, round_to(acc, -a * b), psum)
    want = [oracle.fused(acc, *row) for row in zip(psum.tolist(), a.tolist(), b.tolist(),
                                                   strict=True)]
    assert np.array_equal(fused_multiply_add(acc, psum, a, b), want, equal_nan=True)
    print("fused multiply-add: 3000 cases")


def test_narrow_rounds_once_to_the_lane():
    config = AcceleratorConfig(fmt="posit8", acc="fp32")
    values = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, 3.4e38, np.nan, -0.0])
    got = narrow(config, values)
    assert got[:3].tolist() == [1.0, 1 + 2.0**-6, math.inf]
    assert np.isnan(got[3]) and np.signbit(got[4])


@pytest.mark.parametrize("depth, negative", ((4, True), (3, False)))
def test_a_negative_zero_psum_survives_full_tiles_only(depth, negative):
    config = AcceleratorConfig(fmt="bf16", dim=4)
    a, b = np.zeros((1, depth)), -np.ones((depth, 1))
    a[0, -1], b[-1] = 2.0**-100, -(2.0**-100)
    got = gemm(config, a, b)
    assert got[0, 0] == 0 and np.signbit(got[0, 0]) == negative


def test_nar_spoils_its_row_and_column_only():
    config = AcceleratorConfig(fmt="posit8", dim=4)
    a, b = np.ones((3, 9)), np.ones((9, 3))
    a[1, 2] = np.nan
    b[:, 0] = 0.0
    assert np.isnan(gemm(config, a, b)).tolist() == [[False] * 3, [True] * 3, [False] * 3]


@pytest.mark.parametrize("fmt", ("posit8", "posit8es0", "posit8es2", "e4m3", "e5m2", "fp8"))
def test_psums_of_8_bit_operands_are_never_subnormal_or_infinite(fmt):
    config = AcceleratorConfig(fmt=fmt)
    finite = np.concatenate([decode(e, np.arange(256)) for e in config.format.encodings])
    finite = np.abs(finite[np.isfinite(finite) & (finite != 0)])
    # Every psum is a multiple of the quantum of the smallest product, rounded to 8 bits at most
    # 2^24 times; its magnitude is at most twice the number of products times the largest.
    assert finite.min() ** 2 * 2.0**-8 > 2.0**-126
    assert 2 * 2.0**24 * finite.max() ** 2 < 2.0**128


@pytest.mark.parametrize("acc, most", (
    ("bf16", 12.0), ("fp32", 12.0), ("fused", 12.0), ("exact", 1.5)))
def test_a_layer_of_minilm_takes_its_time(acc, most):
    # 1.43 G products in 30 s, with exact sums in 5 s, and all else besides.
    config = AcceleratorConfig("posit8", acc=acc)
    encoding = config.format.encodings[0]
    rng = np.random.default_rng(11)
    a, b = (decode(encoding, encode(encoding, rng.normal(size=shape)))
            for shape in ((128, 384), (384, 768)))
    spent = []
    with threadpool_limits(1, "blas"):
        product(config, a, b)
        for _ in range(3):
            start = time.thread_time()
            product(config, a, b)
            spent.append(1e9 * (time.thread_time() - start) / (a.size * b.shape[1]))
    print(f"{acc}: {min(spent):.2f} ns a product")
    assert min(spent) < most


@builds
@pytest.mark.parametrize("transposed", (False, True))
def test_operands_as_they_are_stored(fmt, acc, transposed):
    config = AcceleratorConfig(fmt, acc=acc, dim=8)
    count = differing = 0
    for encoding, kind in enumerate(config.format.encodings):
        for rows, depth, columns in ((1, 19, 300), (5, 8, 128), (3, 40, 1)):
            a = wild_operands(config, (rows, depth), 3, encoding)
            b = wild_operands(config, (depth, columns), 4, encoding)
            codes = encode(kind, b.T if transposed else b)
            got = product_stored(config, a, kind, codes, transposed)
            assert same(got, product(config, a, decode(kind, encode(kind, b))))
            count += got.size
            if not np.isnan(got).all():
                assert not same(got, product_stored(config, a, kind, codes ^ 16, transposed))
                differing += 1
    print(f"{count} sums")
    assert differing


def test_exact_sums_of_operands_as_they_are_stored():
    config = AcceleratorConfig("posit8", acc="exact", dim=8)
    kind = config.format.encodings[0]
    a, b = (wild_operands(config, shape, seed, 0) for shape, seed in (((3, 20), 5), ((20, 9), 6)))
    assert same(product_stored(config, a, kind, encode(kind, b), False), product(config, a, b))


@pytest.mark.parametrize("fmt", [fmt for fmt, acc in BUILDS if acc == "bf16"])
def test_every_product_on_psums_from_the_smallest_to_the_largest(fmt):
    """Where float32 adds them: ties that a psum far below decides are among these."""
    config = AcceleratorConfig(fmt, acc="bf16", dim=4)
    first, last = config.format.encodings[0], config.format.encodings[-1]
    every, others = (decode(kind, np.arange(256)) for kind in (first, last))
    small = np.sort(every[(every > 0) & np.isfinite(every)])
    psums = np.concatenate([small[:3], -small[:2], small[60:62], -small[-2:]])
    a = np.stack([np.repeat(psums, 256), np.tile(every, len(psums))], axis=1)
    decided = 0
    for least in (small[0], 1.0):  # what makes psums of them
        b = np.stack([np.full(256, least), others])
        got, want = gemm(config, a, b), array_gemm(config, a, b)
        assert same(got, want)
        with np.errstate(invalid="ignore"):  # what rounding to float32 on the way would give
            onto = np.float32(np.float32(a[:, :1] * least) + np.float32(a[:, 1:] * others[None]))
        decided += np.count_nonzero((round_to(BFLOAT16, np.float64(onto)) != want)
                                    & np.isfinite(want))
    print(f"{fmt}: {4 * a.shape[0] * 128} sums, {decided} that float32 alone would round wrongly")
    assert (decided > 0) == (fmt == "posit8")


def test_products_that_float32_could_lose_are_added_in_float64():
    config, rng = AcceleratorConfig("bf16", dim=4), np.random.default_rng(7)
    codes = rng.integers(0, 128, (5, 9)) | rng.integers(30, 100, (5, 9)) << 7
    for lift in (0, 40, 62):  # exponents from far below the smallest product to far above
        a = decode(config.format.encodings[0], codes + (lift << 7))
        b = decode(config.format.encodings[0], codes.T + (lift << 7)).copy()
        assert same(gemm(config, a, b), array_gemm(config, a, b))
    assert same(gemm(config, -a, b * 0), array_gemm(config, -a, b * 0))


@pytest.mark.parametrize("a, b", [
    ((201 * 2.0**-60, -200 * 2.0**-60), (201 * 2.0**-67, 202 * 2.0**-67)),  # 2^-127 is left
    ((-(2.0**63), 2.0**64), (2.0**64, 2.0**64))], ids=("subnormal", "beyond"))
def test_a_sum_that_float32_would_get_wrong_is_the_definitions(a, b):
    config = AcceleratorConfig("bf16", dim=4)
    a, b = np.array([a]), np.array([b]).T
    with np.errstate(over="ignore"):
        onto = np.float32(a[:, :1] @ b[:1]) + np.float32(a[:, 1:]) * np.float32(b[1:])
    got = gemm(config, a, b)
    assert same(got, array_gemm(config, a, b)) and not same(got, np.float64(onto))
