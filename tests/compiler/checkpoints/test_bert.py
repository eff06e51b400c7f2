import json
import math

import numpy as np
import pytest
from ml_dtypes import bfloat16

from compiler.checkpoints import load
from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.packages import BERT_TINY, MINILM
from compiler.checkpoints.reference import forward
from compiler.checkpoints.vocabulary import from_folder
from support.require import require

IDS = np.array([3, 17, 29, 0, 3])


def plain(tensors, ids, heads=2, layers=2):
    """BERT as its paper has it, in float64, one head and one row at a time."""
    t = {name.removeprefix("bert.").replace("gamma", "weight").replace("beta", "bias"):
         np.asarray(value, np.float64) for name, value in tensors.items()}

    def norm(name, rows):
        return np.array([(r - r.mean()) / math.sqrt(r.var() + 1e-12)
                         * t[f"{name}.LayerNorm.weight"] + t[f"{name}.LayerNorm.bias"]
                         for r in rows])

    def dense(name, rows):
        return np.array([t[f"{name}.weight"] @ r + t[f"{name}.bias"] for r in rows])

    x = norm("embeddings", [t["embeddings.word_embeddings.weight"][i]
                            + t["embeddings.position_embeddings.weight"][p]
                            + t["embeddings.token_type_embeddings.weight"][0]
                            for p, i in enumerate(ids)])
    for index in range(layers):
        layer = f"encoder.layer.{index}"
        q, k, v = (dense(f"{layer}.attention.self.{n}", x) for n in ("query", "key", "value"))
        size = q.shape[1] // heads
        mixed = np.zeros_like(q)
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for row in range(len(ids)):
                weight = np.exp([q[row, part] @ other / math.sqrt(size) for other in k[:, part]])
                mixed[row, part] = weight / weight.sum() @ v[:, part]
        x = norm(f"{layer}.attention.output",
                 x + dense(f"{layer}.attention.output.dense", mixed))
        inner = [[u * (1 + math.erf(u / math.sqrt(2))) / 2 for u in row]
                 for row in dense(f"{layer}.intermediate.dense", x)]
        x = norm(f"{layer}.output", x + dense(f"{layer}.output.dense", np.array(inner)))
    return x


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", [np.float32, np.float16, bfloat16])
def test_output_is_that_of_the_paper(bert, old, kind):
    model = load(bert.write(old=old, kind=kind))
    values = forward(model, IDS)
    assert np.allclose(values.output, plain(bert.tensors(kind, old), IDS), atol=2e-5)
    assert values.output.dtype == np.float32 and len(values.blocks) == len(model.blocks) == 2
    assert model.width == 8 and model.name == "bert" and model.pooling == "none"


@pytest.mark.parametrize("name, activation", [
    ("relu", "relu"), ("silu", "silu"), ("quick_gelu", "gelu_sigmoid")])
def test_activations_are_read(bert, name, activation):
    block = load(bert.write({"hidden_act": name})).blocks[1]
    assert block.feed_forward.activation == activation


def test_heads_of_training_are_left_out(bert):
    model = load(bert.write({"architectures": ["BertForMaskedLM"]}, {
        "cls.predictions.bias": np.zeros(30, np.float32),
        "pooler.dense.bias": np.zeros(8, np.float32)}))
    assert model.head is None


def test_a_layer_is_read_when_it_is_asked_for(bert):
    tensor = np.full((8, 20), np.nan, np.float32)
    model = load(bert.write(tensors={"encoder.layer.1.output.dense.weight": tensor}))
    assert model.blocks[0] is model.blocks[0]
    with pytest.raises(CheckpointError, match="encoder.layer.1.output.dense.weight must be finite"):
        model.blocks[1]


