"""Checkpoints of every family: ``load_folder``, ``families``."""

import pkgutil
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from compiler.checkpoints.adapted import Adapted
from compiler.checkpoints.build import build
from compiler.checkpoints.checkpoint import Checkpoint, CheckpointError
from compiler.checkpoints.description import Transformer
from compiler.checkpoints.family import Family, Head, Names
from compiler.checkpoints.folder import Folder
from compiler.checkpoints.generation import with_speech
from compiler.checkpoints.parts import Parts
from compiler.checkpoints.pooling import has_modules, pooling_of
from compiler.checkpoints.settings import Settings

__all__ = ["families", "load_folder"]

T = TypeVar("T")
_PLUGINS = "compiler.checkpoints.families"


@cache
def families() -> dict[str, Family]:
    """Every family by the kinds that it reads: ``FAMILIES`` of each file in the folder."""
    package, found = import_module(_PLUGINS), dict[str, Family]()
    for module in pkgutil.iter_modules(package.__path__):
        for family in import_module(f"{_PLUGINS}.{module.name}").FAMILIES:
            found |= dict.fromkeys(family.kinds, family)
    return found


def load_folder(path: Path, name: str | None = None, heads: bool = True,
                adapter: Path | None = None) -> Transformer:
    """The model in folder ``path`` (``config.json`` and tensors), or in one file of a folder.

    Where the folder says how sentences are pooled (``modules.json``), that is the pooling and
    there is no head; else the head is that of the class which ``architectures`` names. ``heads``:
    False leaves it out. ``adapter``: a folder of peft whose adapters are merged (``adapted``). All
    shapes are checked here, a layer is read when it is asked for.
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
    if adapter is not None:
        checkpoint = Checkpoint(Adapted(checkpoint.store, adapter, family.prefixes,
                                        plan.transposed))
    names = _of(family.names, settings)
    prefix = _prefix(family, names, checkpoint)
    parts = (family.parts or Parts)(plan, names, checkpoint, prefix)
    if plan.encoder is not None and family.encoder_names is not None:
        parts.encoder = Parts(plan.encoder, _of(family.encoder_names, settings), checkpoint, prefix)
    chosen = _head(family, settings)
    pooled = has_modules(folder)
    if not heads or pooled or (chosen is not None and chosen.optional
                               and f"{chosen.dense or chosen.last}.weight" not in checkpoint):
        chosen = None
    model = build(name or folder.name, parts, settings, chosen)
    checkpoint.finish(_unused(family, settings, chosen, parts.prefix),
                      f"a {family.title} of {plan.layers} layers")
    if plan.encoder is not None and plan.encoder.bands:
        model = with_speech(folder, model)
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


def _of(given: T | Callable[[Settings], T], settings: Settings) -> T:
    """What a family has, or has for these ``settings``."""
    return given(settings) if callable(given) else given


def _prefix(family: Family, names: Names, checkpoint: Checkpoint) -> str:
    """The one that stands before the embedding's tensor, else the last."""
    probe = names.get("table") or names["patches"]
    for prefix in family.prefixes:
        if f"{prefix}{probe}.weight" in checkpoint:
            return prefix
    return family.prefixes[-1]


def _unused(family: Family, settings: Settings, head: Head | None, prefix: str
            ) -> tuple[str, ...]:
    """Beginnings of names that may be left over: heads that are not asked for among them."""
    found = [f"{before}{name}" for name in family.unused for before in {"", prefix}]
    for other in _of(family.heads, settings).values():
        if other is not head:
            names = (other.last, other.second, other.dense, other.norm, other.bias_name,
                     *other.copies)
            found += [f"{name}." if not name.endswith(".bias") else name for name in names if name]
    return tuple(name for name in found if name)


def _head(family: Family, settings: Settings) -> Head | None:
    """That of the class which the settings name; ``None``: the base model."""
    named = settings.get("architectures")
    if named is None:
        return _of(family.heads, settings).get(family.default or "")
    known: dict[str, Head | None] = {}
    for start in family.classes:
        known |= {f"{start}Model": None} | {
            name if name.startswith(start) else f"{start}For{name}": head
            for name, head in _of(family.heads, settings).items()}
    if not isinstance(named, list) or len(named) != 1 or named[0] not in known:
        nearest = next(iter(known))
        raise settings.refuse("architectures", f"one of {', '.join(known)}: other heads are not "
                              f"supported, the nearest is {nearest}")
    return known[named[0]]
