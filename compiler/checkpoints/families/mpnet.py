"""MPNet: BERT's layers with a bias of scores for how far apart positions are."""

from dataclasses import replace

from compiler.checkpoints.families.bert import NAMES as _BERT
from compiler.checkpoints.families.bert import ROBERTA_HEADS, plan
from compiler.checkpoints.family import Family, Plan
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES"]

_LAYER = "encoder.layer.{}"
_NAMES = {
    **{part: _BERT[part] for part in ("table", "positions", "embedding_norm", "up", "down",
                                      "feed_forward_norm")},
    **{part: f"{_LAYER}.attention.attn.{part[0]}" for part in ("query", "key", "value", "output")},
    "attention_norm": f"{_LAYER}.attention.LayerNorm",
    "position_bias": "encoder.relative_attention_bias",
}


def _plan(settings: Settings) -> Plan:
    buckets = settings.count("relative_attention_num_buckets", 32)
    return replace(plan(settings, padded=True), segments=0, buckets=(buckets, 128))


FAMILIES = (Family(
    ("mpnet",), "MPNet", ("MPNet",), _NAMES, _plan, ("mpnet.", ""), ROBERTA_HEADS,
    unused=("pooler.", "embeddings.position_ids")),)
