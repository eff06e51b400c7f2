"""Lists of the backward pass, each alone: the machine against float64, RTL against the machine."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from compiler.lowering import backward_lists as lists
from compiler.lowering import slopes
from compiler.program.builder import ProgramBuilder, read
from compiler.program.epilogue import Epilogue
from compiler.training.gradients.loss import loss_of
from compiler.training.gradients.numerics import Exact, slope
from hdl.spec.config import SOFTMAX_MODES, AcceleratorConfig
from sim.campaigns.programs import BASE, Case
from sim.campaigns.regression import compare, small_accelerator
from sim.model.machine import Machine

BETWEEN = (" slope", " above")  # tensors of a slope's own


class Bench:
    """Emits one list over random operands; ``values`` are the operands' as they are stored."""

    def __init__(self, config, seed, rows, columns):
        self.builder = ProgramBuilder(config, BASE)
        self.rng = np.random.default_rng(seed)
        self.stored = config.format.encodings[0].name
        self.shape = rows, columns
        self.operands = []
        self.out = self.builder.empty(rows, columns, "bf16", name="result")

    def tensor(self, values, encoding="bf16"):
        self.operands.append(self.builder.constant(values, encoding))
        return self.operands[-1]

    def normal(self, scale=1.0, encoding="bf16", shift=0.0, rows=None):
        shape = self.shape if rows is None else (rows, self.shape[1])
        return self.tensor(self.rng.normal(shift, scale, shape), encoding)

    def probabilities(self, sharp=1.5):
        e = np.exp(self.rng.normal(0, sharp, self.shape))
        return self.tensor(e / e.sum(axis=1, keepdims=True), self.stored)


def ordinary(b):
    x, p = b.normal(), b.probabilities()
    b.builder.vector(x, b.out, lists.softmax_backward(p, 0.25))
    return lambda x, p: p * (x / 4 - (p * x / 4).sum(axis=1, keepdims=True))


def centred(b):
    x, p = b.normal(), b.probabilities()
    b.builder.vector(x, b.out, lists.softmax_backward(p, 0.25, centred=True))

    def truth(x, p):
        d = x / 4 - (p * x / 4).sum(axis=1, keepdims=True)
        return p * (d - (p * d).sum(axis=1, keepdims=True))

    return truth


def _norm(x, h, eps, mean):
    x = x - x.mean(axis=1, keepdims=True) if mean else x
    inverse = 1 / np.sqrt((x * x).mean(axis=1, keepdims=True) + eps)
    unit = x * inverse
    inner = h - unit * (unit * h).mean(axis=1, keepdims=True)
    return (inner - h.mean(axis=1, keepdims=True) if mean else inner) * inverse


def layer_norm(b):
    x, h = b.normal(2.0, shift=0.5), b.normal(0.5, b.stored)
    b.builder.vector(x, b.out, lists.layer_norm_backward(h, 1e-5, 4.0))
    return lambda x, h: 4 * _norm(x, h, 1e-5, True)


def layer_norm_residual(b):
    x, h, d = b.normal(2.0), b.normal(0.5, b.stored), b.normal(0.25, b.stored)
    b.builder.vector(x, b.out, lists.layer_norm_backward(h, 1e-5, 2.0, d, 0.25))
    return lambda x, h, d: (2 * _norm(x, h, 1e-5, True) + d) / 4


def layer_norm_far(b, twice=True):
    """Rows whose mean is 30 times their deviation, gradients with a mean."""
    x, h, d = b.normal(shift=30), b.normal(0.5, shift=1), b.normal(0.25, b.stored)
    b.builder.vector(x, b.out, lists.layer_norm_backward(h, 1e-5, 2.0, d, 0.25, twice=twice))
    return lambda x, h, d: (2 * _norm(x, h, 1e-5, True) + d) / 4


def rms_norm(b):
    x, h = b.normal(2.0), b.normal(0.5, b.stored)
    b.builder.vector(x, b.out, lists.rms_norm_backward(h, 1e-5, 0.5))
    return lambda x, h: _norm(x, h, 1e-5, False) / 2


def rms_norm_residual(b):
    x, h, d = b.normal(2.0), b.normal(0.5, b.stored), b.normal(0.25, b.stored)
    b.builder.vector(x, b.out, lists.rms_norm_backward(h, 1e-5, 1.0, d, 8.0))
    return lambda x, h, d: 8 * (_norm(x, h, 1e-5, False) + d)


def relu(b):
    x, d = b.tensor(np.maximum(b.rng.normal(0, 1, b.shape), 0), b.stored), b.normal()
    b.builder.vector(x, b.out, lists.relu_backward(d))
    return lambda x, d: (x > 0) * d


