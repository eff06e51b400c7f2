import numpy as np
import pytest

from compiler.training.description import AdamW, Momentum, Sgd
from compiler.training.gradients.eight_bit import EightBit
from compiler.training.gradients.numerics import Exact
from compiler.training.update import MASTERS, Updater, clip_factor, norm_of
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BFLOAT16
from sim.model.rounding import round_to


def lanes():
    return EightBit(AcceleratorConfig("posit8"))


def start(seed=0):
    rng = np.random.default_rng(seed)
    return {"a": rng.normal(0, 1, (3, 4)), "b": rng.normal(0, 1, 5)}


def gradients(step):
    return {name: values * 0.3 for name, values in start(100 + step).items()}


def textbook(optimiser, steps, rate):
    """Each rule as its authors write it, in float64."""
    weights, first, second = start(), {}, {}
    for step in range(1, steps + 1):
        for name, g in gradients(step).items():
            zero = np.zeros_like(g)
            if isinstance(optimiser, AdamW):
                first[name] = optimiser.beta1 * first.get(name, zero) + (1 - optimiser.beta1) * g
                second[name] = (optimiser.beta2 * second.get(name, zero)
                                + (1 - optimiser.beta2) * g * g)
                direction = first[name] / (1 - optimiser.beta1 ** step) / np.sqrt(
                    second[name] / (1 - optimiser.beta2 ** step))
            elif isinstance(optimiser, Momentum):
                direction = first[name] = optimiser.momentum * first.get(name, zero) + g
            else:
                direction = g
            weights[name] = weights[name] - rate * (direction + optimiser.decay * weights[name])
    return weights


@pytest.mark.parametrize("optimiser", [
    Sgd(), Sgd(decay=0.1), Momentum(), Momentum(0.5, 0.1), AdamW(), AdamW(0.8, 0.95, decay=0.1)],
    ids=str)
def test_updates_are_those_of_the_rules(optimiser):
    updater = Updater(Exact(), optimiser, start())
    for step in range(1, 21):
        updater.apply(gradients(step), 0.01)
    for name, wanted in textbook(optimiser, 20, 0.01).items():
        assert np.allclose(updater.values[name], wanted, rtol=1e-12, atol=1e-12)


def test_another_rule_is_told_apart():
    updater = Updater(Exact(), AdamW(beta2=0.98), start())
    for step in range(1, 21):
        updater.apply(gradients(step), 0.01)
    wanted = textbook(AdamW(), 20, 0.01)
    assert max(np.abs(updater.values[name] - wanted[name]).max() for name in wanted) > 1e-4


@pytest.mark.parametrize("numerics, bound", [(Exact(), 1e-12), (lanes(), 2.0 ** -6)])
def test_gradients_beyond_the_limit_are_scaled_to_it(numerics, bound):
    for length in (1e-3, 0.5, 1.0, 1.5, 7.0, 1e4):
        found = gradients(1)
        norm = norm_of(found)
        scaled = {name: np.asarray(g * length / norm, numerics.dtype) for name, g in found.items()}
        for limit in (1.0, 4.0):
            factor = float(clip_factor(numerics, scaled, limit)[0])
            wanted = min(1.0, limit / length)
            assert factor == 1 if length < limit else abs(factor / wanted - 1) <= bound
    assert clip_factor(numerics, scaled, None) == 1


def test_a_gradient_within_the_limit_is_not_touched():
    found = {"a": np.full((3, 4), 0.01), "b": np.full(5, -0.02)}
    clipped, plain = (Updater(lanes(), Sgd(), start(), "pair") for _ in range(2))
    clipped.apply(found, 0.5, clip=1.0)
    plain.apply(found, 0.5)
    assert all(np.array_equal(clipped.values[name], plain.values[name]) for name in found)


def drift(masters, rate=1e-3, steps=200):
    """How far masters are from those of float64 after small updates, over the way they went."""
    numerics = lanes()
    begin = {name: round_to(BFLOAT16, values) for name, values in start().items()}
    own = Updater(numerics, AdamW(), begin, masters)
    true = Updater(Exact(), AdamW(), begin)
    for step in range(1, steps + 1):
        found = {name: numerics.lane(g.astype(np.float32)) for name, g in gradients(step).items()}
        for updater in (own, true):
            updater.apply(found, rate)
    moved = [np.concatenate([(updater.values[name] + updater.lower[name] - begin[name]).ravel()
                             for name in begin]) for updater in (own, true)]
    return np.linalg.norm(moved[0] - moved[1]) / np.linalg.norm(moved[1])


def test_pairs_keep_what_single_words_lose():
    errors = {masters: drift(masters) for masters in MASTERS}
    print({name: f"{error:.4f}" for name, error in errors.items()})
    assert errors["float"] < 1e-4 and errors["pair"] < 0.02 and errors["single"] > 0.3


def test_updates_far_below_a_unit_of_the_word_add_up():
    numerics = lanes()
    own = {masters: Updater(numerics, Sgd(), {"a": np.ones(4)}, masters) for masters in MASTERS}
    for _ in range(200):
        for updater in own.values():
            updater.apply({"a": np.full(4, 2.0 ** -13, np.float32)}, 0.5)
    moved = {masters: float(1 - updater.values["a"][0] - updater.lower["a"][0])
             for masters, updater in own.items()}
    assert moved == {"float": 200 * 2.0 ** -14, "pair": 200 * 2.0 ** -14, "single": 0}


def test_masters_are_bf16_words():
    updater = Updater(lanes(), AdamW(decay=0.1), start(), "pair")
    for step in range(1, 6):
        updater.apply(gradients(step), 0.01, clip=1.0)
    for values in updater.values.values():
        assert np.array_equal(values, round_to(BFLOAT16, values))


def test_other_gradients_are_refused():
    with pytest.raises(ValueError, match="gradients must be of what is trained, not of b"):
        Updater(Exact(), Sgd(), start()).apply({"a": np.zeros((3, 4))}, 0.1)
    with pytest.raises(ValueError, match="masters must be one of float, single, pair, not 'fp32'"):
        Updater(Exact(), Sgd(), start(), "fp32")
