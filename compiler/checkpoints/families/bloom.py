"""BLOOM: a decoder without positions, whose scores fall with distance (ALiBi)."""

from compiler.checkpoints.falling import LONGEST, FallingParts
from compiler.checkpoints.family import Family, Head, Packed, Plan
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES"]

_PROJECTIONS = ("query", "key", "value")
_NAMES: dict[str, str | Packed] = {
    "table": "word_embeddings", "embedding_norm": "word_embeddings_layernorm",
    "final_norm": "ln_f",
    **dict.fromkeys(_PROJECTIONS, Packed(
        "h.{}.self_attention.query_key_value", _PROJECTIONS, by_head=True)),
    "output": "h.{}.self_attention.dense", "attention_norm": "h.{}.input_layernorm",
    "up": "h.{}.mlp.dense_h_to_4h", "down": "h.{}.mlp.dense_4h_to_h",
    "feed_forward_norm": "h.{}.post_attention_layernorm"}

def _plan(settings: Settings) -> Plan:
    settings.require("apply_residual_connection_post_layernorm", [False], "false")
    settings.require("slow_but_exact", [False], "false")
    width, heads = settings.divided("hidden_size", "n_head")
    return Plan(
        settings.count("n_layer"), width, heads, 4 * width,
        settings.positive("layer_norm_epsilon", 1e-5), "gelu_tanh", pre_norm=True, causal=True,
        vocabulary=settings.count("vocab_size"), longest=LONGEST,
        tied=settings.flag("tie_word_embeddings", True))


FAMILIES = (Family(
    ("bloom",), "BLOOM", ("Bloom",), _NAMES, _plan, ("transformer.", ""), {
        "CausalLM": Head("causal language model", "lm_head", "vocabulary", bias=False, tied=True),
        "SequenceClassification": Head("sequence classification", "score", bias=False,
                                       pooling="last"),
        "TokenClassification": Head("token classification", "classifier"),
        "QuestionAnswering": Head("question answering", "qa_outputs", 2),
    }, "CausalLM", parts=FallingParts),)