def relu_mask(b):
    x = b.tensor(np.maximum(b.rng.normal(0, 0.01, b.shape), 0), b.stored)
    b.builder.vector(x, b.out, lists.relu_backward())
    return lambda x: (x > 0).astype(float)


def accumulate(b):
    x, total = b.normal(), b.normal()
    b.builder.vector(x, total, lists.accumulate(total, 0.5))
    b.builder.vector(total, b.out)
    b.operands = [x, total]
    return lambda x, total: x / 2 + total


def cross_entropy(b):
    p = b.probabilities()
    rows, classes = b.shape
    labels = b.rng.integers(0, classes, rows)
    identity = b.builder.constant(np.eye(classes), b.stored)
    b.builder.gather(identity, b.builder.indices(labels), b.out,
                     lists.cross_entropy_backward(p, 1 / 8))
    return lambda p: (p - np.eye(classes)[labels]) / 8


def silu_slope(b):
    x = b.normal(2.0)
    slopes.sigmoid_slope(b.builder, x, b.out)
    return lambda x: slope("silu", x)


def gelu_sigmoid_slope(b):
    x = b.normal(2.0)
    slopes.sigmoid_slope(b.builder, x, b.out, 1.702)
    return lambda x: slope("gelu_sigmoid", x)


def gelu_slope(b):
    x = b.normal(2.0)
    slopes.gelu_secant(b.builder, x, b.out)
    return lambda x: slope("gelu", x)


def loss_softmax(b):
    x = b.normal(3.0)
    b.builder.vector(x, b.out, lists.accurate_softmax())
    return lambda x: Exact().loss_softmax(x)


def _masked(b):
    """A mask that leaves each row its first items, and another."""
    keeps = np.arange(b.shape[1]) < b.rng.integers(1, b.shape[1] + 1, b.shape[0])[:, None]
    return keeps, b.tensor(np.where(keeps, 0, Exact.masked))


def span_softmax(b):
    """By the build's own exp and reciprocal."""
    x, (keeps, mask) = b.normal(3.0), _masked(b)
    b.builder.vector(x, b.out, Epilogue(bias=mask, softmax=True))
    return lambda x, mask: Exact().loss_softmax(np.where(keeps, x, -np.inf))


def span_softmax_accurate(b):
    x, (keeps, mask) = b.normal(3.0), _masked(b)
    b.builder.vector(x, b.out, lists.accurate_softmax(mask))
    return lambda x, mask: Exact().loss_softmax(np.where(keeps, x, -np.inf))


LISTS = (ordinary, centred, layer_norm, layer_norm_residual, layer_norm_far, rms_norm,
         rms_norm_residual, relu, relu_mask, accumulate, cross_entropy, silu_slope,
         gelu_sigmoid_slope, gelu_slope, loss_softmax, span_softmax, span_softmax_accurate)
# Of the cosine to the mathematics; a secant is no slope.
LEAST = {gelu_slope: 0.9995}
# What takes the build's own exp and reciprocal is for builds where these are accurate.
OWN = {span_softmax: {"softmax": "pwl"}}


def emitted(config, emit, rows, columns, seed=0):
    """The machine's result, and what float64 makes of the operands as they are stored."""
    bench = Bench(config, seed, rows, columns)
    truth = emit(bench)
    memory, address = bench.builder.build(seed=seed)
    wanted = truth(*(read(memory, tensor, BASE) for tensor in bench.operands))
    assert Machine(config).run(memory, address, BASE).error is None
    return read(memory, bench.out, BASE), wanted


@pytest.mark.parametrize("fmt", ["posit8", "posit8es0", "posit8es2", "fp8", "e5m2"])
@pytest.mark.parametrize("emit", LISTS, ids=lambda emit: emit.__name__)
def test_lists_are_accurate_on_the_machine(emit, fmt):
    found, wanted = emitted(AcceleratorConfig(fmt, **OWN.get(emit, {})), emit, 40, 48)
    cosine = (found * wanted).sum() / np.linalg.norm(found) / np.linalg.norm(wanted)
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    print(f"{emit.__name__} {fmt}: cosine {cosine:.6f}, relative error {error:.4f}, "
          f"{found.size} items")
    assert cosine >= LEAST.get(emit, 0.9999)


