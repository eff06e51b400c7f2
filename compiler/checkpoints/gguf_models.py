"""Decoders in GGUF files, named as llama.cpp names them: ``load_gguf``."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from compiler.checkpoints.checkpoint import Checkpoint, CheckpointError
from compiler.checkpoints.description import Activation, Linear, Rotary, Tokens, Transformer
from compiler.checkpoints.family import ATTENTION, MLP, Names, NormKind, Packed, Plan
from compiler.checkpoints.gguf_file import GgufFile, open_gguf
from compiler.checkpoints.parts import Parts
from compiler.checkpoints.rope import head_size
from compiler.checkpoints.settings import Settings

__all__ = ["load_gguf"]

_NAMES: Names = {
    "table": "token_embd", "final_norm": "output_norm", "head": "output",
    "query": "blk.{}.attn_q", "key": "blk.{}.attn_k", "value": "blk.{}.attn_v",
    "output": "blk.{}.attn_output", "gate": "blk.{}.ffn_gate", "up": "blk.{}.ffn_up",
    "down": "blk.{}.ffn_down", "attention_norm": "blk.{}.attn_norm",
    "feed_forward_norm": "blk.{}.ffn_norm",
}
_DIVISORS = "rope_freqs.weight"
_HEAD_NORMS = {"query_norm": "blk.{}.attn_q_norm", "key_norm": "blk.{}.attn_k_norm"}
_AROUND = {**_NAMES, "attention_after": "blk.{}.post_attention_norm",
           "feed_forward_after": "blk.{}.post_ffw_norm"}
_UNGATED = {part: name for part, name in _NAMES.items() if part != "gate"}
_PACKED: Names = {
    **_NAMES, **{part: Packed(f"blk.{{}}.{tensor}", parts) for tensor, parts in (
        ("attn_qkv", ("query", "key", "value")), ("ffn_up", ("gate", "up"))) for part in parts}}
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


@dataclass(frozen=True)
class _Kind:
    """An architecture: its title, whether rotary pairs are neighbours, its names, and what its plan
    has besides; ``base`` of rotary embeddings where files do not say it. ``partly``: a part of a
    head may be rotated alone."""

    title: str
    interleaved: bool = False
    names: Names = field(default_factory=lambda: _NAMES)
    besides: Callable[[Settings, Plan], Plan] = _as_it_is
    base: float = 10000.0
    norm: NormKind = "rms"
    activation: Activation = "silu"
    partly: bool = False


_KINDS = {
    "llama": _Kind("Llama", True), "qwen2": _Kind("Qwen2"),
    "qwen3": _Kind("Qwen3", names={**_NAMES, **_HEAD_NORMS}),
    "smollm3": _Kind("SmolLM3", True, besides=_smollm3),
    "arcee": _Kind("Arcee", True, _UNGATED, activation="relu_squared"),
    "nemotron": _Kind("Nemotron", names=_UNGATED, norm="layer", activation="relu_squared",
                      partly=True),
    "stablelm": _Kind("StableLM", besides=_stablelm, norm="layer", partly=True),
    "starcoder2": _Kind("StarCoder2", names=_UNGATED, norm="layer", activation="gelu_tanh"),
    "phi3": _Kind("Phi-3", names=_PACKED, besides=_phi3), "gemma": _Kind("Gemma", besides=_gemma),
    "gemma2": _Kind("Gemma 2", names=_AROUND, besides=_gemma2),
    "gemma3": _Kind("Gemma 3", names={**_AROUND, **_HEAD_NORMS}, besides=_gemma3, base=1e6)}


def load_gguf(path: Path, name: str | None = None) -> Transformer:
    """The decoder in GGUF file ``path``, dequantised; ``CheckpointError`` as for a folder."""
    file = open_gguf(path)
    general = Settings(file, str(path))
    name_of_kind = general.get("general.architecture")
    if not isinstance(name_of_kind, str) or name_of_kind not in _KINDS:
        raise general.refuse("general.architecture", f"one of {', '.join(_KINDS)}")
    kind = _KINDS[name_of_kind]
    names, checkpoint = kind.names, Checkpoint(file)
    settings = Settings(file, str(path), f"{name_of_kind}.")
    plan = kind.besides(settings, _plan(settings, file, checkpoint, kind))
    parts = Parts(plan, names, checkpoint, "")
    parts.ends(checkpoint.check)
    shape = plan.vocabulary, plan.width
    if not plan.tied:
        checkpoint.check(f"{names['head']}.weight", shape)
    blocks = parts.blocks()
    checkpoint.finish((), f"a {kind.title} of {plan.layers} layers")
    tokens, norm = parts.ends(checkpoint.read)
    assert isinstance(tokens, Tokens), "decoders read tokens"
    head = tokens.table if plan.tied else checkpoint.read(f"{names['head']}.weight", shape)
    return Transformer(name or path.stem, tokens, blocks, norm, Linear(head), cap=plan.logit_cap,
                       task="causal language model")


def _plan(settings: Settings, file: GgufFile, checkpoint: Checkpoint, kind: _Kind) -> Plan:
    width, heads = settings.count("embedding_length"), settings.count("attention.head_count")
    kv_heads = settings.count("attention.head_count_kv", heads)
    if heads % kv_heads:
        raise settings.refuse("attention.head_count_kv",
                              f"a divisor of attention.head_count = {heads}")
    size = head_size(settings, width, heads, "attention.key_length")
    settings.require("attention.value_length", [size], f"{size}, as the size of a key")
    rotated = settings.count("rope.dimension_count", size)
    if rotated > size or rotated % 2 or (rotated != size and not kind.partly):
        raise settings.refuse("rope.dimension_count", f"even, at most {size}" if kind.partly else
                              f"{size}: all of a head is rotated")
    settings.require("rope.scaling.type", ["none", "linear"], "none or linear")
    settings.require("expert_count", [0], "0: mixtures of experts are not supported, the nearest "
                     "is one feed-forward")
    layers = settings.count("block_count")
    biased = frozenset(part for part in ATTENTION | MLP
                       if f"{str(_NAMES[part]).format(0)}.bias" in checkpoint)
    return Plan(
        layers, width, heads, settings.count("feed_forward_length"),
        settings.positive("attention.layer_norm_rms_epsilon" if kind.norm == "rms" else
                          "attention.layer_norm_epsilon"), kind.activation, kind.norm, kv_heads,
        size, pre_norm=True, causal=True, biased=biased, rotated=rotated,
        rotary=(_rotary(settings, checkpoint, rotated, kind),) * layers,
        vocabulary=settings.count("vocab_size", file.shapes.get("token_embd.weight", (1,))[0]),
        tied="output.weight" not in checkpoint)


def _rotary(settings: Settings, checkpoint: Checkpoint, size: int, kind: _Kind) -> Rotary:
    """With rates that a linear scaling, or a divisor for each pair (Llama 3), makes slower."""
    plain = Rotary(settings.positive("rope.freq_base", kind.base), kind.interleaved)
    rates = plain.of_pairs(size)
    if settings.get("rope.scaling.type") == "linear":
        rates = rates / settings.positive("rope.scaling.factor")
    if _DIVISORS in checkpoint:
        divisors = checkpoint.read(_DIVISORS, (size // 2,)).astype(np.float64)
        if divisors.min() <= 0:
            raise CheckpointError(f"{settings.where}: tensor {_DIVISORS} must hold numbers above "
                                  f"0, not {divisors.min()}")
        rates = rates / divisors
    elif settings.get("rope.scaling.type") != "linear":
        return plain
    return replace(plain, rates=tuple(rates.tolist()))
