"""Checkpoints of every family: ``load_folder``, ``families``."""

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path

import numpy as np

from compiler.checkpoints.checkpoint import Checkpoint, CheckpointError, Take
from compiler.checkpoints.description import Linear, Tokens, Transform, Transformer
from compiler.checkpoints.family import Family, Head
from compiler.checkpoints.folder import Folder
from compiler.checkpoints.parts import Parts
from compiler.checkpoints.pooling import has_modules, pooling_of
from compiler.checkpoints.settings import Settings

__all__ = ["families", "load_folder"]

_PLUGINS = "compiler.checkpoints.families"
_LABELS = 2  # of a head, where the settings name none


@cache
def families() -> dict[str, Family]:
    """Every family by the kinds that it reads: ``FAMILIES`` of each file in the folder."""
    package, found = import_module(_PLUGINS), dict[str, Family]()
    for module in pkgutil.iter_modules(package.__path__):
        for family in import_module(f"{_PLUGINS}.{module.name}").FAMILIES:
            found |= dict.fromkeys(family.kinds, family)
    return found


def load_folder(path: Path, name: str | None = None, heads: bool = True) -> Transformer:
    """The model in folder ``path`` (``config.json`` and tensors), or in one file of a folder.

    Where the folder says how sentences are pooled (``modules.json``), that is the pooling and
    there is no head; else the head is that of the class which ``architectures`` names. ``heads``:
    False leaves it out. All shapes are checked here, a layer is read when it is asked for.
    ``CheckpointError`` for what is damaged or not supported.
    """
    folder = path if path.is_dir() else path.parent
    settings = Settings.from_json(folder / "config.json")
    kind = settings.get("model_type")
    if isinstance(kind, str) and kind in _REFUSED:
        raise CheckpointError(f"{settings.where}: model_type {kind} is not supported: "
                              f"{_REFUSED[kind]}")
    family = families().get(kind) if isinstance(kind, str) else None
    if family is None:
        raise settings.refuse("model_type", f"one of {', '.join(sorted(families()))}")
    opened = Folder.open(path)
    plan, checkpoint = family.plan(settings), opened.checkpoint
    parts = Parts(plan, family.names, checkpoint, _prefix(family, checkpoint))
    chosen = _head(family, settings)
    pooled = has_modules(folder)
    if not heads or pooled or (chosen is not None and chosen.optional
                               and f"{chosen.dense or chosen.last}.weight" not in checkpoint):
        chosen = None
    make = family.build or _build
    model = make(name or folder.name, family, parts, settings, None if pooled else chosen)
    assert isinstance(model, Transformer)
    checkpoint.finish(_unused(family, chosen, parts.prefix),
                      f"a {family.title} of {plan.layers} layers")
    return pooling_of(folder, model) if pooled else model


# Kinds that no description covers, and why.
_REFUSED = {
    kind: "mixtures of experts choose a feed-forward for each position, which no command does; the "
    "nearest is a model with one feed-forward, Mistral say"
    for kind in ("mixtral", "qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3", "dbrx",
                 "granitemoe", "gpt_oss", "jamba", "olmoe", "phimoe", "llama4",
                 "switch_transformers")
} | {
    kind: "its scores have terms of content and position, which the description does not have; the "
    "nearest are BERT and RoBERTa" for kind in ("deberta", "deberta-v2", "xlnet")
} | {
    kind: "state spaces are no transformers" for kind in ("mamba", "mamba2", "rwkv")
} | {
    kind: "its attention hides blocks of positions and looks at chosen others; the nearest is "
    "RoBERTa" for kind in ("longformer", "big_bird", "led")
}


def _prefix(family: Family, checkpoint: Checkpoint) -> str:
    """The one that stands before the embedding's tensor, else the last."""
    probe = family.names.get("table") or family.names["patches"]
    for prefix in family.prefixes:
        if f"{prefix}{probe}.weight" in checkpoint:
            return prefix
    return family.prefixes[-1]


