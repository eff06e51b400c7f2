"""Schemes of prior work, each against its formula, and what sums lose."""

import math

import numpy as np
import pytest

from hdl.spec.formats import BFLOAT16
from sim.campaigns.accuracy import schemes, sums
from sim.campaigns.accuracy.schemes import SCHEMES, Scheme
from sim.model.rounding import round_to


@pytest.fixture
def operands():
    rng = np.random.default_rng(0)
    a = round_to(BFLOAT16, rng.normal(0, 1, (3, 5, 128)) * [[[1.0]], [[4.0]], [[0.1]]])
    return a, round_to(BFLOAT16, rng.normal(0, 0.05, (128, 64)))


def stepped(values, largest, steps=127):
    """To the nearest of ``steps`` to a side, item by item."""
    return np.array([round(v * steps / largest) * largest / steps for v in values.ravel()]
                    ).reshape(values.shape)


@pytest.mark.parametrize("name", SCHEMES)
def test_texts_do_not_see_each_other(name, operands):
    a, b = operands
    scheme = Scheme(name)
    scheme._columns[schemes._key(b)] = np.abs(a).max(axis=(0, 1))
    together = scheme.product(a, b)
    assert np.array_equal(together, np.concatenate([scheme.product(own[None], b) for own in a]))
    exact = a @ b
    error = np.linalg.norm(together - exact) / np.linalg.norm(exact)
    print(f"{name}: {100 * error:.2f} %")
    assert 1e-3 < error < (0.15 if name == "nf4" else 0.06)


def test_int8_is_by_tensor(operands):
    a, b = operands
    right = np.stack([stepped(own, np.abs(own).max()) for own in a]) @ stepped(b, np.abs(b).max())
    assert np.array_equal(Scheme("int8").product(a, b), round_to(BFLOAT16, right))
    pairs = a[:, None]  # texts × heads × …
    turned = pairs.swapaxes(2, 3)
    right = np.stack([stepped(own, np.abs(own).max()) for own in pairs])
    assert np.array_equal(Scheme("int8").product(pairs, turned),
                          round_to(BFLOAT16, right @ right.swapaxes(2, 3)))


def test_outliers_stay_whole(operands):
    a, b = operands[0].copy(), np.eye(128)
    a[0, 2, 7] = 77.5
    found = Scheme("llm.int8").product(a, b)
    assert np.array_equal(found[0, :, 7], a[0, :, 7])  # the column, of that text alone
    assert not np.array_equal(found[2, :, 7], a[2, :, 7])
    rest = np.where(np.arange(128) == 7, 0, a[0, 2])
    right = stepped(rest, np.abs(rest).max())
    assert np.array_equal(np.delete(found[0, 2], 7), np.delete(round_to(BFLOAT16, right), 7))


def test_columns_are_smoothed_by_what_calibration_saw(operands):
    a, b = operands[0].copy(), operands[1]
    a[:, :, 7] *= 64  # a column that takes all steps of the others
    smooth, plain = Scheme("smoothquant"), Scheme("int8")
    smooth.calibrating = True
    assert np.array_equal(smooth.product(a, b), round_to(BFLOAT16, a @ b))
    smooth.calibrating = False
    errors = [np.linalg.norm(scheme.product(a, b) - a @ b) for scheme in (smooth, plain)]
    assert errors[0] < errors[1] / 2
    share = smooth._share(b)
    assert share[7] == pytest.approx(math.sqrt(np.abs(a[:, :, 7]).max() / np.abs(b[7]).max()))


def test_weights_of_nf4_are_quantiles(operands):
    b = np.tile(schemes._NF4, (8, 8)).T * 2.0  # blocks of 64 along what meets activations
    eye = np.eye(128)[None]
    assert np.array_equal(Scheme("nf4").product(eye, b), round_to(BFLOAT16, b[None]))
    assert not np.array_equal(Scheme("nf4").product(eye, b + 0.05), round_to(BFLOAT16, b + 0.05))


def test_powers_of_two_change_nothing_else(operands):
    a, b = operands
    for name in ("e4m3 2^n", "posit8 2^n"):
        assert np.array_equal(Scheme(name).product(a * 8, b), 8 * Scheme(name).product(a, b))
    for name, same in (("posit8, weights 2^n", True), ("posit8", False)):
        lower = Scheme(name).product(a, b / 16)
        assert np.array_equal(lower * 16, Scheme(name).product(a, b)) == same


def test_what_sums_lose(monkeypatch):
    rng = np.random.default_rng(1)
    drawn = rng.normal(0, 1, (9, 256)), rng.normal(0, 0.1, (7, 256))
    for name in ("_real", "_drawn"):
        monkeypatch.setattr(sums, name, lambda: drawn)
    monkeypatch.setattr(sums, "_LENGTHS", (16, 256))
    monkeypatch.setattr(sums, "_DRAWN", (33,))
    entries = sums.sums()
    assert len(entries) == 2 * 3 * 6
    for one in (entries[i:i + 6] for i in range(0, len(entries), 6)):
        operands, cut, bf16, fp32, _, exact = (entry["error"] for entry in one)
        assert cut > bf16 > exact > 1e-4 and fp32 < 1.1 * exact and operands > bf16
    assert entries[7]["error"] > 1.5 * entries[1]["error"]  # truncation grows with K
    lines = list(sums.sum_lines(entries))
    assert lines[0] == "| MiniLM, K | 16 | 256 |" and "| drawn, K | 33 |" in lines
    assert len(lines) == 2 + 12 + 1 + 2 + 12


def test_truncated_sums_by_their_definition():
    x, w = np.array([[1.0, 2.0 ** -7, 2.0 ** -8, 3.0]]), np.array([[1, 1, 1, 2.0 ** -9]]).T
    assert sums._cut(x, w, 4) == 1 + 2.0 ** -7  # neither of the last two is seen
    assert sums._cut(-x, w, 4) == -1 - 2.0 ** -7
    assert sums._cut(x, w, 2) == 1 + 2.0 ** -6  # together they are half a unit too much
