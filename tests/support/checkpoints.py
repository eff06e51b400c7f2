"""Small checkpoints as files: BERT, Llama as safetensors and as GGUF."""

import json

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from safetensors.numpy import save_file

__all__ = ["Bert", "Llama"]

BERT = {"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu",
        "hidden_size": 8, "intermediate_size": 20, "num_attention_heads": 2,
        "num_hidden_layers": 2, "vocab_size": 30, "max_position_embeddings": 12,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12}

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu",
         "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4,
         "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 40,
         "rms_norm_eps": 1e-5, "rope_theta": 500.0, "tie_word_embeddings": True}
GGUF = {"embedding_length": 32, "feed_forward_length": 64, "attention.head_count": 4,
        "attention.head_count_kv": 2, "block_count": 2, "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 500.0, "rope.dimension_count": 8, "context_length": 64}
NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
         "model.layers": "blk", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}


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

    def tensors(self, kind=np.float32, old=False):
        tensors = bert_tensors(np.random.default_rng(4), old)
        return {name: tensor.astype(kind) for name, tensor in tensors.items()}

    def write(self, config=(), tensors=(), **chosen):
        """With changes to the config and the tensors; a tensor of None is left out."""
        mixed = self.tensors(**chosen) | dict(tensors)
        return write_folder(self.folder, self.config | dict(config),
                            {name: t for name, t in mixed.items() if t is not None})


def llama_tensors(rng):
    """The tensors of ``LLAMA`` as Hugging Face names and orders them."""
    shapes = {"model.embed_tokens.weight": (40, 32), "model.norm.weight": (32,)}
    for index in range(2):
        layer = f"model.layers.{index}"
        shapes |= {f"{layer}.input_layernorm.weight": (32,),
                   f"{layer}.post_attention_layernorm.weight": (32,)}
        for name, shape in (("q", (32, 32)), ("k", (16, 32)), ("v", (16, 32)), ("o", (32, 32))):
            shapes[f"{layer}.self_attn.{name}_proj.weight"] = shape
        for name, shape in (("gate", (64, 32)), ("up", (64, 32)), ("down", (32, 64))):
            shapes[f"{layer}.mlp.{name}_proj.weight"] = shape
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def interleaved(rows, size=8):
    """Rows of q or k as GGUF orders them: the two halves of each head by turns."""
    halves = rows.reshape(-1, 2, size // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


class Llama(Bert):
    """Writes a small Llama into ``folder``, or as GGUF next to it."""

    config = LLAMA

    def tensors(self, kind=np.float32, old=False):
        tensors = llama_tensors(np.random.default_rng(7))
        return {name: tensor.astype(kind) for name, tensor in tensors.items()}

    def write_gguf(self, settings=(), tensors=(), quantised=None, architecture="llama"):
        """The same model; ``quantised``: the type of its matrices."""
        path = self.folder.with_suffix(".gguf")
        writer = GGUFWriter(path, architecture)
        for name, value in (GGUF | dict(settings)).items():
            key = name if name.startswith("tokenizer.") else f"{architecture}.{name}"
            if value is not None:
                self.add(writer, key, value)
        mixed = {}
        for name, tensor in self.tensors().items():
            if ".q_proj" in name or ".k_proj" in name:
                tensor = interleaved(tensor)
            for old, new in NAMES.items():
                name = name.replace(old, new)
            mixed[name] = tensor
        for name, tensor in (mixed | dict(tensors)).items():
            if tensor is None:
                continue
            if quantised and tensor.ndim == 2:
                kind = GGMLQuantizationType[quantised]
                writer.add_tensor(name, quantize(tensor, kind), raw_dtype=kind)
            else:
                writer.add_tensor(name, tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    @staticmethod
    def add(writer, key, value):
        kinds = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string,
                 bool: writer.add_bool, list: writer.add_array}
        kinds[type(value)](key, value)
