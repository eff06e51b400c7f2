"""Families whose tensors llama.cpp stores otherwise than their folders, converted as it does that:
GPT-2, GPT-NeoX, BLOOM, Phi-2, OLMo 2, Granite, Cohere, BERT and its kin, T5."""

import re

import numpy as np
import pytest
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGUFWriter, get_tensor_name_map

from compiler.checkpoints import load
from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.loader import load_folder
from compiler.checkpoints.reference import encode, forward
from support.checkpoints import interleaved
from support.families import stored
from tools.family_vectors import weight

IDS = np.array([3, 17, 29, 5, 3, 21, 8, 1, 1, 30 - 1])
_COUNTS = {
    "block_count": ("n_layer", "n_layers", "num_layers", "num_hidden_layers"),
    "embedding_length": ("n_embd", "d_model", "dim", "hidden_size"),
    "feed_forward_length": ("d_ff", "hidden_dim", "intermediate_size"),
    "attention.head_count": ("n_head", "n_heads", "num_heads", "num_attention_heads"),
    "attention.head_count_kv": ("num_key_value_heads",),
    "attention.key_length": ("d_kv",), "attention.value_length": ("d_kv",),
    "context_length": ("n_positions", "max_position_embeddings"),
    "attention.layer_norm_epsilon": ("layer_norm_epsilon", "layer_norm_eps", "norm_eps"),
    "attention.layer_norm_rms_epsilon": ("rms_norm_eps",)}
# Of each: the architecture, settings of the folder that are changed, what the file says besides.
CASES = {
    "gpt2": ("GPT2", {}, {"feed_forward_length": 128}),
    "neox": ("GPTNEOX", {}, {"rope.dimension_count": 4, "use_parallel_residual": True}),
    "neox-serial": ("GPTNEOX", {}, {"rope.dimension_count": 4, "use_parallel_residual": False}),
    "bloom": ("BLOOM", {}, {"feed_forward_length": 144}),
    "phi": ("PHI2", {}, {"rope.dimension_count": 4, "rope.freq_base": 500.0}),
    "olmo2": ("OLMO2", {}, {}),
    "granite": ("GRANITE", {}, {"attention.scale": 0.4, "embedding_scale": 3.0,
                                "residual_scale": 0.5, "logit_scale": 2.0}),
    "cohere": ("COMMAND_R", {}, {"logit_scale": 0.5, "rope.freq_base": 5e5}),
    "bert": ("BERT", {}, {"attention.causal": False}),
    "xlm-roberta-sequence": ("BERT", {}, {"attention.causal": False}),
    "distilbert": ("BERT", {}, {"attention.causal": False,
                                "attention.layer_norm_epsilon": 1e-12}),
    "nomic": ("NOMIC_BERT", {}, {"attention.causal": False, "rope.freq_base": 500.0}),
    "modernbert-masked": ("MODERN_BERT", {}, {
        "attention.causal": False, "attention.sliding_window": 4,
        "attention.sliding_window_pattern": 2, "rope.freq_base": 160_000.0,
        "rope.freq_base_swa": 10_000.0}),
    "t5": ("T5", {}, {"decoder_start_token_id": 0}),
    "t5-gated": ("T5", {"relative_attention_max_distance": 128}, {"decoder_start_token_id": 0}),
}
_HEADS = ("pooler.", "classifier.", "cls.")
_ENCODERS = ("BERT", "NOMIC_BERT", "MODERN_BERT")


def by_part(tensor, heads):
    """Rows of queries, keys, values of each head in turn as all queries, all keys, all values."""
    own = tensor.reshape(heads, 3, -1, *tensor.shape[1:])
    return np.ascontiguousarray(own.swapaxes(0, 1).reshape(tensor.shape))


def tensors(name, case, config):
    """By the names of the folder, as the file has them."""
    for key, shape in case.values["shapes"].items():
        tensor, key = weight(key, tuple(shape)), re.sub(r"^(bert|roberta|distilbert)\.", "", key)
        key = key.removeprefix("transformer.") if name == "bloom" else key
        if name.startswith("modernbert"):
            if not key.startswith("model."):  # a head
                continue
            key = key.removeprefix("model.")
        if key.startswith(_HEADS) or (key == "lm_head.weight" and config["tie_word_embeddings"]):
            continue
        if name == "gpt2" and re.search(r"\.(c_attn|c_proj|c_fc)\.weight$", key):
            tensor = np.ascontiguousarray(tensor.T)
        if "query_key_value" in key:
            tensor = by_part(tensor, config.get("n_head") or config["num_attention_heads"])
        if name == "granite" and re.search(r"[qk]_proj", key):
            tensor = interleaved(tensor)
        if name.startswith("xlm") and "position_embeddings" in key:
            tensor = tensor[config["pad_token_id"] + 1:]
        yield key, tensor


