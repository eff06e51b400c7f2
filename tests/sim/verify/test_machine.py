"""Programs of small random transformers on the machine model against codes from no program."""

from dataclasses import replace

import numpy as np
import pytest

from compiler.checkpoints import reference
from compiler.checkpoints.description import Linear
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.samples import SAMPLES, bert, inputs_for, llama, vit
from compiler.lowering.epilogues import ACTIVATIONS
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import layer_range, lower, make_steps
from compiler.program.builder import read, read_codes
from hdl.spec.config import AcceleratorConfig
from sim.model import codec
from sim.verify.compare import compare
from sim.verify.expected import expected
from sim.verify.runner import on_machine
from support.training_steps import activated

TINY = {"input_depth": 64, "weight_depth": 32, "acc_depth": 16, "row_depth": 8}


def run(config, model, inputs, **options):
    """The program, its run on the machine model, and every code that it should leave."""
    program = lower(config, model, inputs, **options)
    done = on_machine(program.image, config)
    steps = make_steps(model, inputs, options.get("steps"))
    codes = expected(config, model, inputs, steps, level=options.get("level", Fusion.RESIDUAL),
                     layers=layer_range(model, options.get("layers")))
    return program, done, codes


def agree(*arguments, **options):
    program, done, codes = run(*arguments, **options)
    result = compare(program, done, codes)
    wrong = [name for name, count in result.differing.items() if count]
    assert not wrong, f"{len(wrong)} tensors differ, first {wrong[0]}"
    return result.total


CASES = (("random-bert", {"pooling": "mean_l2"}, 5, None), ("random-bert", {}, 1, None),
         ("random-vit", {}, 7, None), ("random-vit", {"pooling": "first"}, 4, None),
         ("random-llama", {}, 9, (5, 3, 1)), ("random-llama", {"interleaved": False}, 1, None))


@pytest.mark.parametrize("level", Fusion, ids=lambda level: level.name.lower())
@pytest.mark.parametrize("fmt", ["posit8", "posit8es2", "fp8", "bf16"])
def test_every_tensor_of_every_level(fmt, level):
    compared = 0
    for family, options, length, steps in CASES:
        model = SAMPLES[family](**options)
        compared += agree(AcceleratorConfig(fmt, dim=4), model, inputs_for(model, length),
                          level=level, steps=steps, keep=True)
    print(f"{fmt} {level.name}: {compared} bytes")
    assert compared > 8000


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "silu"])
def test_gates_of_every_activation(activation):
    model = activated(llama(), activation)
    compared = sum(agree(AcceleratorConfig(fmt, dim=4), model, inputs_for(model, 5), level=level,
                         keep=True) for fmt in ("posit8", "bf16") for level in Fusion)
    print(f"{activation}: {compared} bytes")
    assert compared > 8000


@pytest.mark.parametrize("acc", ["fp32", "exact"])
@pytest.mark.parametrize("softmax", ["pwl", "approx"])
def test_accumulators_and_softmax_modes(acc, softmax):
    model = bert()
    assert agree(AcceleratorConfig("posit8", dim=8, acc=acc, softmax=softmax), model,
                 inputs_for(model, 6, sequences=2)) > 400


@pytest.mark.parametrize("family", SAMPLES)
def test_rows_that_are_wider_than_a_bank(family):
    # 64 accumulators stay on chip: the residual sums of width 72 are cut into columns.
    config = AcceleratorConfig("posit8", dim=4, **TINY)
    if family == "random-bert":
        with pytest.raises(ValueError, match="LayerNorm takes rows of at most 64 items .* not 72"):
            lower(config, bert(width=72), inputs_for(bert(width=72), 2))
        return
    model = SAMPLES[family](width=72, heads=4, layers=1)
    model = replace(model, blocks=tuple(
        replace(block, attention_norm=replace(block.attention_norm, shift=None, kind="l2"),
                feed_forward_norm=replace(block.feed_forward_norm, shift=None, kind="l2"))
        for block in model.blocks), final_norm=None)
    assert agree(config, model, inputs_for(model, 3), keep=True) > 2000


@pytest.mark.parametrize("family", SAMPLES)
def test_bf16_results_are_near_the_fp32_model(family):
    model = SAMPLES[family]()
    inputs = inputs_for(model, 6)
    config = AcceleratorConfig("bf16", dim=4)
    program, done, _ = run(config, model, inputs)
    truth = reference.forward(model, inputs.values[0])
    for index, wanted in enumerate(truth.blocks):
        tensor = program.results[f"layer {index} bf16"]
        found = codec.decode(tensor.encoding, read_codes(done.memory, tensor))
        assert np.abs(found - wanted).max() < 0.08 and np.abs(wanted).max() > 1
    if model.head is not None:
        tensor = program.results["head bf16"]
        found = codec.decode(tensor.encoding, read_codes(done.memory, tensor))
        assert np.abs(found - truth.output[-1:]).max() < 0.03 * np.abs(truth.output).max()


