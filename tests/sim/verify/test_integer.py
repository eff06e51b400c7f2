"""Polynomial attention and norms by magnitudes: every byte in every build, masks, what is refused.

Other definitions, by a wrong degree, without δ, with another head's bias, with an L2 norm, are told
from the right one.
"""

from dataclasses import replace

import numpy as np
import pytest

from compiler.calibration import calibrate
from compiler.checkpoints import reference
from compiler.checkpoints.description import Norm, Polynomial
from compiler.checkpoints.functions import polynomial
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import bert, inputs_for, integer, llama
from compiler.examples import examples_of
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import layer_range, lower, make_steps
from compiler.program.builder import read
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import FORMATS
from sim.harness.accelerator import Accelerator
from sim.model.machine import Machine
from sim.verify.arithmetic import Arithmetic
from sim.verify.compare import compare
from sim.verify.expected import expected
from sim.verify.runner import on_machine

DEGREES = (1, 2, 4)


def agree(config, model, inputs, scales="unit", **options):
    """How many bytes are as computed without a program, which all are."""
    if scales == "static":
        scales = calibrate(model, examples_of(inputs_for(model, inputs.length), model))
    program = lower(config, model, inputs, scales=scales, **options)
    done = on_machine(program.image, config, quiet=True)
    steps = make_steps(model, inputs, options.get("steps"))
    codes = expected(config, model, inputs, steps, level=options.get("level", Fusion.RESIDUAL),
                     layers=layer_range(model, None), scales=scales)
    found = compare(program, done, codes)
    assert found.mismatches == 0
    return found.total


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_tensor_of_every_format_and_set_of_functions(fmt):
    total, model = 0, integer(layers=1)
    for functions in ("all", "scales"):
        config = AcceleratorConfig(fmt, dim=4, functions=functions)
        for level in (Fusion.NONE, Fusion.RESIDUAL):
            total += agree(config, model, inputs_for(model, 6), level=level, keep=True)
    print(f"{fmt}: {total} bytes")
    assert total > 4000


def test_every_level():
    model, config = integer(layers=1), AcceleratorConfig("posit8", dim=4)
    totals = [agree(config, model, inputs_for(model, 6), level=level, keep=True)
              for level in Fusion]
    assert sorted(set(totals)) != totals[:1]


@pytest.mark.parametrize("options", [
    {"acc": "fp32"}, {"acc": "exact", "softmax": "approx"}, {"acc": "fused", "softmax": "linear"},
    {"functions": "training"}, {"functions": "scales", "softmax": "approx_shifted"}],
    ids=str)
def test_builds_of_other_kinds(options):
    model = integer(layers=1)
    assert agree(AcceleratorConfig("posit8", dim=4, **options), model, inputs_for(model, 6)) > 200


@pytest.mark.parametrize("degree", DEGREES)
@pytest.mark.parametrize("causal", [True, False], ids=["causal", "all"])
def test_degrees_masks_and_padding(degree, causal):
    model, total = integer(degree=degree, causal=causal, layers=1), 0
    valid = np.arange(6) < np.array([[6], [2], [5]])
    padded = Inputs("ids", inputs_for(model, 6, 3).values, valid)
    for fmt, scales in (("posit8", "unit"), ("e4m3", "row"), ("int8", "row"), ("int8", "static")):
        config = AcceleratorConfig(fmt, dim=4, functions="scales")
        for inputs in (padded, inputs_for(model, 7), inputs_for(model, 1)):
            total += agree(config, model, inputs, scales)
    print(f"degree {degree}: {total} bytes")
    assert total > 3000


@pytest.mark.parametrize("fmt, scales", [
    ("posit8", "unit"), ("bf16", "unit"), ("int8", "row"), ("int8", "static")])
def test_steps_of_decoding_and_spans_of_queries(fmt, scales):
    config, model = AcceleratorConfig(fmt, dim=4), integer(layers=1, positions=300)
    assert agree(config, model, inputs_for(model, 7), scales, steps=(4, 2, 1)) > 400
    assert agree(config, model, inputs_for(model, 140), scales) > 5000


def post_norm():
    """BERT's layers, whose norms follow sums."""
    def changed(norm):
        return replace(norm, kind="l1")

    made, kernel = bert(), Polynomial(2, (1.0, 0.5, 0.2), (0.1, 0.3, 0.0))
    return replace(made, embedding=replace(made.embedding, norm=changed(made.embedding.norm)),
                   blocks=tuple(replace(
                       block, attention=replace(block.attention, kernel=kernel),
                       attention_norm=changed(block.attention_norm),
                       feed_forward_norm=changed(block.feed_forward_norm))
                       for block in made.blocks))


