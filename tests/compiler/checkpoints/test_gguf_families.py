"""Families in GGUF files, as llama.cpp names and stores them, against their folders."""

import re

import numpy as np
import pytest
from gguf import MODEL_ARCH, GGUFWriter, get_tensor_name_map

from compiler.checkpoints import load
from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.reference import forward
from support.checkpoints import interleaved
from support.families import stored
from tools.family_vectors import weight, write

IDS = np.array([3, 17, 29, 5, 3, 21, 8, 1, 1, 30 - 1])
_SLIDES, _SEES = "sliding_attention", "full_attention"
_COUNTS = {"block_count": "num_hidden_layers", "embedding_length": "hidden_size",
           "feed_forward_length": "intermediate_size",
           "attention.head_count": "num_attention_heads",
           "attention.head_count_kv": "num_key_value_heads", "attention.key_length": "head_dim",
           "attention.value_length": "head_dim"}
# Of each: layers, what its settings are to be besides, and what the file says of that.
CASES = {
    "gemma": (2, {}, {}),
    "gemma2": (3, {"query_pre_attn_scalar": 8, "layer_types": [_SLIDES, _SEES, _SLIDES]},
               {"attention.sliding_window": 3, "attn_logit_softcapping": 2.0,
                "final_logit_softcapping": 3.0}),
    "gemma3": (7, {"query_pre_attn_scalar": 8, "layer_types": [*[_SLIDES] * 5, _SEES, _SLIDES]},
               {"attention.sliding_window": 3, "rope.freq_base": 1e6}),
    "smollm3": (5, {"no_rope_layers": [1, 1, 1, 0, 1], "layer_types": [_SEES] * 5},
                {"rope.freq_base": 2e6}),
    "arcee": (2, {}, {}),
    "nemotron": (2, {}, {"rope.dimension_count": 4}),
    "stablelm": (2, {}, {"rope.dimension_count": 2, "use_parallel_residual": False}),
    "starcoder2": (2, {"sliding_window": None}, {}),
    "phi3": (2, {}, {"attention.sliding_window": 4}),
}
_LAYER_NORMS = {"nemotron": "norm_eps", "stablelm": "layer_norm_eps", "starcoder2": "norm_epsilon"}


def both(name, folder, told=()):
    """The checkpoint as a folder, and in a GGUF file."""
    case, (layers, changes, said) = stored(name), CASES[name]
    config = case.values["config"] | changes | {"num_hidden_layers": layers}
    shapes = {key.replace("layers.0.", f"layers.{layer}."): shape
              for key, shape in case.values["shapes"].items() for layer in range(layers)
              if "layers.1." not in key}
    write(folder / name, config, shapes)
    writer = GGUFWriter(folder / f"{name}.gguf", name)
    values = {key: config[from_] for key, from_ in _COUNTS.items() if config.get(from_)} | said
    if name in _LAYER_NORMS:
        values["attention.layer_norm_epsilon"] = config[_LAYER_NORMS[name]]
    else:
        values["attention.layer_norm_rms_epsilon"] = config["rms_norm_eps"]
    add = {float: writer.add_float32, int: writer.add_uint32, bool: writer.add_bool}
    for key, value in (values | dict(told)).items():
        if value is not None:
            add[type(value)](f"{name}.{key}", value)
    names = get_tensor_name_map(MODEL_ARCH[name.upper()], layers)
    for key, shape in shapes.items():
        tensor = weight(key, tuple(shape))
        if name.startswith(("gemma", "nemotron")) and key.endswith("norm.weight"):
            tensor = tensor + np.float32(1)
        if name in ("smollm3", "arcee") and re.search(r"[qk]_proj", key):
            tensor = interleaved(tensor)
        writer.add_tensor(names.get_name(key, try_suffixes=(".weight", ".bias")), tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / name, folder / f"{name}.gguf"


@pytest.mark.parametrize("name", CASES)
def test_a_gguf_file_is_the_folder_s_model(name, tmp_path):
    whole, own = (forward(load(path), IDS).output for path in both(name, tmp_path))
    apart = np.abs(whole - own).max()
    print(f"{name}: {own.size} logits, at most {apart:.1e} apart")
    assert whole.shape == own.shape and apart <= 2e-5 < 0.1 < np.abs(own).max()


@pytest.mark.parametrize("name, told", [
    ("gemma2", {"attention.sliding_window": 4}), ("gemma2", {"attn_logit_softcapping": None}),
    ("gemma2", {"final_logit_softcapping": None}), ("gemma3", {"attention.sliding_window": 9}),
    ("gemma3", {"rope.freq_base": 1e4}), ("smollm3", {"rope.freq_base": None}),
    ("nemotron", {"rope.dimension_count": 8}), ("phi3", {"attention.sliding_window": None}),
    ("stablelm", {"rope.dimension_count": None})])
def test_every_setting_counts(name, told, tmp_path):
    whole, own = (forward(load(path), IDS).output for path in both(name, tmp_path, told))
    assert np.abs(whole - own).max() > 1e-4


@pytest.mark.parametrize("name, told, message", [
    ("gemma3", {"attention.sliding_window": None}, "attention.sliding_window must be a whole"),
    ("stablelm", {"use_parallel_residual": True}, "use_parallel_residual must be false"),
    ("nemotron", {"rope.dimension_count": 3}, "rope.dimension_count must be even, at most 8"),
    ("phi3", {"rope.dimension_count": 4}, "rope.dimension_count must be 8: all of a head")])
def test_what_cannot_be_loaded_is_one_line(name, told, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        load(both(name, tmp_path, told)[1])
