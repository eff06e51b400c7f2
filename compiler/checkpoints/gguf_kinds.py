"""Architectures of GGUF files, as llama.cpp names them and their tensors: ``KINDS``."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from compiler.checkpoints.description import Activation, Pooling, Rotary
from compiler.checkpoints.falling import LONGEST, FallingParts
from compiler.checkpoints.family import Head, Names, NormKind, Packed, Plan
from compiler.checkpoints.parts import Parts
from compiler.checkpoints.settings import Settings

__all__ = ["KINDS", "QKV", "Kind"]


def _without(names: Names, *parts: str) -> Names:
    return {part: name for part, name in names.items() if part not in parts}


_NAMES: Names = {
    "table": "token_embd", "final_norm": "output_norm", "head": "output",
    "query": "blk.{}.attn_q", "key": "blk.{}.attn_k", "value": "blk.{}.attn_v",
    "output": "blk.{}.attn_output", "gate": "blk.{}.ffn_gate", "up": "blk.{}.ffn_up",
    "down": "blk.{}.ffn_down", "attention_norm": "blk.{}.attn_norm",
    "feed_forward_norm": "blk.{}.ffn_norm",
}
_HEAD_NORMS = {"query_norm": "blk.{}.attn_q_norm", "key_norm": "blk.{}.attn_k_norm"}
_AROUND = {**_NAMES, "attention_after": "blk.{}.post_attention_norm",
           "feed_forward_after": "blk.{}.post_ffw_norm"}
_UNGATED = _without(_NAMES, "gate")
_PROJECTIONS = ("query", "key", "value")
QKV: Names = dict.fromkeys(_PROJECTIONS, Packed("blk.{}.attn_qkv", _PROJECTIONS))
"""All of them in one tensor."""
_PACKED: Names = {**_NAMES, **QKV,
                  **dict.fromkeys(("gate", "up"), Packed("blk.{}.ffn_up", ("gate", "up")))}
_AFTER = _without({**_AROUND, **_HEAD_NORMS}, "attention_norm", "feed_forward_norm")
_GPT: Names = {**_UNGATED, **QKV, "positions": "position_embd"}
_BLOOM: Names = {**_UNGATED, **QKV, "embedding_norm": "token_embd_norm"}
_BERT: Names = {
    **_without(_UNGATED, "head", "final_norm"), "positions": "position_embd",
    "segments": "token_types", "embedding_norm": "token_embd_norm",
    "attention_norm": "blk.{}.attn_output_norm", "feed_forward_norm": "blk.{}.layer_output_norm"}
_NOMIC: Names = {**_without(_BERT, "positions"), **QKV, "gate": "blk.{}.ffn_gate"}
_MODERN: Names = {**_without(_PACKED, "head"), "embedding_norm": "token_embd_norm"}
_LARGEST = (46, 62)  # layers of Gemma 2 27B and Gemma 3 27B, whose scores have another scale


def _as_it_is(settings: Settings, plan: Plan) -> Plan:
    return plan


def _smollm3(settings: Settings, plan: Plan) -> Plan:
    """Every fourth layer knows no positions."""
    return replace(plan, rotary=tuple(None if (index + 1) % 4 == 0 else own
                                      for index, own in enumerate(plan.rotary)))


def _gemma(settings: Settings, plan: Plan) -> Plan:
    """Gains are stored with the 1 that they stand beside."""
    return replace(plan, activation="gelu_tanh", factor=plan.width ** 0.5)


def _windowed(settings: Settings, plan: Plan, every: int) -> Plan:
    """All but every so many layers see a window; scores are scaled by a head's size."""
    found, window = _gemma(settings, plan), settings.count("attention.sliding_window")
    size = plan.width // plan.heads if plan.layers in _LARGEST else plan.head_size
    return replace(found, scale=size ** -0.5, windows=tuple(
        window if (index + 1) % every else None for index in range(plan.layers)))


def _gemma2(settings: Settings, plan: Plan) -> Plan:
    return replace(_windowed(settings, plan, 2),
                   cap=settings.positive("attn_logit_softcapping", 50.0),
                   logit_cap=settings.positive("final_logit_softcapping", 30.0))


def _gemma3(settings: Settings, plan: Plan) -> Plan:
    """Layers that see a window have the plain rotary embedding."""
    found, local = _windowed(settings, plan, 6), Rotary(10000.0, False)
    return replace(found, rotary=tuple(own if window is None else local for own, window
                                       in zip(plan.rotary, found.windows, strict=True)))


def _stablelm(settings: Settings, plan: Plan) -> Plan:
    settings.require("use_parallel_residual", [False], "false")
    return plan


def _phi3(settings: Settings, plan: Plan) -> Plan:
    if settings.get("attention.sliding_window") in (None, 0):
        return plan
    return replace(plan, windows=(settings.count("attention.sliding_window"),) * plan.layers)


def _granite(settings: Settings, plan: Plan) -> Plan:
    return replace(plan, factor=settings.positive("embedding_scale", 1.0),
                   scale=settings.positive("attention.scale", plan.size ** -0.5),
                   residual_factor=settings.positive("residual_scale", 1.0),
                   logit_factor=1 / settings.positive("logit_scale", 1.0))


def _cohere(settings: Settings, plan: Plan) -> Plan:
    return replace(plan, parallel=True, logit_factor=settings.positive("logit_scale"))


def _neox(settings: Settings, plan: Plan) -> Plan:
    return replace(plan, parallel=settings.flag("use_parallel_residual", True))


