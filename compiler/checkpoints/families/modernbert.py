"""ModernBERT: rotary embedding, gates, and a window in two of three layers."""

from collections.abc import Mapping

from compiler.checkpoints.families.llama import windows_of
from compiler.checkpoints.family import LINEARS, MLP, Family, Head, Packed, Plan
from compiler.checkpoints.folder import activation
from compiler.checkpoints.rope import head_size, rotary
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES"]

_PROJECTIONS = ("query", "key", "value")
_NAMES: dict[str, str | Packed] = {
    "table": "embeddings.tok_embeddings", "embedding_norm": "embeddings.norm",
    "final_norm": "final_norm",
    **dict.fromkeys(_PROJECTIONS, Packed("layers.{}.attn.Wqkv", _PROJECTIONS)),
    "output": "layers.{}.attn.Wo", "attention_norm": "layers.{}.attn_norm",
    **dict.fromkeys(("gate", "up"), Packed("layers.{}.mlp.Wi", ("gate", "up"))),
    "down": "layers.{}.mlp.Wo", "feed_forward_norm": "layers.{}.mlp_norm"}


def _plan(settings: Settings) -> Plan:
    width, heads = settings.count("hidden_size"), settings.count("num_attention_heads")
    size, layers = head_size(settings, width, heads), settings.count("num_hidden_layers")
    # A position sees half of local_attention on either side.
    window = settings.count("local_attention", 128) // 2 + 1
    every = settings.count("global_attn_every_n_layers", 3)
    plain = tuple(window if index % every else None for index in range(layers))
    windows = windows_of(settings, layers, window, plain)
    whole, local = (rotary(Settings(_older(settings, name, base), settings.where), size, kind=kind)
                    for kind, name, base in (
                        ("full_attention", "global_rope_theta", 160_000.0),
                        ("sliding_attention", "local_rope_theta", 10_000.0)))
    biased = frozenset(
        {*(LINEARS - MLP if settings.flag("attention_bias", False) else ()),
         *(MLP if settings.flag("mlp_bias", False) else ())})
    return Plan(
        layers, width, heads, settings.count("intermediate_size"),
        settings.positive("norm_eps", 1e-5), activation(settings, "hidden_activation"),
        "layer" if settings.flag("norm_bias", False) else "layer without shift", pre_norm=True,
        biased=biased, absent=frozenset(("layers.0.attn_norm",)), windows=windows,
        rotary=tuple(whole.rotary if own is None else local.rotary for own in windows),
        vocabulary=settings.count("vocab_size"),
        longest=settings.count("max_position_embeddings", 8192),
        tied=settings.flag("tie_word_embeddings", True))


def _older(settings: Settings, name: str, base: float) -> dict[str, object]:
    """What rotary embeddings are described by, in the words of either generation."""
    if settings.get("rope_parameters") is not None:
        return {"rope_parameters": settings.get("rope_parameters")}
    return {"rope_theta": settings.positive(name, base)}


def _heads(settings: Settings) -> Mapping[str, Head]:
    pooling = settings.get("classifier_pooling")
    if pooling not in (None, "cls", "mean"):
        raise settings.refuse("classifier_pooling", "cls or mean")
    bias = settings.flag("classifier_bias", False)
    form = activation(settings, "classifier_activation", "gelu")
    return {
        "MaskedLM": Head(
            "masked language model", "decoder", "vocabulary", "head.dense", "head.norm", form,
            bias=settings.flag("decoder_bias", True), dense_bias=bias, tied=True, optional=True),
        "SequenceClassification": Head(
            "sequence classification", "classifier", dense="head.dense", norm="head.norm",
            activation=form, pooling="mean" if pooling == "mean" else "first", dense_bias=bias),
        "TokenClassification": Head(
            "token classification", "classifier", dense="head.dense", norm="head.norm",
            activation=form, dense_bias=bias),
        "QuestionAnswering": Head(
            "question answering", "classifier", 2, dense="head.dense", norm="head.norm",
            activation=form, dense_bias=bias)}


FAMILIES = (Family(("modernbert",), "ModernBERT", ("ModernBert",), _NAMES, _plan, ("model.", ""),
                   _heads),)