def both(name, folder, told=()):
    """The checkpoint as a folder, without a head where the file has none, and in a GGUF file."""
    case, (arch, changes, said) = stored(name), CASES[name]
    kind, config = MODEL_ARCH[arch], case.values["config"] | changes
    title = MODEL_ARCH_NAMES[kind]
    path = folder / f"{name}.gguf"
    writer = GGUFWriter(path, title)
    values = {key: config[own] for key, names in _COUNTS.items() for own in names
              if config.get(own) and not (arch == "GPTNEOX" and key.endswith("_kv"))} | said
    if arch == "T5":
        values |= {"attention.layer_norm_rms_epsilon": config["layer_norm_epsilon"],
                   "attention.relative_buckets_count": config["relative_attention_num_buckets"],
                   "decoder_block_count": config["num_decoder_layers"]}
    add = {float: writer.add_float32, int: writer.add_uint32, bool: writer.add_bool}
    for key, value in (values | dict(told)).items():
        if value is not None:
            add[type(value)](f"{title}.{key}", value)
    names = get_tensor_name_map(kind, 2)
    for key, tensor in tensors(name, case, config):
        found = names.get_name(key, try_suffixes=(".weight", ".bias"))
        assert found is not None, key
        writer.add_tensor(found, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    whole = case.write(folder / name, **changes)
    return load_folder(whole, heads=arch not in _ENCODERS), load(path)


def output(model):
    encoded = None if model.encoder is None else encode(model, IDS[::-1][:6])
    return forward(model, IDS, encoded=encoded).output


@pytest.mark.parametrize("name", CASES)
def test_a_gguf_file_is_the_folder_s_model(name, tmp_path):
    models = both(name, tmp_path)
    whole, own = map(output, models)
    apart = np.abs(whole - own).max()
    print(f"{name}: {own.size} results, at most {apart:.1e} apart")
    assert whole.shape == own.shape and apart <= 2e-5 < 0.1 < np.abs(own).max()
    assert models[0].task == models[1].task and models[0].start == models[1].start


@pytest.mark.parametrize("name, told", [
    ("neox", {"use_parallel_residual": False}), ("neox", {"rope.dimension_count": 8}),
    ("phi", {"rope.freq_base": None}), ("granite", {"attention.scale": None}),
    ("granite", {"embedding_scale": None}), ("granite", {"residual_scale": None}),
    ("granite", {"logit_scale": None}), ("cohere", {"logit_scale": 0.25}),
    ("nomic", {"rope.freq_base": 1000.0}), ("nomic", {"attention.head_count": 8}),
    ("modernbert-masked", {"attention.sliding_window": 6}),
    ("modernbert-masked", {"attention.sliding_window": None}),
    ("modernbert-masked", {"attention.sliding_window_pattern": 1}),
    ("modernbert-masked", {"rope.freq_base": 1000.0}),
    ("modernbert-masked", {"rope.freq_base_swa": 100.0}),
    ("gpt2", {"attention.head_count": 8}), ("bloom", {"attention.head_count": 2}),
    ("t5", {"attention.head_count": 4, "attention.layer_norm_rms_epsilon": 1.0})])
def test_every_setting_counts(name, told, tmp_path):
    whole, own = map(output, both(name, tmp_path, told))
    assert np.abs(whole - own).max() > 1e-4


@pytest.mark.parametrize("pooling, name", [(0, "none"), (1, "mean"), (2, "first"), (3, "last")])
def test_poolings_of_an_encoder(pooling, name, tmp_path):
    whole, own = both("bert", tmp_path, {"pooling_type": pooling})
    states, found = output(whole), output(own)
    wanted = {"none": states, "mean": states.mean(axis=0, keepdims=True), "first": states[:1],
              "last": states[-1:]}[name]
    assert own.pooling == name and own.labels == ()
    assert own.task == ("features" if name == "none" else "embedding")
    assert found.shape == wanted.shape and np.abs(found - wanted).max() <= 2e-5


@pytest.mark.parametrize("name, told, message", [
    ("bert", {"pooling_type": 4}, r"bert.pooling_type must be 0 \(none\), 1 .*, not 4"),
    ("bert", {"attention.causal": True}, "bert.attention.causal must be false, not True"),
    ("nomic", {"attention.causal": True}, "nomic-bert.attention.causal must be false, not True"),
    ("modernbert-masked", {"attention.sliding_window": True}, "sliding_window must be a whole"),
    ("olmo2", {"attention.sliding_window": 4}, "attention.sliding_window must be 0: windows are"),
    ("t5", {"attention.relative_buckets_count": None}, "relative_buckets_count must be a whole"),
    ("t5", {"attention.value_length": 8}, "attention.value_length must be 12, as the size of a"),
    ("t5", {"decoder_start_token_id": 30}, "decoder_start_token_id must be below vocab_size = 30"),
    ("cohere", {"logit_scale": None}, "logit_scale must be a number above 0"),
    ("neox", {"use_parallel_residual": 1}, "use_parallel_residual must be true or false")])
def test_what_cannot_be_loaded_is_one_line(name, told, message, tmp_path):
    with pytest.raises(CheckpointError, match=message):
        both(name, tmp_path, told)


@pytest.mark.parametrize("kind", ["falcon", "mamba", "nomic-bert-moe", "qwen2moe", "whisper"])
def test_other_architectures_are_refused_by_name(kind, tmp_path):
    writer = GGUFWriter(tmp_path / "other.gguf", kind)
    writer.add_block_count(2)
    writer.add_tensor("token_embd.weight", np.zeros((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match=f"general.architecture must be one of .*bert, .*t5, "
                       f"not '{kind}'"):
        load(tmp_path / "other.gguf")