def _phi2(settings: Settings, plan: Plan) -> Plan:
    return replace(plan, parallel=True)


def _olmo2(settings: Settings, plan: Plan) -> Plan:
    settings.require("attention.sliding_window", [0], "0: windows are those of OLMo 3")
    return plan


def _gpt2(settings: Settings, plan: Plan) -> Plan:
    return replace(plan, rotary=())


def _bloom(settings: Settings, plan: Plan) -> Plan:
    return replace(plan, rotary=(), longest=LONGEST)


def _encoder(settings: Settings, plan: Plan) -> Plan:
    settings.require("attention.causal", [False], "false")
    return replace(plan, causal=False)


def _nomic(settings: Settings, plan: Plan) -> Plan:
    return replace(_encoder(settings, plan), pre_norm=False)


def _bert(settings: Settings, plan: Plan) -> Plan:
    return replace(_nomic(settings, plan), rotary=())


def _modern(settings: Settings, plan: Plan) -> Plan:
    """The first of every so many layers sees everything, the others half a window on either side,
    by a rotary embedding of their own."""
    found = replace(_encoder(settings, plan), absent=frozenset(("blk.0.attn_norm",)))
    if settings.get("attention.sliding_window") in (None, 0):
        return found
    window = settings.count("attention.sliding_window") // 2 + 1
    every = settings.count("attention.sliding_window_pattern", 3)
    local = Rotary(settings.positive("rope.freq_base_swa", 10000.0), False)
    windows = tuple(window if index % every else None for index in range(plan.layers))
    return replace(found, windows=windows, rotary=tuple(
        whole if own is None else local
        for own, whole in zip(windows, plan.rotary, strict=True)))


# ``gguf.PoolingType``, without that of ranks.
_POOLINGS: dict[int, Pooling] = {0: "none", 1: "mean", 2: "first", 3: "last"}


def _pooled(settings: Settings) -> Head | None:
    settings.require("pooling_type", [*_POOLINGS], "0 (none), 1 (mean), 2 (first) or 3 (last)")
    found = _POOLINGS[settings.whole("pooling_type", 0)]
    return None if found == "none" else Head("embedding", None, 0, pooling=found)


_HEAD = Head("causal language model", "output", "vocabulary", bias=False, tied=True)


def _words(settings: Settings) -> Head:
    return _HEAD


def _biased_words(settings: Settings) -> Head:
    return replace(_HEAD, bias=True)


@dataclass(frozen=True)
class Kind:
    """An architecture: its title, whether rotary pairs are neighbours, its names, and what its plan
    has besides; ``base`` of rotary embeddings where files do not say it. ``partly``: a part of a
    head may be rotated alone. ``head``: what follows the last layer; ``parts``: as of a ``Family``.
    """

    title: str
    interleaved: bool = False
    names: Names = field(default_factory=lambda: _NAMES)
    besides: Callable[[Settings, Plan], Plan] = _as_it_is
    base: float = 10000.0
    norm: NormKind = "rms"
    activation: Activation = "silu"
    partly: bool = False
    head: Callable[[Settings], Head | None] = _words
    parts: type[Parts] = Parts


KINDS = {
    "llama": Kind("Llama", True), "qwen2": Kind("Qwen2"),
    "qwen3": Kind("Qwen3", names={**_NAMES, **_HEAD_NORMS}),
    "smollm3": Kind("SmolLM3", True, besides=_smollm3),
    "arcee": Kind("Arcee", True, _UNGATED, activation="relu_squared"),
    "nemotron": Kind("Nemotron", names=_UNGATED, norm="layer", activation="relu_squared",
                      partly=True),
    "stablelm": Kind("StableLM", besides=_stablelm, norm="layer", partly=True),
    "starcoder2": Kind("StarCoder2", names=_UNGATED, norm="layer", activation="gelu_tanh"),
    "phi3": Kind("Phi-3", names=_PACKED, besides=_phi3), "gemma": Kind("Gemma", besides=_gemma),
    "gemma2": Kind("Gemma 2", names=_AROUND, besides=_gemma2),
    "gemma3": Kind("Gemma 3", names={**_AROUND, **_HEAD_NORMS}, besides=_gemma3, base=1e6),
    "gpt2": Kind("GPT-2", names=_GPT, besides=_gpt2, norm="layer", activation="gelu_tanh"),
    "gptneox": Kind("GPT-NeoX", names={**_UNGATED, **QKV}, besides=_neox, norm="layer",
                    activation="gelu", partly=True),
    "bloom": Kind("BLOOM", names=_BLOOM, besides=_bloom, norm="layer", activation="gelu_tanh",
                  parts=FallingParts),
    "phi2": Kind("Phi-2", names=_without(_UNGATED, "feed_forward_norm"), besides=_phi2,
                 norm="layer", activation="gelu_tanh", partly=True, head=_biased_words),
    "olmo2": Kind("OLMo 2", names=_AFTER, besides=_olmo2),
    "granite": Kind("Granite", True, besides=_granite),
    "command-r": Kind("Cohere", True, _without(_NAMES, "feed_forward_norm"), _cohere,
                      norm="layer without shift"),
    "bert": Kind("BERT", names=_BERT, besides=_bert, norm="layer", activation="gelu",
                 head=_pooled),
    "nomic-bert": Kind("Nomic BERT", names=_NOMIC, besides=_nomic, base=1000.0, norm="layer",
                       head=_pooled),
    "modern-bert": Kind("ModernBERT", names=_MODERN, besides=_modern, base=160_000.0,
                        norm="layer without shift", activation="gelu", head=_pooled)}