@pytest.mark.parametrize("activation", ["gelu", "gelu_sigmoid", "relu", "silu"])
def test_slopes_of_builds_that_train(activation):
    """One command each: float64, and RTL against the machine."""
    def emit(b):
        x = b.normal(2.0)
        b.builder.vector(x, b.out, lists.activation_slope(activation))
        return lambda x: slope(activation, x)

    for fmt in ("posit8", "bf16"):
        found, wanted = emitted(AcceleratorConfig(fmt, functions="training"), emit, 40, 48)
        print(f"slope of {activation} {fmt}: largest error {np.abs(found - wanted).max():.4f}")
        assert np.abs(found - wanted).max() < (0.006 if activation != "relu" else 1e-9)
    machine = small_accelerator("posit8", functions="training")
    bench = Bench(machine.config, 1, 9, 40)
    emit(bench)
    memory, address = bench.builder.build(seed=1)
    assert compare(machine, Case(memory, address, BASE, (bench.out,), activation), "light", 0) > 700


def test_a_slope_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="activation must be gelu, gelu_sigmoid, relu or silu to "
                                         "be trained through on the accelerator, not 'gelu_tanh'"):
        lists.activation_slope("gelu_tanh")


@pytest.mark.parametrize("softmax", ["pwl", "approx"])
def test_what_is_masked_has_no_gradient(softmax):
    """The way from ten sentences' logits to the gradients of their spans, against float64."""
    config = AcceleratorConfig("posit8", softmax=softmax)
    bench = Bench(config, 3, 10, 24)
    builder = bench.builder
    logits = builder.constant(bench.rng.normal(0, 2.0, (240, 2)), "bf16")
    turned, p = builder.empty(2, 240, "bf16"), builder.empty(20, 24, "bf16")
    builder.vector(logits, turned, out_transposed=True)
    keeps, mask = _masked(bench)
    for half in (0, 1):
        x = replace(turned, address=turned.address + 480 * half, rows=10, columns=24, stride=48)
        builder.vector(x, p.block(10 * half, 0, 10, 24), lists.accurate_softmax(mask)
                       if softmax == "approx" else Epilogue(bias=mask, softmax=True))
    labels = bench.rng.integers(0, keeps.sum(axis=1), (2, 10))
    d = builder.empty(20, 24, "bf16")
    builder.gather(builder.constant(np.eye(24)), builder.indices(labels.ravel()), d,
                   lists.cross_entropy_backward(p, 1 / 20))
    memory, address = builder.build()
    assert Machine(config).run(memory, address, BASE).error is None
    found = read(memory, d, BASE).reshape(2, 10, 24).transpose(1, 2, 0)
    _, wanted = loss_of("spans", Exact(), read(memory, logits, BASE).reshape(10, 24, 2),
                        labels.T, keeps)
    assert not found[~keeps].any() and (~keeps).sum() > 50
    cosine = (found * wanted).sum() / np.linalg.norm(found) / np.linalg.norm(wanted)
    print(f"spans {softmax}: cosine {cosine:.6f} of {found.size} items, {(~keeps).sum()} positions "
          "masked")
    assert cosine > 0.9999


@pytest.mark.parametrize("wrong, emit", [
    ("form", centred), ("factor", layer_norm), ("norm", rms_norm), ("centring", layer_norm_far)],
    ids=lambda item: getattr(item, "__name__", item))
def test_another_formula_is_told_apart(wrong, emit):
    """The bound would see the wrong list, a factor, a mean that is missing or rounded."""
    found, wanted = emitted(AcceleratorConfig("posit8"), emit, 40, 48)
    other = {"form": ordinary, "factor": layer_norm_residual, "norm": layer_norm,
             "centring": partial(layer_norm_far, twice=False)}[wrong]
    if wrong == "form":  # where probabilities do not add up to one
        bench = Bench(AcceleratorConfig("posit8"), 0, 40, 48)
        x = bench.normal()
        p = bench.tensor(np.full(bench.shape, 0.03125), bench.stored)
        sums = []
        for form in (False, True):
            out = bench.builder.empty(*bench.shape, "bf16")
            bench.builder.vector(x, out, lists.softmax_backward(p, 1.0, form))
            sums.append(out)
        memory, address = bench.builder.build()
        assert Machine(bench.builder.config).run(memory, address, BASE).error is None
        rows = [np.abs(read(memory, out, BASE).sum(axis=1)).mean() for out in sums]
        assert rows[1] < 0.6 * rows[0]
        return
    found, _ = emitted(AcceleratorConfig("posit8"), other, 40, 48)
    cosine = (found * wanted).sum() / np.linalg.norm(found) / np.linalg.norm(wanted)
    assert cosine < 0.9999


