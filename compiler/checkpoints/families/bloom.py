"""BLOOM: a decoder without positions, whose scores fall with distance (ALiBi)."""

import numpy as np

from compiler.checkpoints.checkpoint import Take
from compiler.checkpoints.description import PositionBias
from compiler.checkpoints.family import Family, Head, Packed, Plan
from compiler.checkpoints.parts import Parts
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
# Scores of any distance could be told: this is as far as a table of them goes.
_LONGEST = 2048


def _plan(settings: Settings) -> Plan:
    settings.require("apply_residual_connection_post_layernorm", [False], "false")
    settings.require("slow_but_exact", [False], "false")
    width, heads = settings.divided("hidden_size", "n_head")
    return Plan(
        settings.count("n_layer"), width, heads, 4 * width,
        settings.positive("layer_norm_epsilon", 1e-5), "gelu_tanh", pre_norm=True, causal=True,
        vocabulary=settings.count("vocab_size"), longest=_LONGEST,
        tied=settings.flag("tie_word_embeddings", True))


def _slopes(heads: int) -> np.ndarray:
    """Powers of two for the most heads that are a power of two; others stand halfway."""
    most = 1 << (heads.bit_length() - 1)
    own = 2.0 ** (-8.0 / most * np.arange(1, most + 1))
    between = 2.0 ** (-4.0 / most * np.arange(1, 2 * (heads - most), 2))
    return np.concatenate([own, between])


class _Parts(Parts):
    """A bias that no tensor holds."""

    def position_bias(self, take: Take) -> PositionBias | None:
        if self._bias is None:
            distance = np.arange(-_LONGEST, _LONGEST + 1)
            own = _slopes(self.plan.heads)[:, None] * distance
            self._bias = PositionBias(own.astype(np.float32))
        return self._bias


FAMILIES = (Family(
    ("bloom",), "BLOOM", ("Bloom",), _NAMES, _plan, ("transformer.", ""), {
        "CausalLM": Head("causal language model", "lm_head", "vocabulary", bias=False, tied=True),
        "SequenceClassification": Head("sequence classification", "score", bias=False,
                                       pooling="last"),
        "TokenClassification": Head("token classification", "classifier"),
        "QuestionAnswering": Head("question answering", "qa_outputs", 2),
    }, "CausalLM", parts=_Parts),)
