"""T5 in GGUF files: an encoder and a decoder, ``enc.`` and ``dec.`` in the names of tensors."""

from dataclasses import replace

from compiler.checkpoints.checkpoint import Checkpoint
from compiler.checkpoints.family import Head, Names, Plan
from compiler.checkpoints.parts import Parts
from compiler.checkpoints.settings import Settings

__all__ = ["T5", "T5_HEAD", "t5_parts"]

T5 = "t5"
T5_HEAD = Head("conditional language model", "output", "vocabulary", bias=False, tied=True)
_FURTHEST = 128  # distance from which on biases are one; files do not say another


def t5_parts(settings: Settings, checkpoint: Checkpoint) -> Parts:
    """Decoder, with its ``encoder``; ``CheckpointError``. Where the head is the embedding's table
    what it reads is scaled, as the first T5 were trained."""
    gated = "enc.blk.0.ffn_gate.weight" in checkpoint
    layers, width = settings.count("block_count"), settings.count("embedding_length")
    size = settings.count("attention.key_length")
    settings.require("attention.value_length", [size], f"{size}, as the size of a key")
    shape = checkpoint.store.shapes.get("token_embd.weight", (1,))
    tied = "output.weight" not in checkpoint
    encoder = Plan(
        layers, width, settings.count("attention.head_count"),
        settings.count("feed_forward_length"),
        settings.positive("attention.layer_norm_rms_epsilon"),
        "gelu_tanh" if gated else "relu", "rms", head_size=size, pre_norm=True,
        biased=frozenset(), scale=1.0, vocabulary=settings.count("vocab_size", shape[0]),
        tied=tied, buckets=(settings.count("attention.relative_buckets_count"), _FURTHEST))
    decoder = replace(encoder, layers=settings.count("decoder_block_count", layers), causal=True,
                      encoder=encoder, logit_factor=width ** -0.5 if tied else 1.0)
    parts = Parts(decoder, _names("dec", gated), checkpoint, "")
    parts.encoder = Parts(encoder, _names("enc", gated), checkpoint, "")
    return parts


def _names(side: str, gated: bool) -> Names:
    layer = f"{side}.blk.{{}}"
    projections = {"query": "q", "key": "k", "value": "v", "output": "o"}
    found = {
        "table": "token_embd", "final_norm": f"{side}.output_norm",
        "position_bias": f"{side}.blk.0.attn_rel_b", "attention_norm": f"{layer}.attn_norm",
        "feed_forward_norm": f"{layer}.ffn_norm", "up": f"{layer}.ffn_up",
        "down": f"{layer}.ffn_down",
        **{part: f"{layer}.attn_{letter}" for part, letter in projections.items()}}
    if side == "dec":
        found |= {f"across_{part}": f"{layer}.cross_attn_{letter}"
                  for part, letter in projections.items()}
        found["across_norm"] = f"{layer}.cross_attn_norm"
    return found | ({"gate": f"{layer}.ffn_gate"} if gated else {})
