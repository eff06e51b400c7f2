"""Llama decoders from safetensors and from GGUF: ``load_llama``, ``load_gguf``."""

from dataclasses import dataclass
from pathlib import Path

from compiler.checkpoints.checkpoint import Checkpoint, CheckpointError, LazyBlocks, Take
from compiler.checkpoints.description import (
    Activation,
    Attention,
    Block,
    FeedForward,
    Linear,
    Norm,
    Rotary,
    Tokens,
    Transformer,
)
from compiler.checkpoints.folder import Folder, activation
from compiler.checkpoints.gguf_file import open_gguf
from compiler.checkpoints.settings import Settings

__all__ = ["load_gguf", "load_llama"]

_HUGGING_FACE = {
    "table": "model.embed_tokens", "norm": "model.norm", "head": "lm_head",
    "query": "model.layers.{}.self_attn.q_proj", "key": "model.layers.{}.self_attn.k_proj",
    "value": "model.layers.{}.self_attn.v_proj", "output": "model.layers.{}.self_attn.o_proj",
    "gate": "model.layers.{}.mlp.gate_proj", "up": "model.layers.{}.mlp.up_proj",
    "down": "model.layers.{}.mlp.down_proj",
    "attention_norm": "model.layers.{}.input_layernorm",
    "feed_forward_norm": "model.layers.{}.post_attention_layernorm",
}
_GGUF = {
    "table": "token_embd", "norm": "output_norm", "head": "output",
    "query": "blk.{}.attn_q", "key": "blk.{}.attn_k", "value": "blk.{}.attn_v",
    "output": "blk.{}.attn_output", "gate": "blk.{}.ffn_gate", "up": "blk.{}.ffn_up",
    "down": "blk.{}.ffn_down", "attention_norm": "blk.{}.attn_norm",
    "feed_forward_norm": "blk.{}.ffn_norm",
}
# Frequencies that older files carry; they follow from the base.
_UNUSED = tuple(f"model.layers.{index}.self_attn.rotary_emb.inv_freq" for index in range(512))


@dataclass(frozen=True)
class _Layers:
    """The structure, and ``names`` of the tensors, each taken by ``take(name, shape)``."""

    names: dict[str, str]
    layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    size: int
    vocabulary: int
    eps: float
    rotary: Rotary
    activation: Activation
    attention_bias: bool
    mlp_bias: bool
    tied: bool

    def linear(self, take: Take, part: str, outputs: int, inputs: int, index: int,
               bias: bool) -> Linear:
        name = self.names[part].format(index)
        return Linear(take(f"{name}.weight", (outputs, inputs)),
                      take(f"{name}.bias", (outputs,)) if bias else None)

    def norm(self, take: Take, part: str, index: int = 0) -> Norm:
        return Norm(take(f"{self.names[part].format(index)}.weight", (self.width,)), None,
                    self.eps)

    def block(self, take: Take, index: int) -> Block:
        query, keys = self.heads * self.size, self.kv_heads * self.size
        q, k, v, output = (
            self.linear(take, part, rows, columns, index, self.attention_bias)
            for part, rows, columns in (("query", query, self.width), ("key", keys, self.width),
                                        ("value", keys, self.width),
                                        ("output", self.width, query)))
        attention = Attention(q, k, v, output, self.heads, self.kv_heads, self.rotary, causal=True)
        gate, up, down = (
            self.linear(take, part, rows, columns, index, self.mlp_bias)
            for part, rows, columns in (("gate", self.hidden, self.width),
                                        ("up", self.hidden, self.width),
                                        ("down", self.width, self.hidden)))
        return Block(attention, self.norm(take, "attention_norm", index),
                     FeedForward(up, down, self.activation, gate),
                     self.norm(take, "feed_forward_norm", index), pre_norm=True)

    def ends(self, take: Take) -> tuple[Tokens, Norm, Linear]:
        """The embedding, the last norm and the head, which may be the embedding's table."""
        shape = (self.vocabulary, self.width)
        table = take(f"{self.names['table']}.weight", shape)
        head = table if self.tied else take(f"{self.names['head']}.weight", shape)
        return Tokens(table), self.norm(take, "norm"), Linear(head)

    def transformer(self, name: str, checkpoint: Checkpoint) -> Transformer:
        """All shapes checked, then the ends read; a layer when it is asked for."""
        self.ends(checkpoint.check)
        for index in range(self.layers):
            self.block(checkpoint.check, index)
        unused = (*_UNUSED, f"{_HUGGING_FACE['head']}.") if self.tied else _UNUSED
        checkpoint.finish(unused, f"a Llama of {self.layers} layers")
        tokens, norm, head = self.ends(checkpoint.read)
        blocks = LazyBlocks(self.layers, lambda index: self.block(checkpoint.read, index))
        return Transformer(name, tokens, blocks, norm, head)


