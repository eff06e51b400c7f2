"""ALBERT: layers that are one, behind a projection of narrow embeddings."""

from dataclasses import replace

from compiler.checkpoints.families.bert import NAMES as _BERT
from compiler.checkpoints.families.bert import PLAIN, plan
from compiler.checkpoints.family import Family, Head, Plan
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES"]

_LAYER = "encoder.albert_layer_groups.{}"
_NAMES = {
    **{part: _BERT[part] for part in ("table", "positions", "segments", "embedding_norm")},
    "norm_projection": "encoder.embedding_hidden_mapping_in",
    **{part: f"{_LAYER}.attention.{part}" for part in ("query", "key", "value")},
    "output": f"{_LAYER}.attention.dense", "attention_norm": f"{_LAYER}.attention.LayerNorm",
    "up": f"{_LAYER}.ffn", "down": f"{_LAYER}.ffn_output",
    "feed_forward_norm": f"{_LAYER}.full_layer_layer_norm",
}


def _plan(settings: Settings) -> Plan:
    found = plan(settings)
    groups, inner = settings.count("num_hidden_groups", 1), settings.count("inner_group_num", 1)
    if found.layers % groups:
        raise settings.refuse("num_hidden_groups",
                              f"a divisor of num_hidden_layers = {found.layers}")
    labels = tuple(f"{index // (found.layers // groups)}.albert_layers.{part}"
                   for index in range(found.layers) for part in range(inner))
    return replace(found, layers=len(labels), labels=labels,
                   table_width=settings.count("embedding_size", 128))


_MASKED = Head("masked language model", "predictions.decoder", "vocabulary", "predictions.dense",
               "predictions.LayerNorm", bias_name="predictions.bias", tied=True, narrow=True,
               optional=True, copies=("predictions.decoder.bias",))
FAMILIES = (Family(
    ("albert",), "ALBERT", ("Albert",), _NAMES, _plan, ("albert.", ""), {
        **PLAIN,
        "SequenceClassification": Head(
            "sequence classification", "classifier", dense="albert.pooler", activation="tanh",
            pooling="first"),
        "MaskedLM": _MASKED, "PreTraining": _MASKED,
    }, unused=("pooler.", "sop_classifier.", "embeddings.position_ids")),)
