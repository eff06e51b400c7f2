"""Llama and decoders with its layers: Mistral, Qwen2, Qwen3, SmolLM3."""

from collections.abc import Callable
from dataclasses import replace

from compiler.checkpoints.description import Activation
from compiler.checkpoints.family import ATTENTION, MLP, Family, Head, Names, Plan
from compiler.checkpoints.folder import activation
from compiler.checkpoints.rope import head_size, rotary
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES", "HEADS", "HEAD_NORMS", "NAMES", "plan", "windows", "windows_of"]

NAMES = {
    "table": "embed_tokens", "final_norm": "norm",
    "query": "layers.{}.self_attn.q_proj", "key": "layers.{}.self_attn.k_proj",
    "value": "layers.{}.self_attn.v_proj", "output": "layers.{}.self_attn.o_proj",
    "gate": "layers.{}.mlp.gate_proj", "up": "layers.{}.mlp.up_proj",
    "down": "layers.{}.mlp.down_proj", "attention_norm": "layers.{}.input_layernorm",
    "feed_forward_norm": "layers.{}.post_attention_layernorm",
}
HEAD_NORMS = {"query_norm": "layers.{}.self_attn.q_norm", "key_norm": "layers.{}.self_attn.k_norm"}
HEADS = {
    "CausalLM": Head("causal language model", "lm_head", "vocabulary", bias=False, tied=True),
    "SequenceClassification": Head("sequence classification", "score", bias=False, pooling="last"),
    "TokenClassification": Head("token classification", "score"),
    "QuestionAnswering": Head("question answering", "qa_outputs", 2),
}
# Frequencies that older files carry; they follow from the base.
_UNUSED = tuple(f"layers.{index}.self_attn.rotary_emb.inv_freq" for index in range(512))


def windows(settings: Settings, layers: int, used: bool = True) -> tuple[int | None, ...]:
    """The sliding window of each layer, by ``layer_types`` where they are named."""
    if settings.get("sliding_window") is None or not used:
        return ()
    window = settings.count("sliding_window")
    return windows_of(settings, layers, window, (window,) * layers)


def windows_of(settings: Settings, layers: int, window: int, plain: tuple[int | None, ...]
               ) -> tuple[int | None, ...]:
    """``window`` where ``layer_types`` says so; ``plain`` where there is no such setting."""
    kinds = settings.get("layer_types")
    if kinds is None:
        return plain
    known = ("sliding_attention", "full_attention")
    if not isinstance(kinds, list) or len(kinds) != layers or not {*map(str, kinds)} <= {*known}:
        raise settings.refuse("layer_types", f"{layers} of {', '.join(known)}")
    return tuple(window if kind == known[0] else None for kind in kinds)


def plan(settings: Settings, act: Activation | None = None) -> Plan:
    """``act``: the activation, where a setting of another name says it."""
    settings.require("rope_interleaved", [False], "false, as Hugging Face stores q and k")
    settings.require("pretraining_tp", [1], "1: tensors are whole")
    width, heads = settings.count("hidden_size"), settings.count("num_attention_heads")
    kv_heads = settings.count("num_key_value_heads", heads)
    if heads % kv_heads:
        raise settings.refuse("num_key_value_heads",
                              f"a divisor of num_attention_heads = {heads}")
    size, layers = head_size(settings, width, heads), settings.count("num_hidden_layers")
    rope = rotary(settings, size)
    biased = ATTENTION if settings.flag("attention_bias", False) else frozenset()
    return Plan(
        layers, width, heads, settings.count("intermediate_size"),
        settings.positive("rms_norm_eps", 1e-6), act or activation(settings), "rms", kv_heads, size,
        pre_norm=True, causal=True, biased=biased | (
            MLP if settings.flag("mlp_bias", False) else frozenset()),
        rotary=(rope.rotary,) * layers, rotated=rope.items, longest=rope.longest,
        vocabulary=settings.count("vocab_size"), tied=settings.flag("tie_word_embeddings", False))


def _mistral(settings: Settings) -> Plan:
    found = plan(settings)
    return replace(found, windows=windows(settings, found.layers))


def _qwen2(settings: Settings) -> Plan:
    found = plan(settings)
    used = settings.flag("use_sliding_window", False)
    own = windows(settings, found.layers, used)
    if own and settings.get("layer_types") is None:
        full = settings.whole("max_window_layers", 28)
        own = tuple(None if index < full else window for index, window in enumerate(own))
    return replace(found, windows=own, biased=frozenset(("query", "key", "value")))


def _qwen3(settings: Settings) -> Plan:
    return replace(_qwen2(settings), biased=plan(settings).biased)


def _smollm3(settings: Settings) -> Plan:
    """Every fourth layer knows no positions, unless the settings say which ones do."""
    found = plan(settings)
    own = settings.get("no_rope_layers")
    if own is None:
        every = settings.count("no_rope_layer_interval", 4)
        own = [int((index + 1) % every != 0) for index in range(found.layers)]
    if not isinstance(own, list) or len(own) != found.layers or not {*map(str, own)} <= {"0", "1"}:
        raise settings.refuse("no_rope_layers", f"{found.layers} of 0 and 1")
    used = settings.flag("use_sliding_window", False)
    return replace(found, windows=windows(settings, found.layers, used), rotary=tuple(
        rotary if on else None for rotary, on in zip(found.rotary, own, strict=True)))


def _family(kind: str, title: str, start: str, own: Callable[[Settings], Plan] = plan,
            names: Names = NAMES) -> Family:
    return Family((kind,), title, (start,), names, own, ("model.", ""), HEADS, "CausalLM", _UNUSED)


FAMILIES = (
    _family("llama", "Llama", "Llama"),
    _family("mistral", "Mistral", "Mistral", _mistral),
    _family("qwen2", "Qwen2", "Qwen2", _qwen2),
    _family("qwen3", "Qwen3", "Qwen3", _qwen3, {**NAMES, **HEAD_NORMS}),
    _family("smollm3", "SmolLM3", "SmolLM3", _smollm3),
)