@pytest.mark.parametrize("softmax", SOFTMAX_MODES)
def test_the_softmax_of_losses_does_not_depend_on_the_build(softmax):
    config = AcceleratorConfig("posit8", softmax=softmax)
    found, wanted = emitted(config, loss_softmax, 100, 10)
    print(f"{softmax}: largest error {np.abs(found - wanted).max():.4f} of {found.size}")
    assert np.abs(found - wanted).max() < 0.012
    extreme = np.array([[0, -200.0, 200], [-1e30, 0, -1e30], [5, 5, 5]])
    bench = Bench(config, 0, 3, 3)
    bench.builder.vector(bench.tensor(extreme), bench.out, lists.accurate_softmax())
    memory, address = bench.builder.build()
    assert Machine(config).run(memory, address, BASE).error is None
    assert np.allclose(read(memory, bench.out, BASE),
                       [[0, 0, 1], [0, 1, 0], [1 / 3] * 3], atol=4e-3)


def test_masks_are_exact_for_every_code():
    for fmt in ("posit8", "posit8es0", "posit8es2", "e4m3", "e5m2"):
        config = AcceleratorConfig(fmt)
        builder = ProgramBuilder(config, BASE)
        codes = np.arange(256, dtype=np.uint8)[None]
        x = builder.codes(codes, config.format.encodings[0].name)
        out = builder.empty(1, 256, "bf16")
        builder.vector(x, out, lists.relu_backward())
        memory, address = builder.build()
        assert Machine(config).run(memory, address, BASE).error is None
        values, masks = read(memory, x, BASE)[0], read(memory, out, BASE)[0]
        positive, regular = values > 0, np.isfinite(values)
        assert (masks[positive & regular] == 1).all() and positive.sum() > 100
        assert (masks[values == 0] == 0).all()


def test_gradients_are_clipped_to_the_limit():
    from compiler.lowering import update_lists
    for length in (0.01, 0.9, 1.0, 3.0, 200.0):
        for limit in (1.0, 2.0):
            config = AcceleratorConfig("posit8")
            builder = ProgramBuilder(config, BASE)
            values = np.random.default_rng(1).normal(0, 1, (60, 24))
            gradient = builder.constant(values * length / np.linalg.norm(values), "bf16")
            squares = builder.empty(1, 60, "bf16")
            update_lists.clip(builder, gradient, squares, limit)
            memory, address = builder.build()
            before = read(memory, gradient, BASE)
            assert Machine(config).run(memory, address, BASE).error is None
            after = read(memory, gradient, BASE)
            if length < limit:
                assert np.array_equal(before, after)
            else:
                assert abs(np.linalg.norm(after) / limit - 1) < 0.012


def test_shapes_that_cannot_be_clipped_are_refused():
    from compiler.lowering import update_lists
    builder = ProgramBuilder(AcceleratorConfig("posit8"), BASE)
    with pytest.raises(ValueError, match="at least as many rows as columns, and squares 1×3, not "
                                         "3×4 and 1×3"):
        update_lists.clip(builder, builder.empty(3, 4, "bf16"), builder.empty(1, 3, "bf16"), 1.0)


@pytest.mark.parametrize("emit", LISTS, ids=lambda emit: emit.__name__)
def test_lists_on_rtl(emit):
    machine = small_accelerator("posit8")
    compared = 0
    for seed, (rows, columns) in enumerate([(1, 1), (7, 13), (18, 5), (9, 40)]):
        bench = Bench(machine.config, seed, rows, columns)
        emit(bench)
        memory, address = bench.builder.build(seed=seed)
        own = [t for t in bench.builder.tensors if t.name.endswith(BETWEEN)]
        own += [bench.operands[1]] if emit is accumulate else []
        case = Case(memory, address, BASE, (bench.out, *own), f"{emit.__name__} {rows}x{columns}")
        compared += compare(machine, case, ("heavy", "light", "bursty", "ideal")[seed], seed)
    print(f"{emit.__name__}: {compared} bytes")
    assert compared >= 2 * (1 + 91 + 90 + 360)


def test_rows_that_do_not_stay_on_chip_are_refused():
    builder = ProgramBuilder(small_accelerator("posit8").config, BASE)
    x, p, out = (builder.empty(2, 80, kind) for kind in ("bf16", "posit8", "bf16"))
    builder.vector(x, out, lists.softmax_backward(p, 1.0))
    for epilogue in (lists.softmax_backward(p, 1.0, True), lists.layer_norm_backward(p, 1e-5)):
        with pytest.raises(ValueError, match="a row that is kept on chip must have at most 64"):
            builder.vector(x, out, epilogue)
    assert isinstance(lists.accumulate(p), Epilogue)
