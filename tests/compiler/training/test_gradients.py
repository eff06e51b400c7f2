from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints import reference
from compiler.training.gradients import attention, block, linear, softmax
from compiler.training.gradients.network import Batch, gradients_of, logits_of
from compiler.training.gradients.numerics import Exact, slope
from compiler.training.gradients.parameters import parameters, with_parameters
from compiler.training.gradients.weights import Adapter, Run, Weights, lora_names
from support import networks
from support.differences import arrays_of, relative, slopes, worst_parameter

BOUND = 1e-6
LAYER = ("blocks.1.query.weight", "blocks.0.attention_norm.gain", "blocks.0.up.weight")


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_every_parameter_has_the_slope_of_the_loss(name):
    worst, error, checked = worst_parameter(*networks.NETWORKS[name]())
    print(f"{name}: {checked} parameters, largest relative error {error:.1e} ({worst})")
    assert checked > 600 and error <= BOUND


@pytest.mark.parametrize("change", [
    {"pooling": "first"}, {"pooling": "mean_l2"}, {"activation": "relu"}, {"activation": "silu"},
    {"activation": "gelu_sigmoid"}, {"padded": False}], ids=str)
def test_forms_of_bert(change):
    worst, error, checked = worst_parameter(*networks.bert(**change), wanted=[
        "head.weight", "blocks.1.down.weight", "blocks.0.up.weight", "blocks.0.query.weight"])
    print(f"{checked} parameters, largest relative error {error:.1e} ({worst})")
    assert checked == 18 + 48 + 48 + 36 and error <= BOUND


def test_rotary_pairs_in_halves():
    worst, error, checked = worst_parameter(*networks.llama(interleaved=False), wanted=[
        "blocks.0.query.weight", "blocks.0.key.weight"])
    assert checked == 96 and error <= BOUND, worst


def test_logits_are_those_of_the_reference():
    compared = 0
    for make in networks.NETWORKS.values():
        model, batch, _ = make()
        exact = Exact()
        logits = logits_of(model, Weights(parameters(model), exact), exact, batch)
        for row, given in enumerate(batch.inputs):
            # The reference knows no padding: a shorter sequence is one.
            count = len(given) if batch.valid is None else int(batch.valid[row].sum())
            kinds = None if batch.segments is None else batch.segments[row, :count]
            wanted = reference.forward(model, given[:count], segments=kinds).output
            own = logits[row, :count] if logits.ndim == 3 else logits[row]
            assert np.allclose(own, wanted, atol=1e-5)
            compared += wanted.size
    assert compared > 100


def errs(monkeypatch, place, name, wrong, network="bert", wanted=LAYER):
    monkeypatch.setattr(place, name, wrong)
    return worst_parameter(*networks.NETWORKS[network](), wanted=wanted)[1]


class WithoutSecondMean(Exact):
    """LayerNorm's backward pass takes two means a row, of x̂ ⊙ h and of t: the latter is lost. Its
    forward pass takes one."""

    def __init__(self):
        super().__init__()
        self.forward = True
        self.taken = 0

    def gradient(self, site, g):
        self.forward, self.taken = False, 0 if site.endswith(" h") else self.taken
        return g

    def mean(self, x, count=None):
        self.taken += 1
        lost = not self.forward and self.taken == 2
        return 0 * x[..., :1] if lost else super().mean(x, count)


def test_a_dropped_term_is_found():
    error = worst_parameter(*networks.bert(), numerics=WithoutSecondMean(), wanted=LAYER)[1]
    assert error > 1e-2


def test_an_untransposed_gradient_of_the_keys_is_found(monkeypatch):
    def wrong(run, name, own, q, k, v, hidden):
        sums, back = right(run, name, own, q, k, v, hidden)

        def swapped(d):
            d_q, _, d_v = back(d)
            # dS K in place of dSᵀ Q: the scores are square, so that no shape tells.
            return d_q, d_q, d_v

        return sums, swapped

    right = attention._heads
    assert errs(monkeypatch, attention, "_heads", wrong, wanted=["blocks.0.key.weight"]) > 1e-2


