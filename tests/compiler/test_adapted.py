"""Which adapters are merged how: as training does, or into a folder's tensors."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compiler.adapted import with_adapters
from compiler.checkpoints import load
from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.description import Linear
from compiler.checkpoints.loader import load_folder
from compiler.training.adapters import AdapterSet, merge, save_adapters
from compiler.training.gradients.weights import Adapter
from hdl.spec.config import AcceleratorConfig
from support.checkpoints import Bert
from support.families import stored
from support.peft import arrays, pair, write

CONFIG = AcceleratorConfig("posit8", dim=4)


def same(one, other):
    pairs = list(zip(arrays(one.blocks), arrays(other.blocks), strict=True))
    assert len(pairs) > 10
    return all(np.array_equal(*both) for both in pairs)


@pytest.mark.parametrize("name, module, shape", [
    ("stablelm", "model.layers.1.self_attn.q_proj", (32, 32)),  # rows in another order
    ("cohere", "model.layers.0.self_attn.k_proj", (16, 32)),  # pairs of rows side by side
    ("granite", "model.layers.0.mlp.down_proj", (32, 48))])  # a factor of what is added
def test_a_model_that_is_not_trained_has_the_folders_tensors(tmp_path, name, module, shape):
    folder = stored(name).write(tmp_path / name)
    path = write(tmp_path / "adapter", pair(module, *shape))
    model, wanted = load(folder), load_folder(folder, adapter=path)
    assert not same(model, wanted)
    for config in (None, CONFIG):
        assert same(with_adapters(str(folder), model, path, config), wanted)


@pytest.fixture
def own(tmp_path):
    """A BERT in a folder, and adapters with a head as training writes them."""
    folder, rng = Bert(tmp_path / "bert").write(), np.random.default_rng(2)
    model = load(folder)
    head = Linear(rng.normal(0, 1, (3, 8)).astype(np.float32), None)
    adapters = AdapterSet({"blocks.1.query": Adapter(
        rng.normal(0, 1, (2, 8)).astype(np.float32), rng.normal(0, 1, (8, 2)).astype(np.float32),
        0.5)}, head, "mean")
    save_adapters(tmp_path / "adapter", model, adapters)
    return folder, model, adapters, tmp_path / "adapter"


def test_what_training_writes_is_merged_as_training_does(own):
    folder, model, adapters, path = own
    found = with_adapters(str(folder), model, path, None)
    assert same(found, merge(model, adapters)) and not same(found, model)
    assert np.array_equal(found.head.weight, adapters.head.weight) and found.pooling == "mean"
    assert same(with_adapters(str(folder), model, path, AcceleratorConfig("int8")), found)
    rounded = with_adapters(str(folder), model, path, CONFIG)
    assert not same(found, rounded)


@pytest.mark.parametrize("spoil, message", [
    (lambda path: (path / "head.safetensors").write_bytes(b"no tensors"),
     "head.safetensors must be a whole safetensors file"),
    (lambda path: save_file({"head.weight": np.ones((3, 9), np.float32)},
                            path / "head.safetensors", {"pooling": "mean"}),
     "head must have 8 inputs for bert, not 9"),
    (lambda path: save_file(load_file(path / "head.safetensors"), path / "head.safetensors",
                            {"pooling": "most"}), "pooling must be first, mean or mean_l2"),
    (lambda path: (path / "head.safetensors").rename(path / "other") and save_file(
        {"head.weight": np.ones((3, 9), np.float32)} | load_file(
            path / "adapter_model.safetensors"), path / "adapter_model.safetensors",
        {"pooling": "mean"}), "head must have 8 inputs for bert, not 9")])
def test_a_head_that_is_damaged_is_never_left_out(own, spoil, message):
    folder, model, _, path = own
    spoil(path)
    with pytest.raises(CheckpointError, match=message) as error:
        with_adapters(str(folder), model, path, None)
    assert "\n" not in str(error.value)


def test_what_peft_alone_has_is_merged_and_what_neither_has_is_one_line(own, tmp_path):
    folder, model, _, _ = own
    name = "encoder.layer.0.attention.self.value"
    path = write(tmp_path / "peft", pair(name, 8, 8), alpha_pattern={"value": 3})
    assert same(with_adapters(str(folder), model, path, CONFIG),
                load_folder(folder, adapter=path))
    path = write(tmp_path / "peft", pair(name, 8, 8), alpha_pattern={"key": 3})
    with pytest.raises(CheckpointError, match="that have adapters, as key is not"):
        with_adapters(str(folder), model, path, CONFIG)
