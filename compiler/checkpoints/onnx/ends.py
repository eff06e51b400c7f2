"""What stands before and behind the layers: tables, pooling, heads."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compiler.checkpoints.checkpoint import CheckpointError
from compiler.checkpoints.description import Pooling
from compiler.checkpoints.onnx.context import Context
from compiler.checkpoints.onnx.expressions import (
    Coded,
    Dense,
    Expression,
    Lookup,
    Normed,
    Part,
    Pooled,
    Row,
    Sum,
    function_of,
)
from compiler.checkpoints.onnx.pooled import pooled
from compiler.checkpoints.onnx.symbols import Probe, Symbol

__all__ = ["Embedded", "Ending", "embedded", "ending"]


@dataclass(frozen=True, eq=False)
class Ending:
    """What follows ``hidden``: ``pooling``, ``dense`` with a function ``then`` and ``norm``,
    ``last``. ``parts``: outputs that are features of the last."""

    hidden: Expression
    pooling: Pooling = "none"
    dense: Dense | None = None
    then: Expression | None = None
    norm: Normed | None = None
    last: Dense | None = None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Embedded:
    """``projection``: behind the norm."""

    words: Lookup
    positions: Lookup | Row | None
    segments: Lookup | Row | None
    norm: Normed | None
    projection: Dense | None


def ending(context: Context, outputs: Mapping[str, Any]) -> tuple[Ending, tuple[str, ...]]:
    """The head, else the pooling, else the hidden states that outputs are, and which are left out;
    ``CheckpointError`` where none is one of these."""
    found: dict[str, Ending] = {}
    for name, value in outputs.items():
        if isinstance(value, Probe):
            value = pooled(context, value)
        if isinstance(value, Symbol):
            found[name] = _ending(name, value.expression)
    if not found:
        raise CheckpointError(f"{context.path}: outputs must be what layers compute, not "
                              f"{', '.join(outputs) or 'none'}")
    chosen = max(found, key=lambda name: _rank(found[name]))
    best = found[chosen]
    same = {name for name, own in found.items() if own.last is best.last is not None}
    others = [name for name, own in found.items() if name not in same and own.last is not None]
    others = [name for name in others if _rank(found[name]) == _rank(best)]
    if best.last is not None and others:
        raise CheckpointError(f"{context.path}: outputs must be of one head, not {chosen} and "
                              f"{others[0]}")
    parts = tuple(part for name in found if name in same for part in found[name].parts)
    left = tuple(name for name in outputs if name not in {chosen} | same)
    return Ending(best.hidden, best.pooling, best.dense, best.then, best.norm, best.last,
                  parts), left


def _rank(own: Ending) -> int:
    if own.last is not None:
        return 4 if own.pooling == "none" else 3  # of a masked word before the next sentence
    if own.dense is not None:
        return 0  # a pooler that no head reads
    return 2 if own.pooling != "none" else 1


def _bare(here: Expression) -> Expression:
    while isinstance(here, Coded):
        here = here.x
    return here


def _ending(name: str, here: Expression) -> Ending:
    last, dense, then, norm = None, None, None, None
    parts: tuple[str, ...] = ()
    here = _bare(here)
    if isinstance(here, Part):
        parts, here = (name,), _bare(here.x)
    if isinstance(here, Dense):
        last, here = here, here.x
    inner = here.x if isinstance(here, Normed) else here
    base, _ = function_of(inner)
    if isinstance(base, Dense) and (base is not inner or last is not None):
        norm = here if isinstance(here, Normed) else None
        dense, then, here = base, inner if base is not inner else None, base.x
    if isinstance(here, Pooled):
        return Ending(_bare(here.x), here.pooling, dense, then, norm, last, parts)
    return Ending(here, "none", dense, then, norm, last, parts)


def embedded(path: Path, first: Expression) -> Embedded:
    """What enters the first layer; ``CheckpointError``."""
    projection, here = None, _bare(first)
    if isinstance(here, Dense):
        projection, here = here, here.x
    norm = here if isinstance(here, Normed) else None
    if norm is not None:
        here = norm.x
    found: dict[str, Any] = {}
    for own in _terms(here):
        kind = _kind(own)
        if kind is None or kind in found:
            raise CheckpointError(
                f"{path}: what enters the first layer must be a row of token ids, of positions and "
                f"of segments each, added, not what {own.label} gives")
        found[kind] = own
    if "words" not in found:
        raise CheckpointError(f"{path}: what enters the first layer must have rows of token ids, "
                              f"which {first.label} has not")
    return Embedded(found["words"], found.get("positions"), found.get("segments"), norm,
                    projection)


def _terms(here: Expression) -> list[Expression]:
    left, found = [here], []
    while left:
        own = _bare(left.pop())
        if isinstance(own, Sum):
            left += [own.right, own.left]
        else:
            found.append(own)
    return found


def _kind(own: Expression) -> str | None:
    if isinstance(own, Lookup):
        return {"row": "segments"}.get(own.what, own.what)
    if isinstance(own, Row):
        return "positions" if np.ndim(own.values) == 2 else "segments"
    return None
