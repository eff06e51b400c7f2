"""Further decoders of Llama's kind: Phi, Phi-3, StableLM, StarCoder2, Granite, OLMo 2, Cohere."""

from dataclasses import replace

from compiler.checkpoints.families.llama import HEAD_NORMS, HEADS, NAMES, plan, windows
from compiler.checkpoints.family import LINEARS, MLP, Family, Head, Packed, Plan
from compiler.checkpoints.rope import head_size, rotary
from compiler.checkpoints.settings import Settings

__all__ = ["FAMILIES"]

_PROJECTIONS = ("query", "key", "value")
_QKV = frozenset(_PROJECTIONS)


def _partly(settings: Settings, found: Plan, share: float) -> Plan:
    """With a share of each head rotated where the settings do not say how much."""
    size = head_size(settings, found.width, found.heads)
    rope = rotary(settings, size, share=share)
    return replace(found, rotary=(rope.rotary,) * found.layers, rotated=rope.items,
                   longest=rope.longest)


def _layer_norm(settings: Settings, found: Plan, name: str = "layer_norm_eps") -> Plan:
    return replace(found, norm="layer", eps=settings.positive(name, 1e-5))


def _phi(settings: Settings) -> Plan:
    settings.require("qk_layernorm", [False], "false")
    found = _layer_norm(settings, _partly(settings, plan(settings), 0.5))
    return replace(found, parallel=True, biased=LINEARS)


def _phi3(settings: Settings) -> Plan:
    found = plan(settings)
    return replace(found, windows=windows(settings, found.layers))


def _stablelm(settings: Settings) -> Plan:
    settings.require("qk_layernorm", [False], "false")
    settings.require("use_parallel_residual", [False], "false")
    found = _layer_norm(settings, _partly(settings, plan(settings), 0.25))
    return replace(found, biased=_QKV if settings.flag("use_qkv_bias", False) else frozenset())


def _starcoder2(settings: Settings) -> Plan:
    found = _layer_norm(settings, plan(settings), "norm_epsilon")
    return replace(found, windows=windows(settings, found.layers),
                   biased=LINEARS if settings.flag("use_bias", True) else frozenset(),
                   tied=settings.flag("tie_word_embeddings", True))


def _granite(settings: Settings) -> Plan:
    return replace(plan(settings), factor=settings.positive("embedding_multiplier", 1.0),
                   scale=settings.positive("attention_multiplier", 1.0),
                   residual_factor=settings.positive("residual_multiplier", 1.0),
                   logit_factor=1 / settings.positive("logits_scaling", 1.0))


def _cohere(settings: Settings) -> Plan:
    settings.require("use_qk_norm", [False], "false")
    found = plan(settings)
    size = head_size(settings, found.width, found.heads)
    rope = rotary(settings, size, base=500_000.0, interleaved=True)
    return replace(found, norm="layer without shift", parallel=True,
                   eps=settings.positive("layer_norm_eps", 1e-5),
                   rotary=(rope.rotary,) * found.layers,
                   logit_factor=settings.positive("logit_scale", 0.0625),
                   tied=settings.flag("tie_word_embeddings", True))


def _nemotron(settings: Settings) -> Plan:
    found = _partly(settings, plan(settings), 0.5)
    return replace(found, norm="layer + 1", eps=settings.positive("norm_eps", 1e-5))


_UNGATED = {part: name for part, name in NAMES.items() if part not in MLP}
_PHI = {
    **{part: name for part, name in _UNGATED.items() if part != "feed_forward_norm"},
    "output": "layers.{}.self_attn.dense", "up": "layers.{}.mlp.fc1", "down": "layers.{}.mlp.fc2",
    "final_norm": "final_layernorm"}
_PHI3: dict[str, str | Packed] = {
    **NAMES,
    **dict.fromkeys(_PROJECTIONS, Packed("layers.{}.self_attn.qkv_proj", _PROJECTIONS)),
    **dict.fromkeys(("gate", "up"), Packed("layers.{}.mlp.gate_up_proj", ("gate", "up")))}
_AFTER = {
    **{part: name for part, name in NAMES.items() if not part.endswith("n_norm")}, **HEAD_NORMS,
    "attention_after": "layers.{}.post_attention_layernorm",
    "feed_forward_after": "layers.{}.post_feedforward_layernorm"}
_AFTER.pop("feed_forward_norm")
_UP_DOWN = {**_UNGATED, "up": NAMES["up"], "down": NAMES["down"]}
_LM: Head = HEADS["CausalLM"]
FAMILIES = (
    Family(("phi",), "Phi", ("Phi",), _PHI, _phi, ("model.", ""),
           HEADS | {"CausalLM": replace(_LM, bias=True)}, "CausalLM"),
    Family(("phi3",), "Phi-3", ("Phi3",), _PHI3, _phi3, ("model.", ""), HEADS, "CausalLM"),
    Family(("stablelm",), "StableLM", ("StableLm",), NAMES, _stablelm, ("model.", ""), HEADS,
           "CausalLM"),
    Family(("starcoder2",), "StarCoder2", ("Starcoder2",), {
        **_UNGATED, "up": "layers.{}.mlp.c_fc", "down": "layers.{}.mlp.c_proj"}, _starcoder2,
        ("model.", ""), HEADS, "CausalLM"),
    Family(("arcee",), "Arcee", ("Arcee",), _UP_DOWN, plan, ("model.", ""), HEADS, "CausalLM"),
    Family(("nemotron",), "Nemotron", ("Nemotron",), _UP_DOWN, _nemotron, ("model.", ""), HEADS,
           "CausalLM"),
    Family(("granite",), "Granite", ("Granite",), NAMES, _granite, ("model.", ""), HEADS,
           "CausalLM"),
    Family(("olmo2",), "OLMo 2", ("Olmo2",), _AFTER, plan, ("model.", ""), HEADS, "CausalLM"),
    Family(("cohere",), "Cohere", ("Cohere",),
           {part: name for part, name in NAMES.items() if part != "feed_forward_norm"}, _cohere,
           ("model.", ""), HEADS, "CausalLM"),
)
