"""MPNet: BERT's layers with a bias of scores for how far apart positions are."""

from dataclasses import replace

from compiler.checkpoints.families.bert import NAMES as _BERT
from compiler.checkpoints.families.bert import plan
from compiler.checkpoints.family import Family, Head, Plan
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
    ("mpnet",), "MPNet", ("MPNet",), _NAMES, _plan, ("mpnet.", ""), {
        "QuestionAnswering": Head("question answering", "qa_outputs", 2),
        "TokenClassification": Head("token classification", "classifier"),
        "SequenceClassification": Head(
            "sequence classification", "classifier.out_proj", dense="classifier.dense",
            activation="tanh", pooling="first"),
        "MaskedLM": Head(
            "masked language model", "lm_head.decoder", "vocabulary", "lm_head.dense",
            "lm_head.layer_norm", "gelu", bias_name="lm_head.bias", tied=True, optional=True,
            copies=("lm_head.decoder.bias",)),
    }, unused=("pooler.", "embeddings.position_ids")),)
