import numpy as np
import pytest

from compiler.training.gradients.eight_bit import EightBit
from compiler.training.gradients.numerics import Exact
from compiler.training.gradients.softmax import BACKWARD, STUDIED, kappa, softmax
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16, FORMATS
from sim.model import lanes
from sim.model.rounding import from_words
from support.differences import relative, slopes


class Segments(Exact):
    """An exact exponential over the straight segments of the bit-trick reciprocal."""

    def reciprocal(self, x):
        half, exponent = np.frexp(x)
        return np.ldexp(1 - (2 * half - 1) / 2, 1 - exponent)


def problem(seed, rows=6, columns=7):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1.5, (rows, columns)), rng.normal(0, 1, (rows, columns))


def found(numerics, z, g):
    p, back = softmax(numerics, z)
    return back(p, g)


def true(numerics, z, g):
    return slopes(lambda values: float((softmax(numerics, values)[0] * g).sum()), z)


@pytest.mark.parametrize("form", BACKWARD)
def test_forms_of_the_lanes_are_the_slope_of_softmax(form):
    numerics = Exact(backward=form)
    error = max(relative(found(numerics, z, g), true(numerics, z, g))
                for z, g in map(problem, range(5)))
    print(f"210 items, relative error {error:.1e}")
    assert error < 1e-8


def test_equation_5_with_the_path_of_the_maximum_is_the_slope_of_the_bit_trick():
    """And without it is not: the sum of a row's score gradients says why."""
    errors = {form: [] for form in ("eq5", "eq5_max", "ordinary")}
    sums = {form: [] for form in errors}
    for seed in range(20):
        z, g = problem(seed)
        wanted = true(Segments(), z, g)
        for form in errors:
            own = found(Segments(backward=form), z, g)
            errors[form].append(relative(own, wanted))
            sums[form].append(np.abs(own.sum(axis=1)).sum() / np.abs(own).sum())
    print({form: f"{np.mean(values):.1e}" for form, values in errors.items()})
    assert np.max(errors["eq5_max"]) < 1e-8
    assert np.mean(errors["eq5"]) > 0.05 and np.mean(errors["ordinary"]) > 0.05
    assert np.abs(true(Segments(), *problem(0)).sum(axis=1)).max() < 1e-9
    assert np.max(sums["eq5_max"]) < 1e-14 < 0.02 < np.mean(sums["eq5"])


def test_kappa_lies_between_one_half_and_two():
    total = np.linspace(1, 4096, 65_521)
    values = kappa(total, Segments().reciprocal(total))
    fraction = 2 * np.frexp(total)[0] - 1
    # κ T with T = S f(S), the sum of the row's probabilities.
    share = values * total * Segments().reciprocal(total)
    assert values.min() >= 0.5 and values.max() <= 2
    assert np.allclose(share, (1 + fraction) / (2 - fraction))


def test_centring_again_squares_what_is_left_of_the_sum():
    """The row's sum is R (1 − T), then R (1 − T)², T the sum of the probabilities."""
    z, g = problem(3)
    plain, _ = softmax(Segments(), z)
    left = 1 - plain.sum(axis=1)
    common = (plain * g).sum(axis=1)
    assert np.abs(left).max() > 0.05
    assert np.allclose(found(Segments(), z, g).sum(axis=1), common * left)
    assert np.allclose(found(Segments(backward="centred"), z, g).sum(axis=1), common * left ** 2)


@pytest.mark.parametrize("form", STUDIED)
def test_rows_that_are_hidden_whole_have_no_gradient(form):
    for numerics in (Exact(backward=form), EightBit(AcceleratorConfig("posit8"), backward=form)):
        z = np.zeros((2, 3), numerics.dtype)
        z[0] = numerics.masked
        p, back = softmax(numerics, z)
        d = back(numerics.stored(p), np.ones_like(z))
        assert not p[0].any() and not d[0].any() and np.isfinite(d).all()


@pytest.mark.parametrize("fmt", [name for name in FORMATS
                                  if name not in ("bf16", "int8")])
@pytest.mark.parametrize("form", BACKWARD)
def test_eight_bit_forms_are_close_to_the_real_slope(fmt, form):
    """Of the probabilities that the row really has; the list alone, no gradient is stored."""
    numerics = EightBit(AcceleratorConfig(fmt, softmax="pwl"), backward=form)
    rng = np.random.default_rng(5)
    z = numerics.lane(rng.normal(0, 1.5, (64, 32)).astype(np.float32))
    g = numerics.lane(rng.normal(0, 1, z.shape).astype(np.float32))
    p, back = softmax(numerics, z)
    p = numerics.stored(p)
    own, sigma = back(p, g).astype(np.float64), p.astype(np.float64)
    centre = g - (sigma * g).sum(axis=1, keepdims=True)
    if form == "centred":
        centre = centre - (sigma * centre).sum(axis=1, keepdims=True)
    real = sigma * centre
    cosine = (own * real).sum() / np.linalg.norm(own) / np.linalg.norm(real)
    print(f"{fmt} {form}: cosine {cosine:.6f} over {own.size} items")
    assert cosine >= 0.9999


@pytest.mark.parametrize("softmax_mode", ["pwl", "approx", "approx_shifted"])
def test_the_functions_are_those_of_the_lanes(softmax_mode):
    config = AcceleratorConfig("posit8", softmax=softmax_mode)
    x = from_words(BFLOAT16, np.arange(1 << 16))
    own = EightBit(config)
    for name in ("exp", "reciprocal"):
        wanted = getattr(lanes, name)(config, x)
        assert np.array_equal(getattr(own, name)(x.astype(np.float32)), wanted, equal_nan=True)


@pytest.mark.parametrize("softmax_mode", ["pwl", "approx", "approx_shifted"])
def test_probabilities_of_the_loss_are_accurate_in_every_build(softmax_mode):
    numerics = EightBit(AcceleratorConfig("posit8", softmax=softmax_mode))
    rng = np.random.default_rng(6)
    worst = compared = 0
    for scale in (0.1, 1, 4, 30):
        logits = numerics.lane(rng.normal(0, scale, (200, 10)).astype(np.float32))
        wanted = Exact().loss_softmax(logits.astype(np.float64))
        error = np.abs(numerics.loss_softmax(logits) - wanted)
        worst, compared = max(worst, float(error.max())), compared + error.size
    print(f"{softmax_mode}: {compared} probabilities, largest error {worst:.4f}")
    assert compared == 8000 and worst < 0.012
