"""Models whose norms are centred twice: which norms, every byte, training, the command lines, and
whether real models have rows that need it."""

from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from compiler.balanced import balanced
from compiler.calibration import calibration_examples
from compiler.centred import centred
from compiler.checkpoints import load, reference, samples
from compiler.checkpoints.checkpoint import LazyBlocks
from compiler.checkpoints.description import Norm
from compiler.examples import Example
from compiler.lowering.fusion import Fusion
from compiler.lowering.lower import layer_range, lower, make_steps
from hdl.spec.config import AcceleratorConfig
from sim import run
from sim.cycles.__main__ import main as cycles
from sim.verify.compare import compare
from sim.verify.expected import expected
from sim.verify.runner import on_machine
from support.families import stored
from support.require import require
from support.training_steps import Both, config, digits, sentences, training

POSIT8 = AcceleratorConfig("posit8", dim=4)
MODELS = {"bert": samples.bert, "vit": samples.vit, "integer": samples.integer}
SPLIT = {"gpt2": 5, "bert": 5, "whisper": 12, "mobilebert": 0, "t5": 0}
"""Families whose norms are of several kinds, and how many of these take a mean away."""


def norms(part):
    """All norms of a part of a description, layer by layer."""
    if isinstance(part, Norm):
        return [part]
    if isinstance(part, (tuple, list, LazyBlocks)):
        return [norm for item in part for norm in norms(item)]
    if is_dataclass(part):
        return [norm for own in fields(part) for norm in norms(getattr(part, own.name))]
    return []


@pytest.mark.parametrize("name", SPLIT)
def test_norms_that_take_a_mean_away_take_it_twice(name, tmp_path):
    case = stored(name)
    model = load(case.write(tmp_path / name))
    new = centred(model, POSIT8)
    before, after = norms(model), norms(new)
    print(f"{name}: {sum(norm.centred_twice for norm in after)} of {len(after)} norms")
    assert len(before) == len(after) and not any(norm.centred_twice for norm in before)
    for old, own in zip(before, after, strict=True):
        assert own.centred_twice == own.centres == (old.shift is not None and not old.affine)
        assert np.array_equal(own.gain, old.gain) and own.eps == old.eps
    assert sum(norm.centred_twice for norm in after) == SPLIT[name]


def test_the_fp32_model_is_the_same_and_weights_are_shared():
    model = samples.vit()
    new, given = centred(model, POSIT8), samples.inputs_for(model, 5)
    assert np.array_equal(reference.forward(new, given.values[0]).output,
                          reference.forward(model, given.values[0]).output)
    assert new.blocks[1].attention.query is model.blocks[1].attention.query


def test_layers_that_are_one_stay_one(tmp_path):
    model = load(stored("albert-masked").write(tmp_path / "albert"))
    for own in (model, replace(model, blocks=tuple(model.blocks))):
        new = centred(own, POSIT8)
        assert len({id(block) for block in tuple(new.blocks)}) == 1 < len(new.blocks)
        assert all(norm.centred_twice for norm in norms(new.blocks[0]) if norm.centres)


@pytest.mark.parametrize("build", [
    None, AcceleratorConfig("bf16", dim=4), AcceleratorConfig("int8", dim=4, lane_kind="fixed")],
    ids=["fp32", "lanes of FP32", "lanes of integers"])
def test_lanes_that_hold_a_mean_change_nothing(build):
    model = samples.integer()
    assert centred(model, build) is model and centred(model, POSIT8) is not model


def test_what_is_refused():
    with pytest.raises(ValueError, match="centring must be one of once, twice, not 'thrice'"):
        centred(samples.bert(), POSIT8, "thrice")
    for options in ({"shift": None}, {"shift": np.zeros(4, np.float32), "affine": True}):
        with pytest.raises(ValueError, match="centred twice must take a mean away, which neither"):
            Norm(np.ones(4, np.float32), eps=1e-5, centred_twice=True, **options)


def offset(model, by):
    """With ``by`` added to all that the embedding gives: rows far from zero up to the last norm of
    a pre-norm model."""
    own = model.embedding
    return replace(model, embedding=replace(own, positions=own.positions + np.float32(by)))


@pytest.mark.parametrize("fmt, scales", [("posit8", "unit"), ("e4m3", "unit"), ("int8", "row"),
                                         ("bf16", "unit")])
