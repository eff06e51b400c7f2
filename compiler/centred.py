"""The same model with norms that take the mean of each row away twice: ``centred``.

Lanes of BF16 round a mean to 8 significant bits. Where a row's mean is ten times its deviation,
what is left keeps up to a thirtieth of the deviation as a mean of its own, the same for all of the
row; where it is a hundred times that, a quarter. A second pass takes it away: a list of five
instructions in place of four. Lanes of FP32 and of integers hold the mean as precisely as what it
is taken from.
"""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from compiler.checkpoints.checkpoint import LazyBlocks
from compiler.checkpoints.description import Norm, Transformer
from hdl.spec.config import AcceleratorConfig

__all__ = ["CENTRINGS", "centred"]

CENTRINGS = ("once", "twice")


def centred(model: Transformer, config: AcceleratorConfig | None, centring: str = "twice"
            ) -> Transformer:
    """``model`` with every norm that takes a mean away doing so twice, where ``centring`` is twice
    and lanes are of BF16 (``config`` ``None``: nothing rounds), else as it is. Layers that are one
    stay one. ``ValueError`` for another ``centring`` than ``CENTRINGS``."""
    if centring not in CENTRINGS:
        raise ValueError(f"centring must be one of {', '.join(CENTRINGS)}, not {centring!r}")
    if centring == "once" or config is None or config.lane_kind != "bf16":
        return model
    return _twice(model, {})


def _twice(part: Any, known: dict[int, tuple[Any, Any]]) -> Any:
    """``part`` of a description with its norms changed, itself where it has none; ``known``: parts
    by their id, and what has become of them."""
    if isinstance(part, LazyBlocks):
        own = part.unkept()  # what is made of them is kept instead
        return LazyBlocks(len(part), lambda index: _twice(own[index], {}), part.same)
    if isinstance(part, Norm):
        return replace(part, centred_twice=True) if part.centres else part
    if id(part) in known:
        return known[id(part)][1]
    made = part
    if isinstance(part, (tuple, list)):
        made = type(part)(_twice(item, known) for item in part)
    elif is_dataclass(part) and not isinstance(part, type):
        items = {own.name: getattr(part, own.name) for own in fields(part) if own.init}
        new = {name: _twice(item, known) for name, item in items.items()}
        if any(new[name] is not item for name, item in items.items()):
            made = replace(part, **new)
    known[id(part)] = part, made
    return made
