"""Powers of two moved between layers: the same model in fp32, another one in few digits."""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest

from compiler.balanced import balanced
from compiler.calibration import calibrate
from compiler.checkpoints import load, model_inputs, samples
from compiler.checkpoints.description import Linear
from compiler.checkpoints.inputs import Inputs
from compiler.checkpoints.reference import forward
from compiler.checkpoints.watch import watching
from compiler.examples import Example
from compiler.lowering.lower import layer_range, lower, make_steps
from hdl.spec.config import AcceleratorConfig
from sim import run
from sim.verify.compare import compare
from sim.verify.expected import arithmetic, expected, outputs
from sim.verify.runner import on_machine
from support.families import stored
from support.require import require

IDS = np.random.default_rng(0).integers(0, 30, (3, 12))


def examples(ids=IDS):
    return [Example(str(number), row) for number, row in enumerate(ids)]


def powers(values):
    return np.array_equal(np.frexp(np.abs(values))[0], np.full(values.shape, 0.5))


@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "opt", "stablelm", "gemma2", "neox",
                                  "bert", "vit-classes", "modernbert-masked", "arcee"])
def test_fp32_stays_the_same(name, tmp_path):
    case = stored(name)
    model = load(case.write(tmp_path / name))
    given = case.inputs(model)
    new = balanced(model, [Example("own", given.values[0])])
    whole, found = (forward(own, given.values[0]).output for own in (model, new))
    assert np.abs(found - whole).max() <= 2e-5 * max(1, np.abs(whole).max())
    changed = not np.array_equal(new.blocks[0].attention.value.weight,
                                 model.blocks[0].attention.value.weight)
    assert changed and new.blocks[0].attention.value.weight.dtype == np.float32


def test_gains_become_powers_of_two_and_a_shared_table_two_matrices():
    model = samples.llama()
    new = balanced(model, examples())
    for norm in (new.final_norm, *(own for block in new.blocks for own in (
            block.attention_norm, block.feed_forward_norm))):
        assert powers(norm.gain) and norm.gain.dtype == np.float32
    assert not powers(model.final_norm.gain) and model.head.weight is model.embedding.table
    assert new.embedding is model.embedding and new.head.weight is not new.embedding.table
    ratio = new.blocks[0].feed_forward.down.weight / model.blocks[0].feed_forward.down.weight
    assert powers(ratio) and len(np.unique(ratio)) > 1


def test_layers_that_are_one_stay_one(tmp_path):
    model = load(stored("albert-masked").write(tmp_path / "albert"))
    new = balanced(model, [Example("own", stored("albert-masked").inputs(model).values[0])])
    layers, parts = len(new.blocks), len({id(block) for block in new.blocks})
    assert parts == len({id(block) for block in tuple(model.blocks)}) < layers
    assert new.blocks[0] is not model.blocks[0]


def spoiled(model, factor):
    """A channel of every gated feed-forward ``factor`` times as large, and undone behind it."""
    blocks = []
    for block in model.blocks:
        ffn, scale = block.feed_forward, np.ones(len(block.feed_forward.up.weight), np.float32)
        scale[3] = factor
        blocks.append(replace(block, feed_forward=replace(
            ffn, up=Linear(ffn.up.weight * scale[:, None]), down=Linear(ffn.down.weight / scale))))
    return replace(model, blocks=tuple(blocks))


@pytest.mark.parametrize(("fmt", "factor"), [("e4m3", 2048.0), ("posit8", 4096.0)])
def test_a_channel_beyond_the_format_comes_into_its_range(fmt, factor):
    model = spoiled(samples.llama(), factor)
    config = AcceleratorConfig(fmt, softmax="pwl", acc="exact")
    wanted = np.concatenate([forward(model, row).output for row in IDS])

    def error(own):
        math = arithmetic(config, own, range(len(own.blocks)))
        found = outputs(math, own, Inputs("ids", IDS), every=True)
        return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)

    plain, even = error(model), error(balanced(model, examples()))
    print(f"{fmt}: error {plain:.4f}, balanced {even:.4f}")
    assert even < 0.75 * plain


@pytest.mark.parametrize("fmt", ["posit8", "e4m3"])
def test_programs_of_it_have_the_bytes_of_the_rules(fmt):
    model = balanced(samples.llama(), examples())
    config, inputs = AcceleratorConfig(fmt, dim=4), Inputs("ids", IDS[:1])
    program = lower(config, model, inputs, keep=True)
    result = compare(program, on_machine(program.image, config), expected(
        config, model, inputs, make_steps(model, inputs, None), layers=layer_range(model, None)))
    print(f"{fmt}: {result.total} bytes")
    assert result.total > 3000 and not any(result.differing.values())


@pytest.mark.slow
def test_channels_of_smollm2_come_into_the_range_of_e4m3():
    """Of the first token a few products of gates and ``up`` are thousands."""
    model = require(load, "smollm2")
    ids = model_inputs("smollm2", 128)[None]
    largest = [gated_products(own, ids[0]) for own in (model, balanced(model, examples(ids)))]
    for name, own in zip(("as it is", "balanced"), largest, strict=True):
        layers = np.argsort(own)[::-1][:4]
        print(f"{name}: largest products of gates "
              + ", ".join(f"{own[layer]:.0f} in layer {layer}" for layer in layers))
    assert largest[0].max() > 2000 and (largest[0] > 448).sum() >= 2 and largest[1].max() < 150


def gated_products(model, ids):
    """The largest magnitude of each layer's."""
    model, found = replace(model, blocks=tuple(model.blocks)), {}
    places = {id(block.feed_forward.down.weight): index
              for index, block in enumerate(model.blocks)}

    def note(part, what, values):
        if isinstance(part, Linear) and id(part.weight) in places:
            found[places[id(part.weight)]] = np.abs(values).max()

    with watching(note):
        forward(model, ids)
    return np.array([found[index] for index in range(len(model.blocks))])


def test_the_command_line_balances(capsys):
    lines = {}
    for more in ([], ["--balance"]):
        assert run.main(["random-llama", "--on", "machine", "--dim", "4", "--quiet", *more]) == 0
        out = capsys.readouterr().out
        lines[bool(more)] = [line for line in out.splitlines() if "cosine" in line]
        assert "mismatches: 0" in out
    assert lines[True] and lines[True] != lines[False]
    with pytest.raises(SystemExit):
        run.main(["random-llama", "--on", "machine", "--by-layer", "--balance"])
    assert "--by-layer takes no --balance" in capsys.readouterr().err


def test_scales_of_a_file_are_of_the_model_as_it_was(tmp_path, capsys):
    model, path = samples.llama(), tmp_path / "scales"
    calibrate(model, examples()).save(path)
    for given, code in ((str(path), 2), ("static", 0), ("row", 0)):
        with (pytest.raises(SystemExit) if code else nullcontext()):
            assert run.main(["random-llama", "--fmt", "int8", "--on", "machine", "--dim", "4",
                             "--quiet", "--balance", "--scales", given]) == code
        said = capsys.readouterr().err
        assert ("scales must be unit, row or static with --balance, not " in said) == bool(code)


def test_a_model_with_an_encoder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot be balanced: what its layers read depends"):
        balanced(load(stored("t5").write(tmp_path / "t5")), examples())
