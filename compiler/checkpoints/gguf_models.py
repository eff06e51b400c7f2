"""Models in GGUF files, named as llama.cpp names them: ``load_gguf``."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler.checkpoints.build import build
from compiler.checkpoints.checkpoint import Checkpoint, CheckpointError
from compiler.checkpoints.description import Rotary, Transformer
from compiler.checkpoints.family import ATTENTION, MLP, Head, Names, Packed, Plan
from compiler.checkpoints.gguf_file import GgufFile, open_gguf
from compiler.checkpoints.gguf_kinds import KINDS, QKV, Kind
from compiler.checkpoints.gguf_t5 import T5, T5_HEAD, t5_parts
from compiler.checkpoints.rope import head_size
from compiler.checkpoints.settings import Settings

__all__ = ["load_gguf"]

_DIVISORS = "rope_freqs.weight"


def load_gguf(path: Path, name: str | None = None) -> Transformer:
    """The model in GGUF file ``path``, dequantised; ``CheckpointError`` as for a folder."""
    file = open_gguf(path)
    general = Settings(file, str(path))
    name_of_kind = general.get("general.architecture")
    if not isinstance(name_of_kind, str) or name_of_kind not in (*KINDS, T5):
        raise general.refuse("general.architecture", f"one of {', '.join((*KINDS, T5))}")
    checkpoint = Checkpoint(file)
    settings = Settings(file, str(path), f"{name_of_kind}.")
    if name_of_kind == T5:
        parts, title = t5_parts(settings, checkpoint), "T5"
        head: Head | None = T5_HEAD
    else:
        kind = KINDS[name_of_kind]
        names = _as_stored(kind.names, checkpoint)
        plan = kind.besides(settings, _plan(settings, file, checkpoint, kind, names))
        parts, head, title = (kind.parts(plan, names, checkpoint, ""), kind.head(settings),
                              kind.title)
    found = build(name or path.stem, parts, settings, head)
    checkpoint.finish((), f"a {title} of {parts.plan.layers} layers")
    return found


def _as_stored(names: Names, checkpoint: Checkpoint) -> Names:
    """With queries, keys and values one tensor where the file has them so."""
    return {**names, **QKV} if f"{_tensor(QKV['query'])}.weight" in checkpoint else names


def _plan(settings: Settings, file: GgufFile, checkpoint: Checkpoint, kind: Kind, names: Names
          ) -> Plan:
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
                       if part in names and f"{_tensor(names[part])}.bias" in checkpoint)

    def rows(part: str) -> int:
        """Of a table of the embedding."""
        return file.shapes.get(f"{names[part]}.weight", (1,))[0] if part in names else 0

    return Plan(
        layers, width, heads, settings.count("feed_forward_length"),
        settings.positive("attention.layer_norm_rms_epsilon" if kind.norm == "rms" else
                          "attention.layer_norm_epsilon"), kind.activation, kind.norm, kv_heads,
        size, pre_norm=True, causal=True, biased=biased, rotated=rotated,
        rotary=(_rotary(settings, checkpoint, rotated, kind),) * layers,
        vocabulary=settings.count("vocab_size", rows("table")), positions=rows("positions"),
        segments=rows("segments") if "token_types.weight" in checkpoint else 0,
        tied="output.weight" not in checkpoint)


def _tensor(name: str | Packed) -> str:
    """That of the first layer."""
    return (name.name if isinstance(name, Packed) else name).format(0)


def _rotary(settings: Settings, checkpoint: Checkpoint, size: int, kind: Kind) -> Rotary:
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