@pytest.mark.parametrize("family", MODELS)
def test_every_byte(family, fmt, scales):
    model, total = offset(MODELS[family](layers=1), 3.0), 0
    build, codes = AcceleratorConfig(fmt, dim=4), []
    for norm in ("once", "twice"):
        own, inputs = centred(model, build, norm), samples.inputs_for(model, 5)
        for level in (Fusion.NORM, Fusion.RESIDUAL) if fmt == "posit8" else (Fusion.RESIDUAL,):
            program = lower(build, own, inputs, scales=scales, level=level,
                            keep=scales == "unit")
            codes.append(expected(build, own, inputs, make_steps(own, inputs, None), level=level,
                                  layers=layer_range(own, None), scales=scales))
            found = compare(program, on_machine(program.image, build, quiet=True), codes[-1])
            assert found.mismatches == 0
            total += found.total
    print(f"{family} {fmt}: {total} bytes")
    # What differs is told apart, and lanes of FP32 give what they gave.
    same = all(np.array_equal(codes[-1][name], own) for name, own in codes[len(codes) // 2 - 1
                                                                           ].items())
    assert total > 450 and same == (fmt == "bf16")


def test_balanced_models_too():
    model = samples.vit()
    given = samples.inputs_for(model, 5)
    new = centred(balanced(model, [Example("own", given.values[0])]), POSIT8)
    assert all(norm.centred_twice for norm in norms(new))


@pytest.mark.parametrize("work", [digits, sentences], ids=lambda work: work.__name__)
def test_training_has_the_bits_of_the_rules(work):
    """Forward and back, with norms before and after a sum, by programs and without."""
    own, losses = training(batch=2), []
    for norm in ("once", "twice"):
        given = work(own)
        both = Both(config(dim=4), own, work=replace(given, model=centred(
            given.model, config(dim=4), norm))).calibrate().step().step()
        print(f"{work.__name__} {norm}: {both.compared - both.different} of {both.compared} items")
        assert not both.wrong and both.compared > 5_000
        losses.append(both.host.program.image.memory.size)
    assert losses[0] == losses[1]


@pytest.mark.parametrize("more", [[], ["--by-layer"], ["--fmt", "int8"]], ids=str)
def test_the_command_line(more, capsys):
    lines = {}
    for norm in ("once", "twice"):
        assert run.main(["random-bert", "--on", "machine", "--dim", "4", "--quiet", *more,
                         "--centring", norm]) == 0
        out = capsys.readouterr().out
        assert "mismatches: 0" in out
        lines[norm] = [line for line in out.splitlines() if "cosine" in line]
    assert lines["once"] != lines["twice"]


def cycles_of(capsys, *more):
    assert cycles(["bert-base", "--layers", "1", "--tokens", "32", "--quiet", *more]) == 0
    return int(capsys.readouterr().out.split("\ncycles ")[1].split(",")[0])


def test_what_a_layer_costs(capsys):
    """At most half a per cent, and nothing where lanes hold the mean."""
    once, twice = (cycles_of(capsys, "--centring", norm) for norm in ("once", "twice"))
    print(f"{once} cycles, {twice}: {twice / once - 1:.2%} more")
    assert once < twice <= 1.005 * once
    assert cycles_of(capsys, "--fmt", "bf16", "--centring", "twice") == cycles_of(
        capsys, "--fmt", "bf16")


def row_means(name, monkeypatch):
    """Mean over deviation of every row that a norm of the fp32 model centres, on the project's
    inputs, norm by norm."""
    model, found, right = require(lambda: load(name)), {}, reference.normalise

    def noted(norm, x):
        if norm.centres:
            rows = np.float64(x).reshape(-1, x.shape[-1])
            found.setdefault(id(norm), []).append(np.abs(rows.mean(axis=1)) / rows.std(axis=1))
        return right(norm, x)

    monkeypatch.setattr(reference, "normalise", noted)
    model = replace(model, blocks=tuple(model.blocks))
    for example in calibration_examples(name, model):
        reference.forward(model, example.values, segments=example.segments)
    return [np.concatenate(rows) for rows in found.values()]


@pytest.mark.parametrize("name, norms, largest", [
    ("digits-vit", 5, 0.8), ("digits-integer", 5, 0.6), ("char-integer", 5, 0.3),
    pytest.param("bert-tiny", 5, 0.6, marks=pytest.mark.slow),
    pytest.param("minilm", 13, 0.1, marks=pytest.mark.slow),
    pytest.param("paraphrase-minilm", 7, 0.1, marks=pytest.mark.slow)])
def test_rows_of_real_models_are_near_zero(name, norms, largest, monkeypatch):
    """Which is why once is the default: no row's mean is beyond its deviation."""
    found = row_means(name, monkeypatch)
    every = np.concatenate(found)
    print(f"{name}: {len(found)} norms, {every.size} rows, mean over deviation: median "
          f"{np.median(every):.3f}, 99 % below {np.quantile(every, 0.99):.2f}, largest "
          f"{every.max():.2f}")
    assert len(found) == norms and every.max() < largest