def test_a_forgotten_gamma_is_found(monkeypatch):
    def wrong(run, name, own, x, site):
        y, back = right(run, name, own, x, site)
        gamma = run.weights.stored(f"{name}.gain")
        return y, lambda d, residual=None: back(d / gamma, residual)

    right = block.normalise
    assert errs(monkeypatch, block, "normalise", wrong) > 1e-2


def test_a_forgotten_slope_of_a_head_of_two_layers_is_found(monkeypatch):
    def wrong(numerics, name, x):
        return 1 if x.shape == (3, 5, 6) else right(numerics, name, x)

    right = Exact.slope
    assert errs(monkeypatch, Exact, "slope", wrong, "masked") > 1e-2


def test_a_factor_of_the_scores_that_is_missing_is_found(monkeypatch):
    def wrong(n, z):
        p, back = right(n, z)
        return p, lambda sigma, g: back(sigma, g) * 2

    right = softmax.softmax
    assert errs(monkeypatch, attention, "softmax", wrong) > 1e-2


@pytest.mark.parametrize("name", ["gelu", "gelu_sigmoid", "silu", "relu", "tanh", "sigmoid"])
def test_slopes_of_activations(name):
    x = np.linspace(-9, 9, 1001) + 1e-3
    true = (Exact().activation(name, x + 1e-5) - Exact().activation(name, x - 1e-5)) / 2e-5
    assert np.abs(slope(name, x) - true).max() < 1e-8
    narrow = slope(name, x.astype(np.float32))
    assert narrow.dtype == np.float32 and np.abs(narrow - true).max() < 3e-6


def test_an_unknown_activation_has_no_slope():
    with pytest.raises(ValueError, match="activation must be gelu, .*, not 'mish'"):
        slope("mish", np.zeros(1))


def adapters_of(model, rank, scale=0.5):
    rng = np.random.default_rng(7)
    arrays = arrays_of(model)
    names = [name.removesuffix(".weight") for name in arrays
             if name.startswith("blocks.") and name.endswith(".weight")]
    found = {}
    for name in names:
        outputs, inputs = arrays[f"{name}.weight"].shape
        found[name] = Adapter(rng.normal(0, 0.4, (rank, inputs)),
                              rng.normal(0, 0.4, (outputs, rank)), scale)
    return found


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_adapters_have_the_slope_of_the_loss(name, beside):
    model, batch, kind = networks.NETWORKS[name]()
    arrays, exact, own = arrays_of(model), Exact(), adapters_of(model, 2)
    wanted = [name for layer in own for name in lora_names(layer)]
    _, gradients = gradients_of(model, Weights(arrays, exact, own, beside), exact, batch, kind,
                                wanted)
    checked, worst = 0, 0.0
    for layer, adapter in own.items():
        for part, name in zip(("a", "b"), lora_names(layer), strict=True):
            def loss(values, part=part, layer=layer, adapter=adapter):
                moved = own | {layer: replace(adapter, **{part: values})}
                return gradients_of(model, Weights(arrays, exact, moved, beside), exact, batch,
                                    kind, ())[0]

            worst = max(worst, relative(gradients[name], slopes(loss, getattr(adapter, part))))
            checked += gradients[name].size
    print(f"{checked} items of adapters, largest relative error {worst:.1e}")
    assert checked > 250 and worst <= BOUND


@pytest.mark.parametrize("name", ["bert", "vit", "llama"])
def test_adapters_beside_their_matrices_are_the_same_mathematics(name):
    model, batch, kind = networks.NETWORKS[name]()
    arrays, exact = arrays_of(model), Exact()
    own = dict(list(adapters_of(model, 3).items())[1:-1])  # of some of those that read the same
    wanted = [name for layer in own for name in lora_names(layer)]
    (loss, merged), (other, beside) = (
        gradients_of(model, Weights(arrays, exact, own, where), exact, batch, kind, wanted, 1)
        for where in (False, True))
    assert abs(loss - other) < 1e-12 and merged.keys() == beside.keys() == set(wanted)
    assert all(np.allclose(merged[name], beside[name], atol=1e-12) for name in wanted)