@pytest.mark.parametrize("fmt, scales", [("posit8", "unit"), ("e4m3", "row"), ("int8", "row"),
                                         ("int8", "static")])
def test_norms_of_sums(fmt, scales):
    config = AcceleratorConfig(fmt, dim=4, functions="all" if scales == "unit" else "scales")
    assert agree(config, post_norm(), inputs_for(post_norm(), 7), scales) > 300


def rotated(window):
    """Rotary embedding and a window."""
    made = llama(kv_heads=4)
    kernel = Polynomial(2, (1.0, 0.5, 0.0, -0.2), (0.1, 0.0, -0.3, 0.2))
    return replace(made, blocks=tuple(
        replace(block, attention=replace(block.attention, kernel=kernel, window=window))
        for block in made.blocks))


def test_windows_and_grouped_heads():
    for model in (rotated(None), rotated(3)):
        assert agree(AcceleratorConfig("posit8", dim=4), model, inputs_for(model, 7)) > 1000


@pytest.mark.parametrize("fmt, scales", [("posit8", "unit"), ("int8", "row"), ("int8", "static")])
def test_layers_of_both_kinds(fmt, scales):
    """Whose masks of one shape are not the same."""
    made = integer(layers=2)
    last = replace(made.blocks[1], attention=replace(made.blocks[1].attention, kernel=None))
    model = replace(made, blocks=(made.blocks[0], last))
    assert agree(AcceleratorConfig(fmt, dim=4), model, inputs_for(model, 7), scales) > 400


@pytest.mark.parametrize("functions", ["all", "scales"])
def test_a_row_that_is_hidden_whole_is_zero(functions):
    """1/0 · 0: the largest finite number times 0."""
    config = AcceleratorConfig("posit8", functions=functions)
    scores = np.array([[1.0, -2.0, 3.0]])
    math, seen = Arithmetic(config), np.ones((1, 3), bool)
    assert not math.polynomial(scores, 2, 1.0, 0.1, ~seen).any()
    assert not math.polynomial(scores - 9, 2, 1.0, 0.0, seen).any()
    assert math.polynomial(scores - 9, 2, 1.0, 0.5, seen).all()
    hidden = np.array([[True, True, True]])
    assert not polynomial(Polynomial(2, (1.0,), (0.1,)), scores[None], hidden).any()


@pytest.mark.parametrize("scaled", [False, True])
def test_lanes_are_near_the_definition(scaled):
    """Against float64, over the sizes of scores and rows that models have."""
    rng = np.random.default_rng(4)
    math = Arithmetic(AcceleratorConfig("posit8", functions="scales" if scaled else "all",
                                        softmax="approx_shifted"))
    x = math.wide(rng.normal(0, 3, (50, 64)))
    for degree in DEGREES:
        found = math.polynomial(x, degree, 1.0, 0.125, np.ones(x.shape, bool))
        e = np.maximum(x + 1, 0) ** degree + 0.125
        assert np.abs(found * e.sum(axis=1, keepdims=True) / e - 1).max() < 0.04
    norm = Norm(np.ones(64, np.float32), np.zeros(64, np.float32), 1e-5, kind="l1")
    centred = x - x.mean(axis=1, keepdims=True)
    exact = centred / np.abs(centred).mean(axis=1, keepdims=True)
    assert np.abs(math.norm(x, norm) / exact - 1)[abs(exact) > 0.5].max() < 0.03


@pytest.mark.parametrize("seed", [0, 1])
def test_the_reference_is_the_definition_in_float64(seed):
    model = integer(seed, layers=1)
    given = inputs_for(model, 5, seed=seed).values[0]
    x = reference.embed(model.embedding, given).astype(np.float64)
    block = model.blocks[0]

    def norm(part, x):
        c = x - x.mean(axis=1, keepdims=True)
        return c / (np.abs(c).sum(axis=1, keepdims=True) / x.shape[1] + part.eps) * part.gain + (
            part.shift)

    def linear(part, x):
        return x @ part.weight.T.astype(np.float64) + part.bias

    own, kernel = norm(block.attention_norm, x), block.attention.kernel
    heads = []
    for h in range(3):
        q, k, v = (linear(part, own)[:, 4 * h:4 * h + 4]
                   for part in (block.attention.query, block.attention.key, block.attention.value))
        rows = []
        for i in range(5):
            e = [max(q[i] @ k[j] / 2 + kernel.bias[h], 0) ** 2 + abs(kernel.delta[h])
                 for j in range(i + 1)]
            rows.append(sum(e[j] * v[j] for j in range(i + 1)) / sum(e))
        heads.append(rows)
    x = x + linear(block.attention.output, np.concatenate(heads, axis=1))
    hidden = np.maximum(linear(block.feed_forward.up, norm(block.feed_forward_norm, x)), 0)
    x = x + linear(block.feed_forward.down, hidden)
    assert np.abs(reference.forward(model, given).blocks[0] - x).max() < 2e-5