def load_llama(path: Path, name: str | None = None) -> Transformer:
    """The decoder in folder ``path`` (``config.json``, ``model.safetensors``).

    ``CheckpointError`` for what is damaged or not supported, the scaling of rotary embeddings
    for longer texts say.
    """
    folder = Folder.open(path)
    settings = folder.settings
    settings.require("model_type", ["llama"], "llama")
    settings.require("architectures", [["LlamaForCausalLM"], ["LlamaModel"]], "LlamaForCausalLM")
    settings.require("rope_interleaved", [False], "false, as Hugging Face stores q and k")
    settings.require("partial_rotary_factor", [1], "1: all of a head is rotated")
    width, heads, kv_heads = _heads(settings, "hidden_size", "num_attention_heads",
                                    "num_key_value_heads")
    layers = _Layers(
        _HUGGING_FACE, settings.count("num_hidden_layers"), width,
        settings.count("intermediate_size"), heads, kv_heads,
        _size(settings, "head_dim", width, heads), settings.count("vocab_size"),
        settings.positive("rms_norm_eps", 1e-6), Rotary(_base(settings), interleaved=False),
        activation(settings), settings.flag("attention_bias", False),
        settings.flag("mlp_bias", False), settings.flag("tie_word_embeddings", False))
    return layers.transformer(name or folder.path.name, folder.checkpoint)


def _base(settings: Settings) -> float:
    """The base of the rotary angles, which two generations of ``config.json`` keep in different
    places."""
    for key in ("rope_scaling", "rope_parameters"):
        value = settings.get(key)
        if value is None:
            continue
        if not isinstance(value, dict):
            raise settings.refuse(key, "an object or null")
        kind = value.get("rope_type", value.get("type", "default"))
        if kind != "default":
            raise settings.refuse(key, "null or of type default, the nearest that is supported "
                                  "(right up to the length of training)")
    inner = Settings(settings.get("rope_parameters") or {}, settings.where, "")
    source = inner if inner.get("rope_theta") is not None else settings
    return source.positive("rope_theta", 10000.0)


def _heads(settings: Settings, width: str, heads: str, kv_heads: str) -> tuple[int, int, int]:
    sizes = settings.count(width), settings.count(heads)
    shared = settings.count(kv_heads, sizes[1])
    if sizes[1] % shared:
        raise settings.refuse(kv_heads, f"a divisor of {heads} = {sizes[1]}")
    return *sizes, shared


def _size(settings: Settings, name: str, width: int, heads: int) -> int:
    """The size of a head: given, or the width's share."""
    if settings.get(name) is None and width % heads:
        raise CheckpointError(f"{settings.where}: width {width} must be a multiple of the "
                              f"{heads} heads, or {settings.prefix}{name} given")
    size = settings.count(name, width // heads)
    if size % 2:
        raise CheckpointError(f"{settings.where}: heads must be of an even size to be rotated, "
                              f"not {size}")
    return size


def load_gguf(path: Path, name: str | None = None) -> Transformer:
    """The decoder in GGUF file ``path``, dequantised; as ``load_llama``."""
    file = open_gguf(path)
    general = Settings(file, str(path))
    general.require("general.architecture", ["llama"], "llama")
    settings = Settings(file, str(path), "llama.")
    checkpoint = Checkpoint(file)
    width, heads, kv_heads = _heads(settings, "embedding_length", "attention.head_count",
                                    "attention.head_count_kv")
    size = _size(settings, "attention.key_length", width, heads)
    settings.require("attention.value_length", [size], f"{size}, as the size of a key")
    settings.require("rope.dimension_count", [size], f"{size}: all of a head is rotated")
    settings.require("rope.scaling.type", ["none"], "none, the nearest that is supported")
    settings.require("expert_count", [0], "0: mixtures of experts are not supported, the nearest "
                     "is one feed-forward")
    if "rope_freqs.weight" in checkpoint:
        raise CheckpointError(f"{path}: tensor rope_freqs.weight scales the rotary embedding, "
                              "which is not supported; the nearest is a file without it")
    rows = file.shapes.get("token_embd.weight", (1,))[0]
    layers = _Layers(
        _GGUF, settings.count("block_count"), width, settings.count("feed_forward_length"),
        heads, kv_heads, size, settings.count("vocab_size", rows),
        settings.positive("attention.layer_norm_rms_epsilon"),
        Rotary(settings.positive("rope.freq_base", 10000.0), interleaved=True), "silu",
        attention_bias="blk.0.attn_q.bias" in checkpoint,
        mlp_bias="blk.0.ffn_up.bias" in checkpoint, tied="output.weight" not in checkpoint)
    return layers.transformer(name or path.stem, checkpoint)