def test_low_rank_is_the_full_gradient_taken_apart():
    model, batch, kind = networks.bert()
    arrays, exact, own = arrays_of(model), Exact(), adapters_of(model, 3)
    layer = "blocks.0.up"
    _, found = gradients_of(model, Weights(arrays, exact, own), exact, batch, kind,
                            [f"{layer}.weight", *lora_names(layer)])
    whole, adapter = found[f"{layer}.weight"], own[layer]
    assert np.allclose(found[f"{layer}.lora_a"], adapter.scale * adapter.b.T @ whole, atol=1e-14)
    assert np.allclose(found[f"{layer}.lora_b"], adapter.scale * whole @ adapter.a.T, atol=1e-14)


@pytest.mark.parametrize("recompute", [1, 2, 3])
def test_recomputing_changes_no_bit(recompute):
    for make in (networks.bert, networks.vit, networks.llama):
        model, batch, kind = make()
        arrays, exact = arrays_of(model), Exact()
        wanted = [name for name in arrays if name.startswith("blocks.")]
        plain, again = (gradients_of(model, Weights(arrays, exact), exact, batch, kind, wanted, n)
                        for n in (0, recompute))
        assert plain[0] == again[0]
        assert all(np.array_equal(plain[1][name], again[1][name]) for name in wanted)


def test_what_is_not_wanted_is_not_computed():
    model, batch, kind = networks.bert()
    exact = Exact()
    run = Run(exact, Weights(arrays_of(model), exact), {"head.bias"})
    linear.linear(run, "head", np.ones((2, 6)), "head")[1](np.ones((2, 3)), onward=False)
    assert list(run.gradients) == ["head.bias"]
    for wanted in (["head.weight"], ["blocks.1.down.weight"], ["final_norm.gain"]):
        found = gradients_of(model, run.weights, exact, batch, kind, wanted)[1]
        assert found.keys() <= set(wanted)


def test_parameters_are_put_back():
    for make in networks.NETWORKS.values():
        model, *_ = make()
        arrays = arrays_of(model)
        doubled = with_parameters(model, {name: 2 * values for name, values in arrays.items()})
        assert all(np.array_equal(values, 2 * arrays[name])
                   for name, values in parameters(doubled).items())
        assert parameters(doubled).keys() == arrays.keys()


@pytest.mark.parametrize("changed, message", [
    ({"head.gain": np.ones(3)}, "head.gain is no parameter of random BERT"),
    ({"head.bias": np.ones(4)}, r"head.bias must be of shape \(3,\), not \(4,\)"),
    ({"blocks.1.gate.weight": np.ones((8, 6))}, "blocks.1.gate.weight is no parameter"),
    ({"blocks.2.up.weight": np.ones((8, 6))}, "blocks.2.up.weight is no parameter")])
def test_other_parameters_are_refused(changed, message):
    model, _, _ = networks.bert()
    with pytest.raises(ValueError, match=message):
        with_parameters(model, changed).blocks[1]


@pytest.mark.parametrize("make, batch, message", [
    (networks.bert, Batch(np.zeros((2, 0), int), np.zeros(2, int)), "none of them 0"),
    (networks.bert, Batch(np.zeros((2, 6), int), np.zeros(2, int)), "at most 5 positions, not 6"),
    (networks.vit, Batch(np.zeros((2, 4)), np.zeros(2, int)), "must have 3 dimensions"),
    (networks.bert, Batch(np.zeros((2, 5), int), np.zeros(2, int), np.ones((2, 4), bool)),
     r"valid must be of shape \(2, 5\)"),
    (networks.bert, Batch(np.zeros((2, 5), int), np.zeros((2, 5), int)),
     r"labels of classes must be of shape \(2,\)")])
def test_batches_that_do_not_fit_are_refused(make, batch, message):
    model, _, kind = make()
    exact = Exact()
    with pytest.raises(ValueError, match=message):
        gradients_of(model, Weights(arrays_of(model), exact), exact, batch, kind, ())
