"""Gemma 1 to 3: Llama's layers with gains beside 1, norms of what is added, caps."""

from dataclasses import replace

from compiler.checkpoints.families.llama import HEAD_NORMS, HEADS, NAMES, plan, windows
from compiler.checkpoints.family import Family, Plan
from compiler.checkpoints.folder import activation
from compiler.checkpoints.rope import head_size, rotary
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES"]

_AROUND = {
    **NAMES, "attention_after": "layers.{}.post_attention_layernorm",
    "feed_forward_norm": "layers.{}.pre_feedforward_layernorm",
    "feed_forward_after": "layers.{}.post_feedforward_layernorm",
}


def _gemma(settings: Settings) -> Plan:
    settings.require("use_bidirectional_attention", [False], "false")
    # Files from before hidden_activation name another form than they mean.
    name = "hidden_activation" if settings.get("hidden_activation") is not None else "hidden_act"
    form = activation(settings, name, "gelu_pytorch_tanh")
    found = plan(settings, act=form)
    return replace(found, norm="rms + 1", factor=found.width ** 0.5,
                   tied=settings.flag("tie_word_embeddings", True))


def _capped(settings: Settings, name: str) -> float | None:
    return None if settings.get(name) is None else settings.positive(name)


def _gemma2(settings: Settings, every: int = 2) -> Plan:
    """Every second layer sees all positions, unless the settings say which ones do."""
    found = _gemma(settings)
    own = windows(settings, found.layers)
    if own and settings.get("layer_types") is None:
        own = tuple(window if (index + 1) % every else None for index, window in enumerate(own))
    size = settings.positive("query_pre_attn_scalar", 256)
    return replace(found, windows=own, scale=size ** -0.5,
                   cap=_capped(settings, "attn_logit_softcapping"),
                   logit_cap=_capped(settings, "final_logit_softcapping"))


def _gemma3(settings: Settings) -> Plan:
    """Layers that see a window have a rotary embedding of their own."""
    every = settings.count("sliding_window_pattern",
                           settings.count("_sliding_window_pattern", 6))
    found = _gemma2(settings, every)
    size = head_size(settings, found.width, found.heads)
    whole = rotary(settings, size, kind="full_attention", base=1_000_000.0).rotary
    if settings.get("rope_local_base_freq") is not None:
        local = rotary(Settings({"rope_theta": settings.positive("rope_local_base_freq")},
                                settings.where), size).rotary
    else:
        local = rotary(settings, size, kind="sliding_attention").rotary
    return replace(found, rotary=tuple(whole if window is None else local for window in
                                       found.windows or (None,) * found.layers))


FAMILIES = (
    Family(("gemma",), "Gemma", ("Gemma",), NAMES, _gemma, ("model.", ""), HEADS, "CausalLM"),
    Family(("gemma2",), "Gemma 2", ("Gemma2",), _AROUND, _gemma2, ("model.", ""), HEADS,
           "CausalLM"),
    Family(("gemma3_text",), "Gemma 3", ("Gemma3", "Gemma3Text"), {**_AROUND, **HEAD_NORMS},
           _gemma3, ("model.", ""), HEADS, "CausalLM"),
)
