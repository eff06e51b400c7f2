"""Models of an encoder and a decoder: Whisper, T5, BART, Marian."""

from collections.abc import Mapping
from dataclasses import replace

from compiler.checkpoints.family import ACROSS, LINEARS, Family, Head, Plan
from compiler.checkpoints.folder import activation
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES"]


def _side(settings: Settings, side: str) -> Plan:
    """Encoder or decoder of BART's kind."""
    width, heads = settings.divided("d_model", f"{side}_attention_heads")
    limit = settings.count("max_position_embeddings", 1024)
    return Plan(
        settings.count(f"{side}_layers"), width, heads, settings.count(f"{side}_ffn_dim"), 1e-5,
        activation(settings, "activation_function"), causal=side == "decoder",
        biased=LINEARS | ACROSS, vocabulary=settings.count("vocab_size"), positions=limit + 2,
        offset=2, factor=width ** 0.5 if settings.flag("scale_embedding", False) else 1.0,
        tied=settings.flag("tie_word_embeddings", True))


def _bart(settings: Settings) -> Plan:
    return replace(_side(settings, "decoder"), encoder=_side(settings, "encoder"))


def _marian(settings: Settings) -> Plan:
    settings.require("share_encoder_decoder_embeddings", [True], "true")
    settings.require("decoder_vocab_size", [settings.get("vocab_size")], "as vocab_size")
    settings.require("normalize_before", [False], "false")
    found = _bart(settings)

    def plain(plan: Plan) -> Plan:
        return replace(plan, sinusoids=True, offset=0, positions=plan.positions - 2)

    assert found.encoder is not None
    return replace(plain(found), encoder=plain(found.encoder))


def _whisper(settings: Settings) -> Plan:
    without = frozenset(("key", "across_key"))

    def own(side: str, limit: str) -> Plan:
        return replace(_side(settings, side), pre_norm=True, biased=(LINEARS | ACROSS) - without,
                       positions=settings.count(limit), offset=0)

    encoder = replace(own("encoder", "max_source_positions"),
                      bands=settings.count("num_mel_bins", 80))
    return replace(own("decoder", "max_target_positions"), encoder=encoder)


def _t5(settings: Settings) -> Plan:
    kind = _gate(settings)
    form = "gelu_new" if kind == "gated-gelu" else kind.removeprefix("gated-")
    named = Settings({"feed_forward_proj": form}, settings.where)
    buckets = (settings.count("relative_attention_num_buckets", 32),
               settings.count("relative_attention_max_distance", 128))
    layers, tied = settings.count("num_layers"), settings.flag("tie_word_embeddings", True)
    width = settings.count("d_model")
    encoder = Plan(
        layers, width, settings.count("num_heads"), settings.count("d_ff"),
        settings.positive("layer_norm_epsilon", 1e-6), activation(named, "feed_forward_proj"),
        "rms", head_size=settings.count("d_kv"), pre_norm=True, biased=frozenset(), scale=1.0,
        vocabulary=settings.count("vocab_size"), tied=tied, buckets=buckets)
    scaled = settings.flag("scale_decoder_outputs", tied)
    return replace(encoder, layers=settings.count("num_decoder_layers", layers), causal=True,
                   encoder=encoder, logit_factor=width ** -0.5 if scaled else 1.0)


def _gate(settings: Settings) -> str:
    kind = settings.get("feed_forward_proj") or "relu"
    if not isinstance(kind, str):
        raise settings.refuse("feed_forward_proj", "the name of an activation")
    return kind


def _t5_names(side: str, across: bool) -> Mapping[str, str]:
    layer, feed = f"{side}.block.{{}}.layer", 2 if across else 1
    found = {
        "table": "shared", "final_norm": f"{side}.final_layer_norm",
        "position_bias": f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias",
        **{part: f"{layer}.0.SelfAttention.{part[0]}"
           for part in ("query", "key", "value", "output")},
        "attention_norm": f"{layer}.0.layer_norm", "up": f"{layer}.{feed}.DenseReluDense.wi",
        "down": f"{layer}.{feed}.DenseReluDense.wo",
        "feed_forward_norm": f"{layer}.{feed}.layer_norm"}
    if across:
        found |= {f"across_{part}": f"{layer}.1.EncDecAttention.{part[0]}"
                  for part in ("query", "key", "value", "output")}
        found["across_norm"] = f"{layer}.1.layer_norm"
    return found


def _with_gate(names: Mapping[str, str], settings: Settings) -> Mapping[str, str]:
    if not _gate(settings).startswith("gated-"):
        return names
    return {**names, "gate": f"{names['up']}_0", "up": f"{names['up']}_1"}


def _names(side: str, norm: str, table: str) -> dict[str, str]:
    """Of BART's kind."""
    layer = f"{side}.layers.{{}}"
    found = {
        "table": table, "positions": f"{side}.embed_positions",
        "output": f"{layer}.self_attn.out_proj", "up": f"{layer}.fc1", "down": f"{layer}.fc2",
        "attention_norm": f"{layer}.self_attn_layer_norm",
        "feed_forward_norm": f"{layer}.final_layer_norm",
        **{part: f"{layer}.self_attn.{part[0]}_proj" for part in ("query", "key", "value")}}
    if norm:
        found[norm.split("=")[0]] = f"{side}.{norm.split('=')[1]}"
    if side == "decoder":
        found |= {f"across_{part}": f"{layer}.encoder_attn.{part[0]}_proj"
                  for part in ("query", "key", "value")}
        found |= {"across_output": f"{layer}.encoder_attn.out_proj",
                  "across_norm": f"{layer}.encoder_attn_layer_norm"}
    return found


_HEAD = Head("conditional language model", "lm_head", "vocabulary", bias=False, tied=True)
_BIASED = replace(_HEAD, bias=True, bias_name="final_logits_bias", bias_row=True)
_COPIES = ("encoder.embed_tokens.", "decoder.embed_tokens.")
_SOUND = {**_names("encoder", "final_norm=layer_norm", "embed_tokens"),
          "first": "encoder.conv1", "second": "encoder.conv2"}
_NORM = "embedding_norm=layernorm_embedding"

FAMILIES = (
    Family(("whisper",), "Whisper", ("Whisper",),
           _names("decoder", "final_norm=layer_norm", "decoder.embed_tokens"), _whisper,
           ("model.", ""), {"ConditionalGeneration": replace(_HEAD, last="proj_out")},
           "ConditionalGeneration", encoder_names=_SOUND),
    Family(("t5",), "T5", ("T5",),
           lambda settings: _with_gate(_t5_names("decoder", True), settings), _t5, ("",),
           {"ConditionalGeneration": _HEAD}, "ConditionalGeneration", _COPIES,
           encoder_names=lambda settings: _with_gate(_t5_names("encoder", False), settings)),
    Family(("bart",), "BART", ("Bart",), _names("decoder", _NORM, "shared"), _bart,
           ("model.", ""), {"ConditionalGeneration": _BIASED}, "ConditionalGeneration", _COPIES,
           encoder_names=_names("encoder", _NORM, "shared")),
    Family(("marian",), "Marian", ("Marian",), _names("decoder", "", "shared"), _marian,
           ("model.", ""), {"MarianMTModel": _BIASED}, "MarianMTModel",
           (*_COPIES, "encoder.embed_positions.", "decoder.embed_positions."),
           encoder_names=_names("encoder", "", "shared")),
)
