"""A transformer of a plan: embedding, layers, head out of a checkpoint."""

from dataclasses import replace

import numpy as np

from compiler.checkpoints.checkpoint import Take
from compiler.checkpoints.description import (
    Linear,
    Norm,
    Patches,
    Tokens,
    Transform,
    Transformer,
)
from compiler.checkpoints.family import Head
from compiler.checkpoints.parts import Parts
from compiler.checkpoints.settings import Settings

__all__ = ["build"]

_LABELS = 2  # of a head, where the settings name none


def build(name: str, parts: Parts, settings: Settings, head: Head | None) -> Transformer:
    """All shapes are checked, then the ends read; a layer when it is asked for."""
    read = parts.checkpoint.read
    parts.ends(parts.checkpoint.check)
    _last(parts, settings, head, parts.checkpoint.check, np.zeros((0, 0), np.float32))
    if parts.encoder is not None:
        parts.encoder.ends(parts.checkpoint.check)
    blocks = parts.blocks()
    embedding, final_norm = parts.ends(read)
    table = embedding.table if isinstance(embedding, Tokens) else np.zeros((0, 0), np.float32)
    transform, last, notes = _last(parts, settings, head, read, table)
    plan, words = parts.plan, head is not None and head.outputs == "vocabulary"
    if words and plan.logit_factor != 1:
        final_norm = _times(final_norm, plan.logit_factor)
    return Transformer(
        name, embedding, blocks, final_norm, last, "none" if head is None else head.pooling,
        transform, plan.logit_cap if words else None, "features" if head is None else head.task,
        _labels(settings, head), plan.longest, notes, _encoder(parts, embedding),
        _start(parts, settings))


def _start(parts: Parts, settings: Settings) -> tuple[int, ...]:
    """The token that a decoder behind an encoder begins with."""
    if parts.encoder is None:
        return ()
    token = settings.whole("decoder_start_token_id", settings.whole("pad_token_id", 0))
    if token >= parts.plan.vocabulary:
        raise settings.refuse("decoder_start_token_id", f"below vocab_size = "
                              f"{parts.plan.vocabulary}")
    return (token,)


def _times(norm: Norm | None, factor: float) -> Norm:
    """A norm whose results are ``factor`` times as large, before a linear layer without bias."""
    if norm is None:
        raise ValueError("a factor of the logits takes a norm after the last layer")
    return replace(norm, gain=norm.gain * np.float32(factor), shift=None if norm.shift is None
                   else norm.shift * np.float32(factor))


def _encoder(parts: Parts, own: Tokens | Patches) -> Transformer | None:
    """The encoder, on the same table as the decoder where the two have one."""
    if parts.encoder is None:
        return None
    embedding, norm = parts.encoder.ends(parts.checkpoint.read)
    if isinstance(own, Tokens) and isinstance(embedding, Tokens) and (
            parts.encoder.names["table"] == parts.names["table"]):
        embedding = replace(embedding, table=own.table)
    return Transformer("encoder", embedding, parts.encoder.blocks(), norm)


def _mean(first: Linear, second: Linear) -> Linear:
    """The mean of two layers' results, each of a half of the inputs."""
    half = np.float32(0.5)
    assert first.bias is not None and second.bias is not None, "``Parts.dense`` has read them"
    return Linear(half * np.concatenate([first.weight, second.weight], axis=1),
                  half * (first.bias + second.bias))


def _labels(settings: Settings, head: Head | None) -> tuple[str, ...]:
    if head is None or head.outputs != "labels":
        return ()
    count = _count(settings)
    named = settings.get("id2label")
    if not isinstance(named, dict):
        return tuple(f"LABEL_{index}" for index in range(count))
    return tuple(str(named.get(str(index), f"LABEL_{index}")) for index in range(count))


def _count(settings: Settings) -> int:
    """How many classes there are."""
    named = settings.get("id2label")
    if isinstance(named, dict) and named:
        return len(named)
    return settings.count("num_labels", _LABELS)


def _outputs(parts: Parts, settings: Settings, head: Head) -> int:
    """How many results the last layer has."""
    if head.outputs == "labels":
        return _count(settings)
    if head.outputs == "vocabulary":
        return parts.plan.vocabulary
    return head.outputs if isinstance(head.outputs, int) else settings.count(head.outputs)


def _last(parts: Parts, settings: Settings, head: Head | None, take: Take, table: np.ndarray
          ) -> tuple[Transform | None, Linear | None, tuple[str, ...]]:
    """What ``head`` is made of, and what there is to say about it."""
    if head is None or (head.last is None and head.dense is None):
        return None, None, ()
    plan = parts.plan
    width, transform = plan.width, None
    if head.dense is not None and not (head.dense_if_narrow and plan.table_width in (0, width)):
        outputs = (plan.table_width or width) if head.narrow else width
        dense = parts.dense(take, head.dense, outputs, width, head.dense_bias)
        kind = plan.activation if head.activation is None else head.activation
        norm = None if head.norm is None else parts.head_norm(take, head.norm, outputs)
        transform = Transform(dense, None if kind == "none" else kind, norm)
        width = outputs
    if head.last is None:
        return transform, None, ()
    count = _outputs(parts, settings, head)
    if head.second is not None:
        return transform, _mean(*(parts.dense(take, name, count, width)
                                  for name in (head.last, head.second))), ()
    weight, notes = parts.last_weight(take, head, table, (count, width))
    bias = None
    if head.bias:
        name = head.bias_name or f"{head.last}.bias"
        bias = take(name, (1, count))[0] if head.bias_row else take(name, (count,))
    return transform, Linear(weight, bias), notes
