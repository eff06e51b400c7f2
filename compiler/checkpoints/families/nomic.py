"""Nomic BERT: BERT's layers with rotary embedding and gates in place of positions and of GELU."""

from dataclasses import replace

from compiler.checkpoints.families import bert
from compiler.checkpoints.family import Family, Head, Packed, Plan
from compiler.checkpoints.rope import head_size, rotary
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES"]

_PROJECTIONS = ("query", "key", "value")
_NAMES: dict[str, str | Packed] = {
    "table": "embeddings.word_embeddings", "segments": "embeddings.token_type_embeddings",
    "embedding_norm": "emb_ln",
    **dict.fromkeys(_PROJECTIONS, Packed("encoder.layers.{}.attn.Wqkv", _PROJECTIONS)),
    "output": "encoder.layers.{}.attn.out_proj", "attention_norm": "encoder.layers.{}.norm1",
    "up": "encoder.layers.{}.mlp.fc11", "gate": "encoder.layers.{}.mlp.fc12",
    "down": "encoder.layers.{}.mlp.fc2", "feed_forward_norm": "encoder.layers.{}.norm2"}


# What files call it that were written before transformers knew the family.
_OLDER = {"hidden_size": "n_embd", "num_hidden_layers": "n_layer", "num_attention_heads": "n_head",
          "intermediate_size": "n_inner", "max_position_embeddings": "n_positions",
          "layer_norm_eps": "layer_norm_epsilon", "rope_theta": "rotary_emb_base",
          "type_vocab_size": "type_vocab_size", "vocab_size": "vocab_size",
          "tie_word_embeddings": "tie_word_embeddings"}
_PLAIN = {"causal": False, "mlp_fc1_bias": False, "mlp_fc2_bias": False, "parallel_block": False,
          "prenorm": False, "qkv_proj_bias": False, "rotary_emb_fraction": 1.0,
          "rotary_emb_interleaved": False, "use_rms_norm": False}


def _renamed(settings: Settings) -> Settings:
    """In the names that BERT has for them."""
    if settings.get("n_embd") is None:
        return settings
    for name, value in _PLAIN.items():
        settings.require(name, [value], str(value).lower())
    settings.require("activation_function", ["swiglu"], "swiglu")
    if settings.get("rotary_scaling_factor") is not None:
        raise settings.refuse("rotary_scaling_factor", "null: rates that follow the length are not "
                              "supported")
    return Settings({new: settings.get(old) for new, old in _OLDER.items()} | {
        "hidden_act": "silu"}, settings.where)


def _plan(settings: Settings) -> Plan:
    settings = _renamed(settings)
    plan = bert.plan(settings)
    own = rotary(settings, head_size(settings, plan.width, plan.heads), base=1000.0)
    return replace(plan, positions=0, longest=settings.count("max_position_embeddings", 2048),
                   rotary=(own.rotary,) * plan.layers, biased=frozenset())


FAMILIES = (Family(
    ("nomic_bert",), "Nomic BERT", ("NomicBert",), _NAMES, _plan, ("nomic_bert.", "bert.", ""), {
        "TokenClassification": bert.PLAIN["TokenClassification"],
        "SequenceClassification": Head(
            "sequence classification", "classifier", dense="nomic_bert.pooler.dense",
            activation="tanh", pooling="first"),
        "MaskedLM": Head(
            "masked language model", "cls.predictions.decoder", "vocabulary",
            "cls.predictions.transform.dense", "cls.predictions.transform.layer_norm",
            bias_name="cls.predictions.bias", tied=True, optional=True,
            copies=("cls.predictions.decoder.bias",))}, unused=("pooler.",)),)
