import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compiler.checkpoints import load, samples
from compiler.checkpoints.checkpoint import CheckpointError, Safetensors
from compiler.checkpoints.description import Linear
from compiler.checkpoints.digits import DRAWN, patches
from compiler.checkpoints.reference import forward
from compiler.training.adapters import AdapterSet, load_adapters, merge, save_adapters
from compiler.training.description import LowRank, Training
from compiler.training.gradients.eight_bit import EightBit
from compiler.training.gradients.network import Batch, logits_of
from compiler.training.gradients.parameters import parameters
from compiler.training.gradients.weights import Adapter, Weights
from compiler.training.names import names_of
from compiler.training.trainer import Trainer
from hdl.spec.config import AcceleratorConfig
from support import networks

BERT, VIT, LLAMA = samples.bert(), samples.vit(), samples.llama()
CONFIG = {"peft_type": "LORA", "r": 2, "lora_alpha": 4.0, "bias": "none",
          "target_modules": ["query"], "lora_dropout": 0.1, "task_type": None}


def adapters_for(model, parts=("query", "key", "down"), rank=2, scale=2.0, head=None, **options):
    rng = np.random.default_rng(1)
    arrays = parameters(model)
    layers = {}
    for index in range(len(model.blocks)):
        for part in parts:
            outputs, inputs = arrays[f"blocks.{index}.{part}.weight"].shape
            layers[f"blocks.{index}.{part}"] = Adapter(
                rng.normal(0, 0.3, (rank, inputs)).astype(np.float32),
                rng.normal(0, 0.3, (outputs, rank)).astype(np.float32), scale)
    return AdapterSet(layers, head, **options)


def same(a, b):
    assert a.layers.keys() == b.layers.keys() and a.pooling == b.pooling
    for name, own in a.layers.items():
        other = b.layers[name]
        assert own.scale == other.scale
        assert np.array_equal(own.a, other.a) and np.array_equal(own.b, other.b)
    assert (a.head is None) == (b.head is None)
    if a.head is not None:
        assert np.array_equal(a.head.weight, b.head.weight)
        assert np.array_equal(a.head.bias, b.head.bias)


# As peft 0.21 writes them for BertModel, ViTModel and LlamaForCausalLM of transformers.
LITERAL = [
    (BERT, {"query": "base_model.model.encoder.layer.1.attention.self.query",
           "key": "base_model.model.encoder.layer.1.attention.self.key",
           "value": "base_model.model.encoder.layer.1.attention.self.value",
           "output": "base_model.model.encoder.layer.1.attention.output.dense",
           "up": "base_model.model.encoder.layer.1.intermediate.dense",
           "down": "base_model.model.encoder.layer.1.output.dense"}),
    (VIT, {"query": "base_model.model.encoder.layer.1.attention.attention.query",
          "value": "base_model.model.encoder.layer.1.attention.attention.value",
          "output": "base_model.model.encoder.layer.1.attention.output.dense",
          "up": "base_model.model.encoder.layer.1.intermediate.dense",
          "down": "base_model.model.encoder.layer.1.output.dense"}),
    (LLAMA, {"query": "base_model.model.model.layers.1.self_attn.q_proj",
            "key": "base_model.model.model.layers.1.self_attn.k_proj",
            "value": "base_model.model.model.layers.1.self_attn.v_proj",
            "output": "base_model.model.model.layers.1.self_attn.o_proj",
            "gate": "base_model.model.model.layers.1.mlp.gate_proj",
            "up": "base_model.model.model.layers.1.mlp.up_proj",
            "down": "base_model.model.model.layers.1.mlp.down_proj"}),
]


@pytest.mark.parametrize("model, literal", LITERAL, ids=["bert", "vit", "llama"])
def test_files_have_the_names_of_peft(model, literal, tmp_path):
    save_adapters(tmp_path, model, adapters_for(model, tuple(literal)))
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    for module in literal.values():
        for matrix in "AB":
            assert f"{module}.lora_{matrix}.weight" in tensors
    assert len(tensors) == 4 * len(literal)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA" and config["r"] == 2 and config["lora_alpha"] == 4.0
    assert config["task_type"] == ("CAUSAL_LM" if model is LLAMA else "FEATURE_EXTRACTION")
    assert set(config["target_modules"]) == {
        module.split(".1.")[1] for module in literal.values()}