def _unused(family: Family, head: Head | None, prefix: str) -> tuple[str, ...]:
    """Beginnings of names that may be left over: heads that are not asked for among them."""
    found = [f"{before}{name}" for name in family.unused for before in {"", prefix}]
    for other in family.heads.values():
        if other is not head:
            names = other.last, other.dense, other.norm, other.bias_name, *other.copies
            found += [f"{name}." if not name.endswith(".bias") else name for name in names if name]
    return tuple(name for name in found if name)


def _head(family: Family, settings: Settings) -> Head | None:
    """That of the class which the settings name; ``None``: the base model."""
    named = settings.get("architectures")
    if named is None:
        return family.heads.get(family.default or "")
    known: dict[str, Head | None] = {}
    for start in family.classes:
        known |= {f"{start}Model": None} | {
            name if name.startswith(start) else f"{start}For{name}": head
            for name, head in family.heads.items()}
    if not isinstance(named, list) or len(named) != 1 or named[0] not in known:
        nearest = next(iter(known))
        raise settings.refuse("architectures", f"one of {', '.join(known)}: other heads are not "
                              f"supported, the nearest is {nearest}")
    return known[named[0]]


def _build(name: str, family: Family, parts: Parts, settings: Settings, head: Head | None
           ) -> Transformer:
    """The model of a plan: its ends checked, its layers checked, its ends read."""
    read = parts.checkpoint.read
    parts.ends(parts.checkpoint.check)
    _last(parts, settings, head, parts.checkpoint.check, np.zeros((0, 0), np.float32))
    blocks = parts.blocks()
    embedding, final_norm = parts.ends(read)
    table = embedding.table if isinstance(embedding, Tokens) else np.zeros((0, 0), np.float32)
    transform, last, notes = _last(parts, settings, head, read, table)
    plan = parts.plan
    return Transformer(
        name, embedding, blocks, final_norm, last, "none" if head is None else head.pooling,
        transform, None if head is None or head.outputs != "vocabulary" else plan.logit_cap,
        "features" if head is None else head.task, _labels(settings, head), plan.longest, notes)


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


def _last(parts: Parts, settings: Settings, head: Head | None, take: Take, table: np.ndarray
          ) -> tuple[Transform | None, Linear | None, tuple[str, ...]]:
    """What ``head`` is made of, and what there is to say about it."""
    if head is None:
        return None, None, ()
    plan = parts.plan
    width, transform = plan.width, None
    if head.dense is not None:
        outputs = (plan.table_width or width) if head.narrow else width
        dense = parts.dense(take, head.dense, outputs, width, head.dense_bias)
        kind = plan.activation if head.activation is None else head.activation
        norm = None if head.norm is None else parts.norm_named(take, head.norm, outputs)
        transform = Transform(dense, None if kind == "none" else kind, norm)
        width = outputs
    count = {"labels": lambda: _count(settings), "vocabulary": lambda: plan.vocabulary}.get(
        str(head.outputs), lambda: int(head.outputs))()
    weight, notes = _weight(parts, head, take, table, count, width)
    bias = None
    if head.bias:
        bias = take(head.bias_name or f"{head.last}.bias", (count,))
    if plan.logit_factor != 1 and head.outputs == "vocabulary":
        weight = weight * np.float32(plan.logit_factor)
    return transform, Linear(weight, bias), notes


def _weight(parts: Parts, head: Head, take: Take, table: np.ndarray, count: int, width: int
            ) -> tuple[np.ndarray, tuple[str, ...]]:
    """The matrix of the last linear layer: the embedding's table where the two are one, unless the
    file holds another."""
    name, checkpoint = f"{head.last}.weight", parts.checkpoint
    if not (head.tied and parts.plan.tied):
        return take(name, (count, width)), ()
    if name not in checkpoint:
        return (table if table.size else np.broadcast_to(np.float32(0), (count, width))), ()
    own = take(name, (count, width))
    if not table.size or np.array_equal(own, table):
        return (table if table.size else own), ()
    return own, (f"{name} in the file is not the embedding's table, though the settings tie the "
                 "two: the file's is used",)


Builder = Callable[[str, Family, Parts, Settings, Head | None], Transformer]
