"""Adapters of peft merged into tensors of any family."""

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.loader import load_folder
from compiler.checkpoints.reference import forward
from support.families import stored
from support.peft import arrays, pair, write


@pytest.mark.parametrize("name, module, shape, transposed", [
    ("gpt2", "transformer.h.1.attn.c_attn", (96, 32), True),
    ("phi3", "model.layers.0.mlp.gate_up_proj", (96, 32), False),
    ("distilbert", "transformer.layer.1.attention.q_lin", (32, 32), False),
    ("distilbert", "distilbert.transformer.layer.0.ffn.lin1", (48, 32), False),
    ("t5", "decoder.block.1.layer.1.EncDecAttention.k", (48, 32), False),
    ("mobilebert-masked", "mobilebert.encoder.layer.0.ffn.0.output.dense", (16, 48), False)])
def test_a_merged_model_is_that_of_merged_tensors(tmp_path, name, module, shape, transposed):
    case = stored(name)
    folder = case.write(tmp_path / name)
    own = pair(module, *shape)
    path = write(tmp_path / "adapter", own, fan_in_fan_out=transposed)
    found = list(arrays(load_folder(folder, adapter=path).blocks))
    tensors = load_file(folder / "model.safetensors")
    end = f"{module.removeprefix('distilbert.')}.weight"
    key = next(key for key in tensors if key.endswith(end))
    a, b = own.values()
    tensors[key] = tensors[key] + 3 * ((b @ a).T if transposed else b @ a)
    save_file(tensors, folder / "model.safetensors")
    wanted, plain = (list(arrays(load_folder(one).blocks))
                     for one in (folder, case.write(tmp_path / "plain")))
    assert all(np.array_equal(one, other) for one, other in zip(found, wanted, strict=True))
    assert any(not np.array_equal(one, other) for one, other in zip(found, plain, strict=True))


def test_a_head_that_was_trained_whole_and_patterns(tmp_path):
    case = stored("distilbert-sequence")
    folder, module = case.write(tmp_path / "base"), "distilbert.transformer.layer.1.attention.v_lin"
    head = np.random.default_rng(3).normal(0, 1, (2, 32)).astype(np.float32)
    path = write(tmp_path / "adapter", pair(module, 32, 32, rank=4) | {
        "base_model.model.classifier.weight": head,
        "base_model.model.classifier.bias": np.ones(2, np.float32)},
        alpha_pattern={"v_lin": 8}, rank_pattern={"v_lin": 4}, use_rslora=True)
    found, plain = load_folder(folder, adapter=path), load_folder(folder)
    assert np.array_equal(found.head.weight, head) and found.head.bias.tolist() == [1, 1]
    a, b = pair(module, 32, 32, rank=4).values()
    change = found.blocks[1].attention.value.weight - plain.blocks[1].attention.value.weight
    assert np.allclose(change, 8 / 2 * (b @ a), atol=1e-5)
    ids = case.inputs(plain).values[0]
    assert not np.allclose(forward(found, ids).output, forward(plain, ids).output)


LIN = "transformer.layer.0.attention.q_lin"


@pytest.mark.parametrize("tensors, config, message", [
    (pair(LIN, 32, 32), {"peft_type": "IA3"}, "peft_type must be LORA, not 'IA3'"),
    (pair(LIN, 32, 32), {"use_dora": True}, "use_dora must be false"),
    (pair(LIN, 32, 32), {"lora_alpha": 0}, "lora_alpha must be a number above 0"),
    (pair(LIN, 32, 32), {"alpha_pattern": {"q.*": 3}}, "alpha_pattern must be an object by"),
    (pair(LIN, 32, 32), {"rank_pattern": {"k_lin": 2}}, "that have adapters, as k_lin is not"),
    (pair(LIN, 32, 32), {"r": 3}, f"r must be 2, the rank of the matrices of {LIN}, not 3"),
    (pair(LIN, 32, 32), {"rank_pattern": {"q_lin": 3}}, "q_lin must be 2, the rank of the matri"),
    (pair(LIN, 32, 31), {}, r"must be of shape \(32, 32\), not \(32, 31\)"),
    (pair(LIN, 32, 32), {"fan_in_fan_out": True}, "fan_in_fan_out must be false for linear layers"),
    (pair(LIN, 32, 32), {"bias": "all"}, "bias must be none where the file holds no bias"),
    (pair("transformer.layer.9.q_lin", 32, 32), {}, "layer.9.q_lin.lora_A.weight has no place in"),
    (dict(list(pair(LIN, 32, 32).items())[:1]), {}, f"lora_B of {LIN} is missing"),
    ({f"base_model.model.{LIN}.lora_magnitude_vector": np.ones(32, np.float32)}, {},
     "must be lora_A or lora_B of a linear layer"),
    ({f"base_model.model.{LIN}.lora_embedding_A": np.ones((2, 3), np.float32)}, {},
     "must be lora_A or lora_B of a linear layer"),
    ({}, {}, "must hold lora_A and lora_B of one layer at least"),
    ({key: values * np.nan for key, values in pair(LIN, 32, 32).items()}, {}, "must be finite"),
    ({"base_model.model.vocab.weight": np.ones(3, np.float32)}, {}, "vocab.weight has no place in"),
])
def test_what_cannot_be_merged_is_one_line(tmp_path, tensors, config, message):
    folder = stored("distilbert").write(tmp_path / "base")
    path = write(tmp_path / "adapter", tensors, **config)
    with pytest.raises(CheckpointError, match=message) as error:
        list(load_folder(folder, adapter=path).blocks)
    assert "\n" not in str(error.value)


def test_a_folder_without_tensors_is_one_line(tmp_path):
    folder = stored("distilbert").write(tmp_path / "base")
    path = write(tmp_path / "adapter", pair(LIN, 32, 32))
    (path / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="must hold adapter_model.safetensors or ad"):
        load_folder(folder, adapter=path)