def test_a_target_that_is_the_end_of_another_is_told_apart():
    """Ends of names alone would give the attention's output an adapter, too."""
    import re
    names = names_of(BERT)
    expression = names.targets({"down"})
    every = [f"encoder.layer.3.{module}" for module in names.parts.values()]
    assert [name for name in every if re.fullmatch(expression, name)] == [
        "encoder.layer.3.output.dense"]
    assert names.targets({"down", "output"}) == ["attention.output.dense", "output.dense"]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("model", [BERT, VIT, LLAMA], ids=lambda model: model.name)
def test_adapters_come_back(model, single, tmp_path):
    path = tmp_path / "adapter.safetensors" if single else tmp_path / "folder"
    own = adapters_for(model)
    save_adapters(path, model, own)
    same(load_adapters(path, model), own)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("pooling, outputs", [("mean", 3), ("first", 1), ("none", 2)])
def test_heads_come_back(pooling, outputs, single, tmp_path):
    path = tmp_path / "adapter.safetensors" if single else tmp_path / "folder"
    rng = np.random.default_rng(2)
    head = Linear(rng.normal(0, 1, (outputs, 12)).astype(np.float32),
                  rng.normal(0, 1, outputs).astype(np.float32))
    own = adapters_for(BERT, head=head, pooling=pooling)
    save_adapters(path, BERT, own)
    same(load_adapters(path, BERT), own)
    if not single:
        names = load_file(path / "adapter_model.safetensors").keys()
        spans = pooling == "none"
        assert ("base_model.model.qa_outputs.weight" in names) == spans
        assert any(name.startswith("base_model.model.bert.encoder") for name in names) == spans
        assert (path / "head.safetensors").exists() != spans


def test_rotary_pairs_are_written_in_halves(tmp_path):
    """The same model with rows of q and k in the order of transformers gets the same function."""
    halves = samples.llama(interleaved=False)
    size = halves.blocks[0].attention.head_size
    own = adapters_for(halves, ("query", "key"))
    save_adapters(tmp_path, halves, own)
    found = load_adapters(tmp_path, LLAMA)
    order = np.arange(size).reshape(2, -1).T.ravel()
    for name, adapter in own.layers.items():
        rows = adapter.b.reshape(-1, size, 2)[:, order].reshape(adapter.b.shape)
        assert np.array_equal(found.layers[name].b, rows)
    save_adapters(tmp_path, LLAMA, found)
    same(load_adapters(tmp_path, halves), own)


def test_merging_adds_the_product():
    own = adapters_for(BERT)
    merged, plain = parameters(merge(BERT, own)), parameters(BERT)
    for name, values in plain.items():
        layer = name.removesuffix(".weight")
        added = 2 * own.layers[layer].b @ own.layers[layer].a if layer in own.layers else 0
        assert np.allclose(merged[name], values + added, atol=1e-6)
    assert not np.allclose(merged["blocks.0.query.weight"], plain["blocks.0.query.weight"])


@pytest.mark.parametrize("fmt", ["posit8", "fp8"])
def test_inference_with_what_was_trained_has_the_bits_of_training(fmt, tmp_path):
    numerics = EightBit(AcceleratorConfig(fmt))
    images = Batch(np.stack([patches(16 - image) for image in DRAWN.values()]), np.arange(10))
    model = load("digits-vit")
    trainer = Trainer(model, Training(LowRank(rank=4), rate=4e-3, steps=8, batch=10), "classes",
                      numerics, "pair")
    for _ in range(8):
        trainer.step(images)
    trained = logits_of(trainer.model, trainer.weights, numerics, images)
    save_adapters(tmp_path, model, trainer.adapters())
    merged = merge(model, load_adapters(tmp_path, model), numerics)
    again = logits_of(merged, Weights(parameters(merged), numerics), numerics, images)
    assert np.array_equal(trained, again)
    assert not np.array_equal(trained, logits_of(
        model, Weights(parameters(model), numerics), numerics, images))
    exact = forward(merge(model, trainer.adapters()), images.inputs[0]).output[0]
    assert np.abs(exact - trained[0]).max() < 1.0


def written(tmp_path, config=(), tensors=(), model=BERT):
    """A folder as of peft, with changes; a tensor of None is left out."""
    save_adapters(tmp_path, model, adapters_for(model, ("query",)))
    own = load_file(tmp_path / "adapter_model.safetensors") | dict(tensors)
    save_file({name: values for name, values in own.items() if values is not None},
              tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps(CONFIG | dict(config)))
    return tmp_path


QUERY = "base_model.model.encoder.layer.0.attention.self.query.lora_"


