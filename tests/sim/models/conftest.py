import json

import numpy as np
import pytest
from safetensors.numpy import save_file

BERT = {"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu",
        "hidden_size": 8, "intermediate_size": 20, "num_attention_heads": 2,
        "num_hidden_layers": 2, "vocab_size": 30, "max_position_embeddings": 12,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12}


def bert_tensors(rng, old=False):
    """The tensors of ``BERT``; ``old``: prefix and LayerNorm names of the first releases."""
    def norm(name):
        gain, shift = ("gamma", "beta") if old else ("weight", "bias")
        return {f"{name}.LayerNorm.{gain}": (8,), f"{name}.LayerNorm.{shift}": (8,)}

    def linear(name, outputs, inputs):
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    shapes = {"embeddings.word_embeddings.weight": (30, 8),
              "embeddings.position_embeddings.weight": (12, 8),
              "embeddings.token_type_embeddings.weight": (2, 8)} | norm("embeddings")
    for index in range(2):
        layer = f"encoder.layer.{index}"
        for name in ("query", "key", "value"):
            shapes |= linear(f"{layer}.attention.self.{name}", 8, 8)
        shapes |= linear(f"{layer}.attention.output.dense", 8, 8)
        shapes |= norm(f"{layer}.attention.output") | norm(f"{layer}.output")
        shapes |= linear(f"{layer}.intermediate.dense", 20, 8)
        shapes |= linear(f"{layer}.output.dense", 8, 20)
    prefix = "bert." if old else ""
    return {prefix + name: rng.normal(0, 0.5, shape).astype(np.float32)
            for name, shape in shapes.items()}


def write_folder(folder, config, tensors):
    """A checkpoint as Hugging Face lays it out."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


class Bert:
    """Writes a small BERT into ``folder``."""

    config = BERT

    def __init__(self, folder):
        self.folder = folder

    def tensors(self, old=False, kind=np.float32):
        tensors = bert_tensors(np.random.default_rng(4), old)
        return {name: tensor.astype(kind) for name, tensor in tensors.items()}

    def write(self, config=(), tensors=(), **chosen):
        """With changes to the config and the tensors; a tensor of None is left out."""
        mixed = self.tensors(**chosen) | dict(tensors)
        return write_folder(self.folder, self.config | dict(config),
                            {name: t for name, t in mixed.items() if t is not None})


@pytest.fixture
def bert(tmp_path):
    return Bert(tmp_path / "bert")
