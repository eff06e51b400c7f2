"""Decoders in GGUF files, named as llama.cpp names them: ``load_gguf``."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.checkpoints.checkpoint import Checkpoint, CheckpointError
from compiler.checkpoints.description import Linear, Rotary, Tokens, Transformer
from compiler.checkpoints.family import ATTENTION, MLP, Names, Plan
from compiler.checkpoints.gguf_file import GgufFile, open_gguf
from compiler.checkpoints.parts import Parts
from compiler.checkpoints.rope import head_size
from compiler.checkpoints.settings import Settings

__all__ = ["load_gguf"]

_NAMES: Names = {
    "table": "token_embd", "final_norm": "output_norm", "head": "output",
    "query": "blk.{}.attn_q", "key": "blk.{}.attn_k", "value": "blk.{}.attn_v",
    "output": "blk.{}.attn_output", "gate": "blk.{}.ffn_gate", "up": "blk.{}.ffn_up",
    "down": "blk.{}.ffn_down", "attention_norm": "blk.{}.attn_norm",
    "feed_forward_norm": "blk.{}.ffn_norm",
}
_DIVISORS = "rope_freqs.weight"
_HEAD_NORMS = {"query_norm": "blk.{}.attn_q_norm", "key_norm": "blk.{}.attn_k_norm"}
# Of each architecture its title, whether rotary pairs are neighbours, and its names.
_KINDS: dict[str, tuple[str, bool, Names]] = {
    "llama": ("Llama", True, _NAMES), "qwen2": ("Qwen2", False, _NAMES),
    "qwen3": ("Qwen3", False, {**_NAMES, **_HEAD_NORMS})}


def load_gguf(path: Path, name: str | None = None) -> Transformer:
    """The decoder in GGUF file ``path``, dequantised; ``CheckpointError`` as for a folder."""
    file = open_gguf(path)
    general = Settings(file, str(path))
    kind = general.get("general.architecture")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise general.refuse("general.architecture", f"one of {', '.join(_KINDS)}")
    title, interleaved, names = _KINDS[kind]
    checkpoint = Checkpoint(file)
    plan = _plan(Settings(file, str(path), f"{kind}."), file, checkpoint, interleaved)
    parts = Parts(plan, names, checkpoint, "")
    parts.ends(checkpoint.check)
    shape = plan.vocabulary, plan.width
    if not plan.tied:
        checkpoint.check(f"{names['head']}.weight", shape)
    blocks = parts.blocks()
    checkpoint.finish((), f"a {title} of {plan.layers} layers")
    tokens, norm = parts.ends(checkpoint.read)
    assert isinstance(tokens, Tokens), "decoders read tokens"
    head = tokens.table if plan.tied else checkpoint.read(f"{names['head']}.weight", shape)
    return Transformer(name or path.stem, tokens, blocks, norm, Linear(head),
                       task="causal language model")


def _plan(settings: Settings, file: GgufFile, checkpoint: Checkpoint, interleaved: bool) -> Plan:
    width, heads = settings.count("embedding_length"), settings.count("attention.head_count")
    kv_heads = settings.count("attention.head_count_kv", heads)
    if heads % kv_heads:
        raise settings.refuse("attention.head_count_kv",
                              f"a divisor of attention.head_count = {heads}")
    size = head_size(settings, width, heads, "attention.key_length")
    settings.require("attention.value_length", [size], f"{size}, as the size of a key")
    settings.require("rope.dimension_count", [size], f"{size}: all of a head is rotated")
    settings.require("rope.scaling.type", ["none", "linear"], "none or linear")
    settings.require("expert_count", [0], "0: mixtures of experts are not supported, the nearest "
                     "is one feed-forward")
    layers = settings.count("block_count")
    biased = frozenset(part for part in ATTENTION | MLP
                       if f"{str(_NAMES[part]).format(0)}.bias" in checkpoint)
    return Plan(
        layers, width, heads, settings.count("feed_forward_length"),
        settings.positive("attention.layer_norm_rms_epsilon"), "silu", "rms", kv_heads, size,
        pre_norm=True, causal=True, biased=biased,
        rotary=(_rotary(settings, checkpoint, size, interleaved),) * layers,
        vocabulary=settings.count("vocab_size", file.shapes.get("token_embd.weight", (1,))[0]),
        tied="output.weight" not in checkpoint)


def _rotary(settings: Settings, checkpoint: Checkpoint, size: int, interleaved: bool) -> Rotary:
    """With rates that a linear scaling, or a divisor for each pair (Llama 3), makes slower."""
    plain = Rotary(settings.positive("rope.freq_base", 10000.0), interleaved)
    rates = plain.of_pairs(size)
    if settings.get("rope.scaling.type") == "linear":
        rates = rates / settings.positive("rope.scaling.factor")
    if _DIVISORS in checkpoint:
        divisors = checkpoint.read(_DIVISORS, (size // 2,)).astype(np.float64)
        if divisors.min() <= 0:
            raise CheckpointError(f"{settings.where}: tensor {_DIVISORS} must hold numbers above "
                                  f"0, not {divisors.min()}")
        rates = rates / divisors
    elif settings.get("rope.scaling.type") != "linear":
        return plain
    return replace(plain, rates=tuple(rates.tolist()))