@pytest.mark.parametrize("config, tensors, message", [
    ({"peft_type": "IA3"}, {}, "peft_type must be LORA, not 'IA3'"),
    ({"bias": "all"}, {}, "bias must be none: biases are frozen, not 'all'"),
    ({"use_dora": True}, {}, "use_dora must be false, not True"),
    ({"fan_in_fan_out": True}, {}, "fan_in_fan_out must be false, not True"),
    ({"rank_pattern": {"query": 4}}, {}, "rank_pattern must be empty"),
    ({"r": 0}, {}, "r must be a whole number of at least 1, not 0"),
    ({"lora_alpha": None}, {}, "lora_alpha must be a number above 0, not None"),
    ({"r": 4}, {}, "A of blocks.0.query must have 4 rows, as .* says, not 2"),
    ({}, {f"{QUERY}A.weight": None}, "lora_A of blocks.0.query is missing"),
    ({}, {f"{QUERY}A.weight": np.ones((2, 13), np.float32)},
     r"A of blocks.0.query must be of shape \(2, 12\) in random BERT, not \(2, 13\)"),
    ({}, {f"{QUERY}A.weight": np.array(1, np.float32)}, r"must be a matrix, not of shape \(\)"),
    ({}, {f"{QUERY}B.weight": np.full((12, 2), np.nan, np.float32)},
     "tensor .*lora_B.weight must be finite in fp32, but holds nan"),
    ({}, {"base_model.model.classifier.weight": np.ones((2, 12), np.float32)},
     "tensor base_model.model.classifier.weight has no place in adapters of random BERT"),
    ({}, {QUERY.replace("layer.0", "layer.7") + f"{matrix}.weight": np.ones(shape, np.float32)
          for matrix, shape in (("A", (2, 12)), ("B", (12, 2)))},
     "adapter of blocks.7.query: random BERT has no such layer"),
    ({}, {"base_model.model.embeddings.word_embeddings.lora_embedding_A":
          np.ones((2, 50), np.float32)}, "lora_embedding_A has no place in adapters")])
def test_what_does_not_fit_is_refused_by_name(config, tensors, message, tmp_path):
    with pytest.raises(CheckpointError, match=message) as caught:
        load_adapters(written(tmp_path, config, tensors), BERT)
    assert "\n" not in str(caught.value)


def test_adapters_of_another_model_are_refused(tmp_path):
    save_adapters(tmp_path, BERT, adapters_for(BERT))
    with pytest.raises(CheckpointError, match="has no place in adapters of random Llama"):
        load_adapters(tmp_path, LLAMA)
    with pytest.raises(CheckpointError, match="must be of shape .* in random BERT"):
        merge(samples.bert(width=24), load_adapters(tmp_path, BERT))


def test_damaged_files_are_refused(tmp_path):
    folder = written(tmp_path / "a", {})
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="adapter_config.json must be a readable JSON file"):
        load_adapters(folder, BERT)
    (folder / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match="must be a readable JSON file: No such file"):
        load_adapters(folder, BERT)
    single = tmp_path / "single.safetensors"
    save_file(load_file(folder / "adapter_model.safetensors"), single)
    with pytest.raises(CheckpointError, match="does not say rank and alpha"):
        load_adapters(single, BERT)
    single.write_bytes(single.read_bytes()[:200])
    with pytest.raises(CheckpointError, match="must be a whole safetensors file"):
        load_adapters(single, BERT)


def test_rank_stabilised_scales_are_read(tmp_path):
    found = load_adapters(written(tmp_path, {"use_rslora": True}), BERT)
    assert found.layers["blocks.0.query"].scale == pytest.approx(4 / 2 ** 0.5)


def test_whole_matrices_are_no_adapters():
    from compiler.training.description import WholeMatrices
    model, _, kind = networks.bert()
    trainer = Trainer(model, Training(WholeMatrices(("q",))), kind)
    with pytest.raises(ValueError, match="adapters must be what is trained"):
        trainer.adapters()


def test_a_set_is_of_one_rank_and_scale():
    own = adapters_for(BERT)
    mixed = dict(own.layers)
    mixed["blocks.0.query"] = replace(mixed["blocks.0.query"], scale=1.0)
    with pytest.raises(ValueError, match="adapters must be of one rank and scale"):
        AdapterSet(mixed)
    with pytest.raises(ValueError, match="adapters must be of one layer at least"):
        AdapterSet({})


def test_metadata_says_what_the_head_reads(tmp_path):
    path = tmp_path / "adapter.safetensors"
    head = Linear(np.ones((2, 12), np.float32), np.zeros(2, np.float32))
    save_adapters(path, BERT, adapters_for(BERT, head=head, pooling="mean"))
    assert Safetensors(path).metadata()["pooling"] == "mean"
    assert merge(BERT, load_adapters(path, BERT)).pooling == "mean"
