
import numpy as np
import pytest

from compiler.checkpoints import load, samples
from compiler.checkpoints.digits import DRAWN, patches
from compiler.checkpoints.inputs import Inputs
from compiler.lowering.lower import make_steps
from compiler.training.gradients.bits import Bits
from compiler.training.gradients.eight_bit import EightBit
from compiler.training.gradients.network import Batch, gradients_of, logits_of
from compiler.training.gradients.norm import normalise
from compiler.training.gradients.numerics import Exact
from compiler.training.gradients.parameters import parameters
from compiler.training.gradients.scaling import HISTORY, Scaling, power, target_log2
from compiler.training.gradients.weights import Run, Weights
from hdl.spec.config import AcceleratorConfig
from hdl.spec.formats import BF16_ENCODING, BFLOAT16, FORMATS, format_named
from sim.model import codec
from sim.model.rounding import from_words, round_to
from sim.verify.expected import expected
from support import networks

FORMATS_OF_8_BITS = [name for name, fmt in FORMATS.items()
                     if fmt.storage_bits == 8 and not fmt.integer]


def values(count=200_000):
    """Random words of float32: all exponents, subnormals too; both zeros; ties of BF16."""
    rng = np.random.default_rng(0)
    words = rng.integers(0, 1 << 32, count, np.uint32)
    words[:count // 2] &= np.uint32(0xFFFF8000)
    words[:2] = 0, 1 << 31
    x = words.view(np.float32)
    return x[np.isfinite(x)]


def test_lanes_round_as_the_model_does():
    x = values()
    own = EightBit(AcceleratorConfig("posit8")).lane(x)
    assert own.dtype == np.float32 and len(x) > 190_000
    assert np.array_equal(own, round_to(BFLOAT16, x))
    assert np.array_equal(np.signbit(own), np.signbit(x))
    assert np.isnan(EightBit(AcceleratorConfig("posit8")).lane(np.float32([np.nan]))).all()


@pytest.mark.parametrize("fmt", FORMATS_OF_8_BITS)
def test_what_is_stored_is_what_the_codecs_say(fmt):
    numerics, encoding = EightBit(AcceleratorConfig(fmt)), format_named(fmt).encodings[0]
    words = from_words(BFLOAT16, np.arange(1 << 16)).astype(np.float32)
    words[np.abs(words) < 2.0 ** -126] = 0  # lanes hold no subnormals
    assert np.array_equal(numerics.stored(words), codec.decode(encoding, codec.encode(
        encoding, words)), equal_nan=True)
    x = values()
    assert np.array_equal(numerics.constant(x), codec.decode(encoding, codec.encode(encoding, x)))


@pytest.mark.parametrize("fmt", FORMATS_OF_8_BITS)
def test_gradients_are_stored_scaled_by_the_last_magnitudes(fmt):
    numerics, encoding = EightBit(AcceleratorConfig(fmt)), format_named(fmt).encodings[-1]
    g = numerics.lane(np.random.default_rng(1).normal(0, 1e-5, 5000).astype(np.float32))
    first = numerics.gradient("du", g)
    numerics.end_step()
    second = numerics.gradient("du", g)
    scale = numerics.scaling.scale("du")
    target = 2.0 ** target_log2(format_named(fmt))
    assert target / 2 <= np.abs(g).max() * scale < target
    for own, factor in ((first, target), (second, scale)):
        wanted = codec.decode(encoding, codec.encode(encoding, g * factor)) / factor
        assert np.array_equal(own, wanted)
    assert np.linalg.norm(second - g) < 0.06 * np.linalg.norm(g)
    assert numerics.saturated == 0


def test_magnitudes_that_grow_saturate_and_are_counted():
    numerics = EightBit(AcceleratorConfig("fp8"))
    numerics.gradient("du", np.float32([1e-3]))
    numerics.end_step()
    numerics.gradient("du", np.float32([1e-3, 1e3, -1e3]))
    assert numerics.saturated == 2
    numerics.end_step()
    numerics.gradient("du", np.float32([1e3]))
    assert numerics.saturated == 2


def test_scales_follow_ten_steps():
    scaling = Scaling(format_named("posit8"))
    assert scaling.scale("x") == 64
    assert Scaling(format_named("posit8"), target=4).scale("x") == 16
    for step in range(HISTORY + 2):
        scaling.note("x", 8.0 if step == 1 else 1.0)
        scaling.note("x", 0.5)
        scaling.end_step()
        assert scaling.scale("x") == (4.0 if 1 <= step <= HISTORY else 32.0)
    assert Scaling(format_named("posit8"), on=False).scale("x") == 1


def test_power_brings_into_the_octave_below_one():
    x = np.exp2(np.random.default_rng(2).uniform(-60, 60, 1000))
    scaled = np.array([power(float(value)) * value for value in x])
    assert (scaled >= 0.5).all() and (scaled < 1).all()
    assert [power(value) for value in (1.0, 1.5, 2.0, 0.0, 1e-30, np.inf)] == [
        0.5, 0.5, 0.25, 1, 1, 0]
    assert np.isnan(power(np.nan))
    targets = {name: target_log2(FORMATS[name]) for name in FORMATS_OF_8_BITS}
    assert targets == {"posit8": 6, "posit8es0": 4, "posit8es2": 6, "e4m3": 8, "e5m2": 15,
                       "fp8": 15}


def logits_and_codes(config, numerics):
    """Logits of a pass of ``numerics`` and those of the arithmetic without a program."""
    digits = Inputs("patches", np.stack([patches(image) for image in DRAWN.values()]))
    ids = np.random.default_rng(3).integers(0, 40, (3, 7))
    valid = np.ones((3, 7), bool)
    valid[1, 4:] = False
    for model, inputs in ((load("digits-vit"), digits),
                          (samples.bert(pooling="mean"), Inputs("ids", ids, valid)),
                          (samples.bert(pooling="mean_l2"), Inputs("ids", ids, valid)),
                          (samples.llama(), Inputs("ids", ids))):
        codes = expected(config, model, inputs, make_steps(model, inputs, None),
                         layers=range(len(model.blocks)))
        wanted = codes["head bf16" if model.head is not None else "pooled bf16"]
        own = logits_of(model, Weights(parameters(model), numerics), numerics,
                        Batch(inputs.values, np.zeros(len(inputs.values)), inputs.valid))
        own = own[:, -1] if own.ndim == 3 else own  # of a causal model the last position
        yield own, codec.decode(BF16_ENCODING, wanted)


@pytest.mark.parametrize("fmt, softmax, acc", [
    ("posit8", "approx_shifted", "bf16"), ("posit8", "pwl", "fp32"), ("posit8", "pwl", "exact"),
    ("posit8es0", "approx", "bf16"), ("posit8es2", "pwl", "fp32"), ("fp8", "pwl", "bf16"),
    ("fp8", "approx_shifted", "exact"), ("bf16", "pwl", "fp32")])
def test_the_forward_pass_has_the_bits_of_the_arithmetic(fmt, softmax, acc):
    config = AcceleratorConfig(fmt, softmax=softmax, acc=acc)
    compared = 0
    for own, wanted in logits_and_codes(config, Bits(config)):
        assert np.array_equal(own, wanted)
        compared += own.size
    print(f"{fmt} {softmax} {acc}: {compared} logits")
    assert compared == 100 + 36 + 36 + 120


@pytest.mark.parametrize("fmt", ["posit8", "fp8", "bf16"])
def test_fast_sums_hardly_differ_from_wide_accumulators(fmt):
    """Of products of so few terms not at all; sums of rows are taken in another order."""
    config = AcceleratorConfig(fmt, acc="fp32" if fmt == "bf16" else "exact")
    pairs = list(logits_and_codes(config, EightBit(config)))
    same = sum(int((own == wanted).sum()) for own, wanted in pairs)
    print(f"{fmt}: {same} of 292 logits")
    assert same >= 0.98 * 292


def cosine(a, b):
    a, b = (np.concatenate([values.ravel() for values in found.values()]).astype(np.float64)
            for found in (a, b))
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def gradients(numerics, negative=True):
    """Of the digits ViT, on images that it does not read, or on those that it does, whose loss is
    small."""
    model = load("digits-vit")
    names = [name for name in parameters(model)
             if name.startswith("blocks.") and name.endswith(".weight")]
    x = np.stack([patches(16 - image if negative else image) for image in DRAWN.values()])
    batch = Batch(x, np.arange(10))
    for _ in range(2):
        found = gradients_of(model, Weights(parameters(model), numerics), numerics, batch,
                             "classes", names)[1]
        numerics.end_step()
    return found


@pytest.mark.parametrize("fmt, bound", [("posit8", 0.98), ("posit8es2", 0.95), ("fp8", 0.95),
                                        ("bf16", 0.999)])
def test_gradients_are_close_to_those_of_fp32(fmt, bound):
    config = AcceleratorConfig(fmt, softmax="pwl")
    found = cosine(gradients(EightBit(config)), gradients(Exact(np.float32)))
    print(f"{fmt}: cosine {found:.5f}")
    assert found >= bound


def test_without_scales_small_gradients_are_lost():
    """The negative control of scaling: of a model that has learned, in the paper's posits."""
    config = AcceleratorConfig("posit8", softmax="pwl")
    true = gradients(Exact(np.float32), negative=False)
    scaled, lost = (cosine(gradients(EightBit(config, scaling=on), negative=False), true)
                    for on in (True, False))
    print(f"posit8: cosine {scaled:.5f}, without scales {lost:.5f}")
    assert lost < 0.5 and scaled > 0.98


def test_float64_gives_the_same_gradients_but_for_the_order_of_sums():
    config = AcceleratorConfig("posit8")
    found = cosine(gradients(EightBit(config)), gradients(EightBit(config, dtype=np.float64)))
    assert found > 0.9999


@pytest.mark.parametrize("rms", [False, True])
def test_the_list_of_the_norms_backward_is_accurate(rms):
    """Alone: with nothing stored in 8 bits its result has the direction of the mathematics."""
    class Lanes(EightBit):
        def stored(self, x):
            return x

        def gradient(self, site, g):
            return g

        constant = EightBit.wide_constant

    block = (samples.llama if rms else samples.bert)(width=96 if not rms else 64).blocks[0]
    own = block.attention_norm
    rng = np.random.default_rng(8)
    x = rng.normal(0.3, 2, (50, len(own.gain))).astype(np.float32)
    d = rng.normal(0, 1, x.shape).astype(np.float32)
    arrays = {"n.gain": own.gain} | ({} if rms else {"n.shift": own.shift})
    results = []
    for numerics in (Lanes(AcceleratorConfig("posit8")), Exact()):
        lanes = Lanes(AcceleratorConfig("posit8"))
        given = [numerics.dtype(1) * lanes.wide(values) for values in (x, d)]
        weights = Weights({name: lanes.wide(values) for name, values in arrays.items()}, numerics)
        results.append(normalise(Run(numerics, weights, ()), "n", own, given[0], "n")[1](given[1]))
    found = cosine({"": results[0]}, {"": results[1]})
    print(f"{'RMSNorm' if rms else 'LayerNorm'}: cosine {found:.7f} over {x.size} items")
    assert found >= 0.9999


def test_weights_are_merged_as_they_are_stored():
    model, _, _ = networks.bert()
    config = AcceleratorConfig("posit8")
    numerics = EightBit(config)
    rng = np.random.default_rng(9)
    from compiler.training.gradients.weights import Adapter
    own = Adapter(rng.normal(0, 1, (2, 6)).astype(np.float32),
                  rng.normal(0, 0.1, (8, 2)).astype(np.float32), 2.0)
    weights = Weights(parameters(model), numerics, {"blocks.0.up": own})
    merged = weights.stored("blocks.0.up.weight")
    assert np.array_equal(numerics.constant(merged), merged)
    plain = parameters(model)["blocks.0.up.weight"]
    assert 0 < np.abs(merged - (plain + 2 * own.b @ own.a)).max() < 0.2
    weights.set("blocks.0.up.lora_b", np.zeros_like(own.b))
    assert np.array_equal(weights.stored("blocks.0.up.weight"), numerics.constant(plain))
    with pytest.raises(ValueError, match="blocks.0.gate has no weight"):
        Weights(parameters(model), numerics, {"blocks.0.gate": own})