POOLED = [{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
          {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
          {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}]


def write_pooling(folder, modules, mode):
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(
        {"word_embedding_dimension": 8, "pooling_mode_max_tokens": False, mode: True}))
    return folder


@pytest.mark.parametrize("modules, mode, pooling", [
    (POOLED, "pooling_mode_mean_tokens", "mean_l2"),
    (POOLED[:2], "pooling_mode_mean_tokens", "mean"),
    (POOLED[:2], "pooling_mode_cls_token", "first"),
    (POOLED, "pooling_mode_cls_token", "first_l2"),
    (POOLED[:2], "pooling_mode_lasttoken", "last"),
])
def test_pooling_is_that_of_the_modules(bert, modules, mode, pooling):
    model = load(write_pooling(bert.write(), modules, mode))
    x = forward(model, IDS).blocks[-1]
    row = {"first": x[0], "last": x[-1], "mean": x.mean(axis=0)}[pooling.removesuffix("_l2")]
    row = row / np.sqrt((row ** 2).sum()) if pooling.endswith("_l2") else row
    assert model.pooling == pooling and np.allclose(forward(model, IDS).output, [row], atol=1e-6)


@pytest.mark.parametrize("mode, pooling", [
    ("mean", "mean_l2"), ("cls", "first_l2"), ("max", None)])
def test_pooling_by_one_value(bert, mode, pooling):
    folder = write_pooling(bert.write(), POOLED, "pooling_mode_mean_tokens")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": mode}))
    if pooling is not None:
        assert load(folder).pooling == pooling
        return
    with pytest.raises(CheckpointError, match="not Transformer, .* with max$"):
        load(folder)


@pytest.mark.parametrize("modules, mode", [
    (POOLED, "pooling_mode_max_tokens"), (POOLED, "pooling_mode_lasttoken"), (["x"], "x")])
def test_other_pooling_is_refused(bert, modules, mode):
    with pytest.raises(CheckpointError, match="modules must be Transformer, then Pooling") as error:
        load(write_pooling(bert.write(), modules, mode))
    assert "\n" not in str(error.value)


WORDS = "embeddings.word_embeddings.weight"


@pytest.mark.parametrize("config, tensors, message", [
    ({"hidden_act": "relu6"}, {}, r"hidden_act must be one of gelu, .* \(the nearest is relu\), "
                                  "not 'relu6'"),
    ({"hidden_act": None}, {}, "hidden_act must be one of gelu"),
    ({"hidden_act": ["gelu"]}, {}, r"hidden_act must be one of gelu, .*, not \['gelu'\]"),
    ({"architectures": 5}, {}, "architectures must be one of BertModel, .*, not 5"),
    ({"layer_norm_eps": 10 ** 400}, {}, "layer_norm_eps must be a number above 0"),
    ({"model_type": "bart0"}, {}, "model_type must be one of .*bert, .*llama, .* not 'bart0'"),
    ({"model_type": "mixtral"}, {}, "model_type mixtral is not supported: mixtures of experts"),
    ({"architectures": ["BertForMultipleChoice"]}, {}, "the nearest is BertModel"),
    ({"architectures": ["BertForQuestionAnswering"]}, {},
     "tensor qa_outputs.weight is missing; it must be of shape 2 × 8"),
    ({"position_embedding_type": "relative_key"}, {}, "position_embedding_type must be absolute"),
    ({"is_decoder": True}, {}, "is_decoder must be false"),
    ({"num_attention_heads": 3}, {}, "num_attention_heads must be a divisor of hidden_size = 8"),
    ({"hidden_size": "8"}, {}, "hidden_size must be a whole number of at least 1, not '8'"),
    ({"layer_norm_eps": -1}, {}, "layer_norm_eps must be a number above 0, not -1"),
    ({"num_hidden_layers": 3}, {}, "encoder.layer.2.attention.output.LayerNorm.weight is missing; "
                                   "it must be of shape 8$"),
    ({"num_hidden_layers": 1}, {}, "tensor encoder.layer.1.attention.output.LayerNorm.bias has no "
                                   "place in a BERT of 1 layers, nor have 15 others"),
    ({"vocab_size": 31}, {}, f"tensor {WORDS} must be of shape 31 × 8, not 30 × 8"),
    ({}, {WORDS: None}, f"tensor {WORDS} is missing; it must be of shape 30 × 8"),
    ({}, {"encoder.layer.1.output.dense.weight": np.zeros((20, 8), np.float32)},
     "encoder.layer.1.output.dense.weight must be of shape 8 × 20, not 20 × 8"),
    ({}, {WORDS: np.zeros((30, 8), np.int8)}, f"tensor {WORDS} must be of type F64, .*, not I8"),
    ({}, {"embeddings.LayerNorm.bias": np.full(8, np.inf, np.float32)},
     "tensor embeddings.LayerNorm.bias must be finite in fp32, but holds inf"),
    ({}, {"embeddings.LayerNorm.bias": np.full(8, -1e300)},
     "tensor embeddings.LayerNorm.bias must be finite in fp32, but holds -inf"),
])
def test_what_cannot_be_loaded_is_one_line(bert, config, tensors, message):
    with pytest.raises(CheckpointError, match=message) as error:
        load(bert.write(config, tensors))
    assert "\n" not in str(error.value) and str(bert.folder) in str(error.value)


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_truncated_file_is_one_line(bert, size):
    path = bert.write() / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="must be a whole safetensors file") as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text, message", [
    ("{", "must be a readable JSON file"), ("[]", "must hold a JSON dict, not list"),
    (None, "must be a readable JSON file: No such file")])
def test_a_damaged_config_is_one_line(bert, text, message):
    path = bert.write() / "config.json"
    path.write_text(text) if text else path.unlink()
    with pytest.raises(CheckpointError, match=message) as error:
        load(path.parent)
    assert "\n" not in str(error.value)


def test_minilm_gives_the_published_similarities():
    # As its page on Hugging Face shows for these sentences.
    folder = require(MINILM.unpack)
    model, tokenizer = load("minilm"), from_folder(folder)
    rows = [forward(model, np.array(tokenizer.encode(text).ids)).output[0] for text in (
        "That is a happy person", "That is a happy dog", "That is a very happy person",
        "Today is a sunny day")]
    assert model.pooling == "mean_l2" and len(model.blocks) == 6
    assert np.allclose(rows[1:] @ rows[0], [0.6945773, 0.9429150, 0.2568761], atol=1e-5)


def test_bert_tiny_is_that_of_the_paper():
    from safetensors.numpy import load_file

    tensors = load_file(require(BERT_TINY.unpack) / "model.safetensors")
    ids = np.array([101, 2023, 2003, 1037, 2307, 3185, 1012, 102])
    values = forward(load("bert-tiny"), ids)
    assert np.allclose(values.output, plain(tensors, ids), atol=2e-4)
