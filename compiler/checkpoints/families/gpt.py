"""GPT-2, OPT, GPT-J and GPT-NeoX (Pythia): decoders with LayerNorm and without a gate."""

from dataclasses import replace

from compiler.checkpoints.family import LINEARS, MLP, Family, Head, Packed, Plan
from compiler.checkpoints.folder import activation
from compiler.checkpoints.rope import head_size, rotary
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES"]

_SEQUENCE = Head("sequence classification", "score", bias=False, pooling="last")
_TOKEN = Head("token classification", "classifier")
_SPANS = Head("question answering", "qa_outputs", 2)
_LM = Head("causal language model", "lm_head", "vocabulary", bias=False, tied=True)
_PROJECTIONS = ("query", "key", "value")
# Masks and frequencies that older files carry.
_BUFFERS = tuple(f"{layer}.{index}.{name}" for index in range(512) for layer, name in (
    ("h", "attn.bias"), ("h", "attn.masked_bias"), ("layers", "attention.bias"),
    ("layers", "attention.masked_bias"), ("layers", "attention.rotary_emb.inv_freq")))


def _gpt2(settings: Settings) -> Plan:
    settings.require("scale_attn_by_inverse_layer_idx", [False], "false")
    settings.require("scale_attn_weights", [True], "true")
    settings.require("add_cross_attention", [False], "false: only decoders alone are supported")
    width, heads = settings.divided("n_embd", "n_head")
    return Plan(
        settings.count("n_layer"), width, heads, settings.count("n_inner", 4 * width),
        settings.positive("layer_norm_epsilon", 1e-5), activation(settings, "activation_function"),
        pre_norm=True, causal=True, vocabulary=settings.count("vocab_size"),
        positions=settings.count("n_positions"), transposed=True,
        tied=settings.flag("tie_word_embeddings", True))


def _gptj(settings: Settings) -> Plan:
    found = replace(_gpt2(settings), positions=0, parallel=True, transposed=False, biased=MLP,
                    tied=settings.flag("tie_word_embeddings", False))
    size = head_size(settings, found.width, found.heads)
    items = settings.count("rotary_dim", size)
    rope = rotary(settings, size, share=items / size, interleaved=True)
    return replace(found, rotary=(rope.rotary,) * found.layers, rotated=rope.items)


def _opt(settings: Settings) -> Plan:
    settings.require("layer_norm_elementwise_affine", [True], "true")
    width, heads = settings.divided("hidden_size", "num_attention_heads")
    before = settings.flag("do_layer_norm_before", True)
    ends = before and not settings.flag("_remove_final_layer_norm", False)
    return Plan(
        settings.count("num_hidden_layers"), width, heads, settings.count("ffn_dim"), 1e-5,
        activation(settings, "activation_function"), pre_norm=before, causal=True,
        biased=LINEARS if settings.flag("enable_bias", True) else frozenset(),
        absent=frozenset(() if ends else ("final_layer_norm",)),
        vocabulary=settings.count("vocab_size"), offset=2,
        positions=settings.count("max_position_embeddings") + 2,
        table_width=settings.count("word_embed_proj_dim", width),
        tied=settings.flag("tie_word_embeddings", True))


def _neox(settings: Settings) -> Plan:
    width, heads = settings.count("hidden_size"), settings.count("num_attention_heads")
    size = head_size(settings, width, heads)
    rope = rotary(settings, size, share=settings.positive("rotary_pct", 0.25),
                  base=settings.positive("rotary_emb_base", 10000.0))
    layers = settings.count("num_hidden_layers")
    return Plan(
        layers, width, heads, settings.count("intermediate_size"),
        settings.positive("layer_norm_eps", 1e-5), activation(settings), pre_norm=True,
        causal=True, parallel=settings.flag("use_parallel_residual", True),
        biased=LINEARS if settings.flag("attention_bias", True) else MLP,
        rotary=(rope.rotary,) * layers, rotated=rope.items, longest=rope.longest,
        vocabulary=settings.count("vocab_size"), tied=settings.flag("tie_word_embeddings", False))


_GPT2 = Family(
    ("gpt2",), "GPT-2", ("GPT2",), {
        "table": "wte", "positions": "wpe", "final_norm": "ln_f",
        **dict.fromkeys(_PROJECTIONS, Packed("h.{}.attn.c_attn", _PROJECTIONS)),
        "output": "h.{}.attn.c_proj", "attention_norm": "h.{}.ln_1", "up": "h.{}.mlp.c_fc",
        "down": "h.{}.mlp.c_proj", "feed_forward_norm": "h.{}.ln_2",
    }, _gpt2, ("transformer.", ""), {
        "GPT2LMHeadModel": _LM, "SequenceClassification": _SEQUENCE, "TokenClassification": _TOKEN,
        "QuestionAnswering": _SPANS}, "GPT2LMHeadModel", _BUFFERS)

_GPTJ = Family(
    ("gptj",), "GPT-J", ("GPTJ",), {
        "table": "wte", "final_norm": "ln_f",
        **{part: f"h.{{}}.attn.{part[0]}_proj" for part in _PROJECTIONS},
        "output": "h.{}.attn.out_proj", "attention_norm": "h.{}.ln_1", "up": "h.{}.mlp.fc_in",
        "down": "h.{}.mlp.fc_out",
    }, _gptj, ("transformer.", ""), {
        "CausalLM": replace(_LM, bias=True), "SequenceClassification": _SEQUENCE,
        "QuestionAnswering": _SPANS}, "CausalLM", _BUFFERS)

_OPT = Family(
    ("opt",), "OPT", ("OPT",), {
        "table": "embed_tokens", "positions": "embed_positions", "final_norm": "final_layer_norm",
        "row_projection": "project_in",
        **{part: f"layers.{{}}.self_attn.{part[0]}_proj" for part in _PROJECTIONS},
        "output": "layers.{}.self_attn.out_proj", "up": "layers.{}.fc1", "down": "layers.{}.fc2",
        "attention_norm": "layers.{}.self_attn_layer_norm",
        "feed_forward_norm": "layers.{}.final_layer_norm",
    }, _opt, ("model.decoder.", "decoder."), {
        "CausalLM": replace(_LM, dense="model.decoder.project_out", dense_bias=False,
                            activation="none", narrow=True, dense_if_narrow=True)}, "CausalLM")

_NEOX = Family(
    ("gpt_neox",), "GPT-NeoX", ("GPTNeoX",), {
        "table": "embed_in", "final_norm": "final_layer_norm",
        **dict.fromkeys(_PROJECTIONS, Packed(
            "layers.{}.attention.query_key_value", _PROJECTIONS, by_head=True)),
        "output": "layers.{}.attention.dense", "up": "layers.{}.mlp.dense_h_to_4h",
        "down": "layers.{}.mlp.dense_4h_to_h", "attention_norm": "layers.{}.input_layernorm",
        "feed_forward_norm": "layers.{}.post_attention_layernorm",
    }, _neox, ("gpt_neox.", ""), {
        "CausalLM": replace(_LM, last="embed_out"), "SequenceClassification": _SEQUENCE,
        "TokenClassification": _TOKEN, "QuestionAnswering": _SPANS}, "CausalLM", _BUFFERS)

FAMILIES = (_GPT2, _GPTJ, _OPT, _NEOX)