# Other definitions

def without_delta(kernel):
    return replace(kernel, delta=(0.0,) * len(kernel.delta))


def of_other_degree(kernel):
    return replace(kernel, degree=1)


def of_other_heads(kernel):
    return replace(kernel, bias=kernel.bias[::-1])


@pytest.mark.parametrize("functions", ["all", "scales"])
@pytest.mark.parametrize("wrong", [without_delta, of_other_degree, of_other_heads, "l2"])
def test_another_definition_is_seen(wrong, functions, monkeypatch):
    model = integer(layers=1)
    inputs, config = inputs_for(model, 6), AcceleratorConfig("posit8", dim=4, functions=functions)
    block = model.blocks[0]
    if wrong == "l2":
        changed = replace(block, attention_norm=replace(block.attention_norm, kind="l2"))
    else:
        changed = replace(block, attention=replace(
            block.attention, kernel=wrong(block.attention.kernel)))
    program = lower(config, model, inputs)
    done = on_machine(program.image, config, quiet=True)
    codes = expected(config, replace(model, blocks=(changed,)), inputs,
                     make_steps(model, inputs, None), layers=range(1))
    found = compare(program, done, codes)
    assert found.differing["layer 0 bf16"] > 20
    exact = [reference.forward(one, inputs.values[0]).blocks[0]
             for one in (model, replace(model, blocks=(changed,)))]
    assert np.abs(exact[0] - exact[1]).max() > 0.05


# On RTL

@pytest.mark.parametrize("fmt, functions, scales", [
    ("posit8", "all", "unit"), ("int8", "scales", "row"), ("posit8", "scales", "row"),
    ("bf16", "all", "unit"), ("fp8", "all", "unit")])
@pytest.mark.slow
def test_every_byte_on_rtl(fmt, functions, scales):
    accelerator = Accelerator(AcceleratorConfig(fmt, dim=4, functions=functions))
    for model in (integer(degree=2), integer(degree=4, causal=False, layers=1)):
        inputs = inputs_for(model, 5)
        program = lower(accelerator.config, model, inputs, scales=scales)
        memory, wanted = program.memory.copy(), program.memory.copy()
        outcome = Machine(accelerator.config).run(wanted, program.address, program.base)
        result = accelerator.run(memory, program.address, program.base)
        assert (result.error, outcome.error, result.violations) == (None, None, [])
        assert np.array_equal(memory, wanted)
        near = read(memory, program.results["layer 0 bf16"], program.base)
        exact = reference.forward(model, inputs.values[0]).blocks[0]
        cosine = (near * exact).sum() / np.sqrt((near ** 2).sum() * (exact ** 2).sum())
        assert cosine > 0.98


# What is refused

@pytest.mark.parametrize("make, message", [
    (lambda: Polynomial(3, (1.0,), (0.1,)), "degree of polynomial attention must be one of "
     "1, 2, 4, not 3"),
    (lambda: Polynomial(2, (1.0,), ()), "must have a finite bias and delta for each head"),
    (lambda: Polynomial(2, (np.inf,), (0.1,)), "must have a finite bias"),
    (lambda: Norm(np.ones(3), None, 1e-5, kind="l1"), "an L1 norm must have a shift"),
    (lambda: Norm(np.ones(3), np.ones(3), 1e-5, kind="l3"), "kind of a norm must be l1 or l2, not "
     "'l3'")])
def test_what_is_no_such_part(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def with_attention(model, **changes):
    return replace(model, blocks=tuple(
        replace(block, attention=replace(block.attention, **changes)) for block in model.blocks))


@pytest.mark.parametrize("model, config, message", [
    (with_attention(integer(), cap=3.0), {}, "must be without a cap"),
    (with_attention(integer(), kernel=Polynomial(2, (1.0,), (0.1,))), {},
     "a bias and a delta for each of 3 heads, not 1"),
    (integer(), {"functions": "softmax"}, "functions must be"),
    (integer(positions=99), {"acc_depth": 16, "row_depth": 8},
     "polynomial of degree 2 takes rows of at most 64 items in this build, not 70")])
def test_what_cannot_be_lowered(model, config, message):
    with pytest.raises(ValueError, match=message):
        lower(AcceleratorConfig("posit8", dim=4, **config), model, inputs_for(model, 70 if (
            "acc_depth" in config) else 5))
