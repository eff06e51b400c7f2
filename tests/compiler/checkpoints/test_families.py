"""Checkpoints as transformers writes them against what it computes of them."""

import json
from dataclasses import fields, is_dataclass, replace

import numpy as np
import pytest

from compiler.checkpoints import load
from compiler.checkpoints.checkpoint import CheckpointError, LazyBlocks
from compiler.checkpoints.loader import families
from compiler.checkpoints.reference import encode, forward
from support.families import NAMES, stored
from support.require import module, require
from tools import family_vectors

NEAR = 1e-4


def output(model, inputs):
    segments = None if inputs.segments is None else inputs.segments[0]
    encoded = None if inputs.source is None else encode(model, inputs.source.values[0])
    return forward(model, inputs.values[0], segments=segments, encoded=encoded).output


@pytest.mark.parametrize("name", NAMES)
def test_output_is_that_of_transformers(name, tmp_path):
    case = stored(name)
    model = load(case.write(tmp_path / name))
    found = output(model, case.inputs(model))
    apart = np.abs(found - case.output).max()
    print(f"{name}: {found.size} results, at most {apart:.1e} apart")
    assert found.shape == case.output.shape and apart <= NEAR and np.abs(found).max() > 0.1
    assert not model.notes


def doubled(part):
    """A part of a description with float64 in place of float32."""
    if isinstance(part, np.ndarray):
        return part.astype(np.float64) if part.dtype == np.float32 else part
    if isinstance(part, tuple | LazyBlocks):
        return tuple(doubled(item) for item in part)
    if is_dataclass(part):
        return replace(part, **{own.name: doubled(getattr(part, own.name))
                                for own in fields(part)})
    return part


@pytest.mark.parametrize("name, near", [("mobilebert", 1e-6), ("mobilebert-masked", 1e-6),
                                        ("bert", 1e-5)])
def test_what_no_norm_bounds_is_computed_in_float64(name, near, tmp_path):
    """States of MobileBERT come to 85: fp32 forwards, those of transformers too, are 3e-5 off."""
    case = stored(name)
    model = load(case.write(tmp_path / name))
    found, wanted = output(model, case.inputs(model)), output(doubled(model), case.inputs(model))
    apart = np.abs(found - wanted).max() / np.abs(wanted).max()
    print(f"{name}: at most {apart:.1e} of {np.abs(wanted).max():.0f} from float64")
    assert apart <= near and found.dtype == np.float32
    if name == "bert":  # what fp32 alone is off by would be seen
        assert apart > 1e-7


def test_every_family_is_compared():
    kinds = {json.loads((family_vectors.FOLDER / f"{name}.json").read_text())
             ["config"]["model_type"] for name in NAMES}
    assert set(NAMES) == set(family_vectors.CASES)
    print(f"{len(NAMES)} checkpoints, {len(kinds)} kinds")
    assert kinds == set(families())


@pytest.mark.parametrize("name", ["mpnet", "t5", "bloom"])
def test_layers_share_one_bias_of_positions(name, tmp_path):
    """Programs hold each table once, by its identity."""
    model = load(stored(name).write(tmp_path / name))
    for side in (model, model.encoder):
        if side is not None:
            first, *others = (block.attention.position_bias for block in side.blocks)
            assert others and all(other is first for other in others)
            assert first.values.any()


OLDER = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 48, "n_positions": 24,
         "layer_norm_epsilon": 1e-12, "rotary_emb_base": 500, "rotary_emb_fraction": 1.0,
         "activation_function": "swiglu", "prenorm": False, "rotary_scaling_factor": None}


def test_older_names_of_settings_are_the_same_model(tmp_path):
    """As Nomic BERT's own files have them."""
    case = stored("nomic")
    left = {"architectures", "model_type", "vocab_size", "type_vocab_size"}
    own = {key: value for key, value in case.values["config"].items() if key in left} | OLDER
    folder = case.write(tmp_path / "nomic")
    (folder / "config.json").write_text(json.dumps(own))
    model = load(folder)
    assert np.abs(output(model, case.inputs(model)) - case.output).max() <= NEAR
    assert model.positions == 24
    for name, value, message in (("prenorm", True, "prenorm must be false, not True"),
                                 ("activation_function", "gelu", "must be swiglu, not 'gelu'"),
                                 ("rotary_scaling_factor", 2, "rotary_scaling_factor must be null"),
                                 ("n_head", 0, "num_attention_heads must be a whole number")):
        (folder / "config.json").write_text(json.dumps(own | {name: value}))
        with pytest.raises(CheckpointError, match=message):
            load(folder)


def test_a_wrong_weight_is_found(tmp_path, monkeypatch):
    case, real = stored("bert"), family_vectors.weight

    def spoiled(name, shape):
        values = real(name, shape)
        if name.endswith("layer.1.output.dense.bias"):
            values[3] += 0.01
        return values

    monkeypatch.setattr(family_vectors, "weight", spoiled)
    model = load(case.write(tmp_path / "bert"))
    assert np.abs(output(model, case.inputs(model)) - case.output).max() > NEAR


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_transformers_still_computes_that(name):
    require(module, "transformers")
    found = family_vectors.run(name)
    assert found["shapes"] == stored(name).values["shapes"]
    assert np.abs(np.array(found["output"]) - stored(name).output).max() <= family_vectors.NEAR


ODD = (None, -1, 0, 3, "x", [], {}, [1, 2], {"a": 1}, True, 0.5, 10 ** 9, 10 ** 400, -0.5, ["x"])


def spoil(name, folder, key, value):
    """Load the checkpoint with one odd setting: whether it was refused, in one line."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {key: value}))
    try:
        list(load(folder).blocks)
    except CheckpointError as error:
        assert "\n" not in str(error) and str(folder) in str(error), name
        return True
    finally:
        path.write_text(json.dumps(config))
    return False


def odd_settings(names):
    return [(name, key, value) for name in names for key in stored(name).values["config"]
            for value in ODD]


def test_odd_settings_are_one_line_or_read(tmp_path):
    every = odd_settings(NAMES)
    chosen = [every[index] for index in np.random.default_rng(5).permutation(len(every))[:200]]
    refused = [spoil(name, stored(name).write(tmp_path / name), key, value)
               for name, key, value in chosen]
    print(f"{len(refused)} of {len(every)} settings, {sum(refused)} refused")
    assert 50 < sum(refused) < len(refused)


@pytest.mark.slow
def test_every_odd_setting_is_one_line_or_read(tmp_path):
    for name in NAMES:
        folder, every = stored(name).write(tmp_path / name), odd_settings([name])
        refused = [spoil(name, folder, key, value) for _, key, value in every]
        print(f"{name}: {len(refused)} settings, {sum(refused)} refused")
        assert 0 < sum(refused) < len(refused)