def test_levels_differ():
    for make in (bert, vit, llama):
        seen = []
        for level in Fusion:
            model = make()
            program, done, _ = run(AcceleratorConfig("posit8", dim=4), model,
                                     inputs_for(model, 6), level=level)
            seen.append(read_codes(done.memory, program.results["layer 1 bf16" if level == 4 else [
                name for name in program.results if name.startswith("layer 1 ")][-1]]).tobytes())
        assert len(set(seen)) == len(seen)


def test_decoding_gives_what_prefill_gives():
    model = llama()
    inputs = inputs_for(model, 7)
    config = AcceleratorConfig("posit8", dim=4)
    whole, done, _ = run(config, model, inputs)
    stepped, after, _ = run(config, model, inputs, steps=(4, 2, 1))
    rows = [read_codes(after.memory, stepped.results[f"step {step} layer 1 bf16"])
            for step in range(3)]
    assert np.array_equal(np.concatenate(rows),
                          read_codes(done.memory, whole.results["layer 1 bf16"]))
    assert np.array_equal(read_codes(after.memory, stepped.results["step 2 head bf16"]),
                          read_codes(done.memory, whole.results["head bf16"]))


@pytest.mark.parametrize("level", [Fusion.NONE, Fusion.RESIDUAL])
def test_padding_is_not_seen(level):
    config = AcceleratorConfig("posit8", dim=4)
    model = bert(pooling="mean_l2")
    ids = inputs_for(model, 6, sequences=3).values
    lengths = (6, 1, 4)
    valid = np.arange(6) < np.array(lengths)[:, None]
    program, done, codes = run(config, model, Inputs("ids", ids, valid), level=level)
    assert compare(program, done, codes).mismatches == 0
    for row, length in enumerate(lengths):
        alone, own, _ = run(config, model, Inputs("ids", ids[row:row + 1, :length]), level=level)
        assert np.array_equal(read_codes(own.memory, alone.results["pooled bf16"])[0],
                              read_codes(done.memory, program.results["pooled bf16"])[row])


@pytest.mark.parametrize("fmt, softmax", [("posit8", "approx"), ("posit8", "pwl"), ("fp8", "pwl"),
                                          ("bf16", "approx_shifted")])
@pytest.mark.parametrize("window", [None, 40, 200])
def test_queries_of_long_texts_are_cut_by_what_they_see(fmt, softmax, window):
    # Codes without a program have all of every query's scores, most of them hidden.
    whole = llama(layers=1)
    model = replace(whole, blocks=tuple(
        replace(block, attention=replace(block.attention, window=window))
        for block in whole.blocks))
    config, ids = AcceleratorConfig(fmt, dim=16, softmax=softmax), inputs_for(model, 300, 2).values
    valid = np.arange(300) < np.array([300, 131])[:, None]
    assert agree(config, model, Inputs("ids", ids, valid)) > 40_000
    assert agree(config, model, Inputs("ids", ids[:1]), steps=(7, 290, 3)) > 20_000


def test_layers_alone_take_states():
    model = bert()
    inputs = Inputs("states", np.random.default_rng(1).normal(0, 1, (1, 5, 12)))
    config = AcceleratorConfig("posit8", dim=4)
    assert agree(config, model, inputs, layers=range(1, 2)) == 5 * 12 * 3
    program = lower(config, model, inputs, layers=range(1))
    assert set(program.results) == {"layer 0 bf16", "layer 0 posit8"}


@pytest.mark.parametrize("sequences, length", [(1, 2), (3, 5)])
def test_the_first_two_positions_side_by_side(sequences, length):
    model = vit(pooling="first_two")
    weight = np.random.default_rng(2).normal(0, 1, (5, 24))
    model = replace(model, head=Linear(weight, np.arange(5.0)))
    inputs = inputs_for(model, length, sequences)
    for fmt in ("posit8", "bf16"):
        assert agree(AcceleratorConfig(fmt, dim=4), model, inputs, keep=True) > 500
    program, done, _ = run(AcceleratorConfig("bf16", dim=4), model, inputs)
    found = read(done.memory, program.results["head bf16"])
    for row, values in zip(found, inputs.values, strict=True):
        normed = reference.forward(replace(model, head=None, pooling="none"), values).output
        wanted = weight @ np.concatenate([normed[0], normed[1]]) + np.arange(5)
        assert np.abs(row - wanted).max() < 0.03 * np.abs(wanted).max()


def test_comparison_finds_a_wrong_byte():
    model = vit()
    program, done, codes = run(AcceleratorConfig("posit8", dim=4), model, inputs_for(model, 3))
    program.results["layer 1 bf16"].window(done.memory)[1, 3] ^= 1
    result = compare(program, done, codes)
    assert result.mismatches == 1 and result.differing["layer 1 bf16"] == 1
    done.memory[program.image.tensor("patches").address] ^= 1
    assert compare(program, done, codes).stray == 1


@pytest.mark.slow
@pytest.mark.parametrize("family", SAMPLES)
def test_every_length_to_512(family):
    options = {} if family == "random-llama" else {"positions": 512}
    model = SAMPLES[family](**options)
    config = AcceleratorConfig("posit8", dim=4)
    compared = [agree(config, model, inputs_for(model, length)) for length in range(1, 513)]
    print(f"{family}: {len(compared)} lengths, {sum(compared)} bytes")
    assert np.all(np.diff(compared) > 0) and compared[-1] > 20_000
