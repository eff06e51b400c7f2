"""Scales that travel beside a model: what a code of each operand of its products counts.

A file of them is safetensors. A tensor of fp32 for each operand, of one item, or of weights one for
each output; a value is code · scale. Operands are called after the part of the model that reads
them, by its place in the description (``linears``):

    embedding.projection.input          what a linear layer reads
    blocks.0.attention.query.weight     its weights; without it each output has its own, from them
    blocks.0.attention.queries          an attention's operands behind norms and rotary embedding;
    blocks.0.attention.keys, .values    its probabilities have no scale but 1/127

The metadata's entry ``scales`` is JSON: ``version`` 1, and what made them, for those who look.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from compiler.checkpoints.description import Block, Linear, Transformer

__all__ = ["ATTENDED", "LARGEST", "Scales", "ScalesError", "linears", "modules", "placed_linears"]

_KEY, _VERSION = "scales", 1
_SHOWN = 200  # characters of what a file holds, in a message
LARGEST = 127.0
"""The code of the largest magnitude."""
ATTENDED = ("queries", "keys", "values")
"""Operands of an attention that are no linear layer's."""


class ScalesError(ValueError):
    """Scales that cannot be, in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def linears(part: Any, place: str) -> Iterator[tuple[str, Linear]]:
    """The linear layers of a part of a description that is at ``place``, each with its own."""
    if isinstance(part, Linear):
        yield place, part
    elif isinstance(part, tuple):
        for index, item in enumerate(part):
            yield from linears(item, f"{place}.{index}")
    elif is_dataclass(part):
        for own in fields(part):
            yield from linears(getattr(part, own.name), f"{place}.{own.name}")


def placed_linears(model: Transformer, blocks: Mapping[int, Block]
                   ) -> Iterator[tuple[str, Linear]]:
    """Every linear layer of ``model``, its layers being ``blocks``, with its place."""
    yield from linears(model.embedding, "embedding")
    for index, block in blocks.items():
        yield from linears(block, f"blocks.{index}")
    yield from linears(model.transform, "transform")
    yield from linears(model.head, "head")
    if model.encoder is not None:
        own = placed_linears(model.encoder, dict(enumerate(model.encoder.blocks)))
        yield from ((f"encoder.{place}", linear) for place, linear in own)


def modules(model: Transformer, blocks: Mapping[int, Block]) -> dict[int, str]:
    """By the id of its weights the place of every linear layer as in ``placed_linears``; of what
    stands in several places the first."""
    found: dict[int, str] = {}
    for place, linear in placed_linears(model, blocks):
        found.setdefault(id(linear.weight), place)
    return found


@dataclass(frozen=True)
class Scales:
    """``codes``: by operand what a code counts, one item, or one for each output of weights.
    ``about``: what made them."""

    codes: Mapping[str, np.ndarray]
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, own in self.codes.items():
            if own.ndim != 1 or not own.size or not np.isfinite(own).all() or not (own > 0).all():
                raise ScalesError(f"scales of {name[:_SHOWN]} must be a row of numbers above 0")

    def of(self, name: str) -> float:
        """What a code of an operand of one scale counts; ``ScalesError``."""
        if name not in self.codes:
            raise ScalesError(f"scales must have {name}, which products of the model read: python "
                              "-m sim.quantise makes them")
        own = self.codes[name]
        if own.size != 1:
            raise ScalesError(f"scales of {name} must be one, not {own.size}: a product sums over "
                              "what it reads")
        return float(own[0])

    def of_weights(self, name: str, outputs: int) -> np.ndarray | None:
        """Those of the weights of the linear layer ``name``, one or as many as ``outputs``;
        ``None`` where the weights themselves say. ``ScalesError``."""
        own = self.codes.get(f"{name}.weight")
        if own is not None and own.size not in (1, outputs):
            raise ScalesError(f"scales of {name}.weight must be 1 or {outputs}, not {own.size}")
        return own

    def save(self, path: Path | str) -> None:
        """Write the file; ``OSError``."""
        told = json.dumps({"version": _VERSION, **self.about})
        try:
            save_file({name: np.float32(own) for name, own in self.codes.items()}, path,
                      {_KEY: told})
        except SafetensorError as error:
            raise OSError(str(error)) from error

    @classmethod
    def load(cls, path: Path | str) -> "Scales":
        """Read a file; ``ScalesError``."""
        try:
            with safe_open(path, "numpy") as file:
                about = json.loads((file.metadata() or {})[_KEY])
                codes = {name: file.get_tensor(name)
                         for name in file.keys()}  # noqa: SIM118  no mapping
        except KeyError:
            raise ScalesError(f"{path} must be a file of scales, not other safetensors") from None
        except (OSError, SafetensorError, ValueError, RecursionError) as error:
            reason = (str(error).splitlines() or [repr(error)])[0]
            raise ScalesError(f"{path} must be a whole file of scales: {reason}") from None
        if not isinstance(about, dict) or about.pop("version", None) != _VERSION:
            raise ScalesError(f"{path}: version of scales must be {_VERSION}")
        if not codes or any(own.dtype != np.float32 for own in codes.values()):
            raise ScalesError(f"{path}: scales must be tensors of fp32")
        try:
            return cls(codes, about)
        except ScalesError as error:
            raise ScalesError(f"{path}: {error}") from None
