"""DistilBERT: BERT's layers under other names, without segments."""

from compiler.checkpoints.families.bert import PLAIN
from compiler.checkpoints.family import Family, Head, Plan
from compiler.checkpoints.folder import activation
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES"]

_NAMES = {
    "table": "embeddings.word_embeddings", "positions": "embeddings.position_embeddings",
    "embedding_norm": "embeddings.LayerNorm",
    "query": "transformer.layer.{}.attention.q_lin", "key": "transformer.layer.{}.attention.k_lin",
    "value": "transformer.layer.{}.attention.v_lin",
    "output": "transformer.layer.{}.attention.out_lin",
    "attention_norm": "transformer.layer.{}.sa_layer_norm",
    "up": "transformer.layer.{}.ffn.lin1", "down": "transformer.layer.{}.ffn.lin2",
    "feed_forward_norm": "transformer.layer.{}.output_layer_norm",
}


def _plan(settings: Settings) -> Plan:
    width, heads = settings.divided("dim", "n_heads")
    return Plan(
        settings.count("n_layers"), width, heads, settings.count("hidden_dim"), 1e-12,
        activation(settings, "activation"), vocabulary=settings.count("vocab_size"),
        positions=settings.count("max_position_embeddings"),
        tied=settings.flag("tie_word_embeddings", True))


FAMILIES = (Family(
    ("distilbert",), "DistilBERT", ("DistilBert",), _NAMES, _plan, ("distilbert.", ""), {
        **PLAIN,
        "SequenceClassification": Head(
            "sequence classification", "classifier", dense="pre_classifier", activation="relu",
            pooling="first"),
        "MaskedLM": Head(
            "masked language model", "vocab_projector", "vocabulary", "vocab_transform",
            "vocab_layer_norm", tied=True, optional=True),
    }, unused=("embeddings.position_ids",)),)
